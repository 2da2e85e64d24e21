//! The machines themselves: the timer, power cuts, journals, sandboxes and memory.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Fault, Vm};

use crate::region::{BOOT, CLIENT, HUB, NAT, Region, UP, errors, wait_for_tunnel};
use crate::report::{Finding, seconds};
use crate::routing::shown;

/// Forwarding, and a line for each setting that is not as the package has it.
const SYSCTLS: &str = r#"sed -n 's/^\(net[^ *]*\) = /\1 /p' /run/sysctl.d/60-crosswan.conf | while read -r key value; do
    now=$(tr '\t' ' ' <"/proc/sys/${key//.//}")
    [[ $now == "$value" && $key != *.ip_forward ]] || echo "$key $now"
done"#;

/// Units in the order in which they became active. (The refresh is active from when it ended.)
const ORDER: &str = "for unit in guard watch keep; do printf '%s %s\n' $(systemctl show -P ActiveEnterTimestampMonotonic crosswan-$unit) $unit; done >/tmp/order
    printf '%s charon-begins\n' $(systemctl show -P InactiveExitTimestampMonotonic strongswan) >>/tmp/order
    printf '%s charon\n' $(systemctl show -P ActiveEnterTimestampMonotonic strongswan) >>/tmp/order
    sort -n /tmp/order | cut -d' ' -f2 | paste -sd' '";
const STARTED: &str = "guard watch charon-begins charon keep";

/// Armed as shipped, and fires when its time comes.
pub fn timer(region: &mut Region) -> Result<()> {
    for name in [HUB, NAT, CLIENT] {
        let vm = region.vm(name)?;
        let state = vm.sh("systemctl is-active crosswan-refresh.timer")?.stdout;
        let next = vm.ok("systemctl show -P NextElapseUSecRealtime crosswan-refresh.timer")?;
        let enabled = vm.sh("systemctl is-enabled crosswan-refresh.service crosswan-refresh.timer")?.stdout;
        let ok = state.trim() == "active" && !next.trim().is_empty() && enabled.lines().all(|line| line == "enabled");
        region.check(ok, &format!("{name}: crosswan-refresh.timer is {}, next at {}", state.trim(), next.trim()));
    }
    let vm = region.vm(NAT)?;
    let before = refresh(vm, "InvocationID")?;
    // Debian's own timers would fire, too, and there is no Debian to be reached from here. The jitter is taken away for this once:
    // after a jump of the clock systemd counts it from the boot, by the new time, and it would still take its quarter of an hour.
    vm.ok("systemctl stop apt-daily.timer apt-daily-upgrade.timer
         mkdir -p /run/systemd/system/crosswan-refresh.timer.d
         printf '[Timer]\\nRandomizedDelaySec=0\\n' >/run/systemd/system/crosswan-refresh.timer.d/now.conf
         systemctl daemon-reload
         date -s @$(( ($(date +%s) / 3600 + 2) * 3600 - 20 ))
         systemctl restart crosswan-refresh.timer")?;
    let started = Instant::now();
    while !ran_since(vm, &before)? {
        ensure!(started.elapsed() < UP, "the clock passed the full hour, and no refresh ran");
    }
    let ended = refresh(vm, "Result")?;
    vm.ok("rm -r /run/systemd/system/crosswan-refresh.timer.d; systemctl daemon-reload")?;
    let text = format!(
        "{NAT}: the clock is put forward to twenty seconds before the full hour: the timer's refresh ran: {}",
        ended
    );
    region.check(ended == "success", &text);
    Ok(())
}

/// A property of the unit that refreshes.
pub fn refresh(vm: &Vm, property: &str) -> Result<String> {
    Ok(vm.ok(&format!("systemctl show -P {property} crosswan-refresh.service"))?.trim().to_owned())
}

fn ran_since(vm: &Vm, before: &str) -> Result<bool> {
    Ok(refresh(vm, "InvocationID")? != before && refresh(vm, "ActiveState")? == "inactive")
}

/// keep's way to ask for a refresh: from inside its sandbox, as it does when a tunnel stays down.
pub fn wanted(region: &mut Region) -> Result<()> {
    let vm = region.vm(CLIENT)?;
    let before = refresh(vm, "InvocationID")?;
    vm.ok("nsenter -m -t $(systemctl show -P MainPID crosswan-keep.service) sh -c ': >/run/crosswan/refresh-wanted'")?;
    let started = Instant::now();
    while !ran_since(vm, &before)? {
        ensure!(started.elapsed() < UP, "keep's file was written, and no refresh ran");
    }
    region.check(true, &format!("{CLIENT}: what keep writes to ask for a refresh starts one"));
    Ok(())
}

/// What a scraper gets once an operator has enabled the socket; nothing listens before.
pub fn metrics(region: &mut Region) -> Result<()> {
    let vm = region.vm(CLIENT)?;
    let ask = "exec 3<>/dev/tcp/127.0.0.1/9917 && printf 'GET /metrics HTTP/1.1\\r\\n\\r\\n' >&3 && cat <&3";
    let ask = format!("timeout 20 bash -c \"{ask}\"");
    let closed = vm.sh(&ask)?.code != 0;
    vm.ok("systemctl enable --now crosswan-metrics.socket crosswan-metrics.timer")?;
    let started = Instant::now();
    let answer = loop {
        let answer = vm.sh(&ask)?.stdout;
        if answer.contains("crosswan_build_info{") || started.elapsed() > UP {
            break answer;
        }
        std::thread::sleep(std::time::Duration::from_secs(2));
    };
    let units = vm.ok("systemctl show -P Result crosswan-metrics.service")?;
    let (up, bytes) = (answer.contains("crosswan_peer_up{"), answer.contains("crosswan_peer_receive_bytes_total{"));
    let text =
        format!("{CLIENT}: a scraper on the machine gets measurements once their socket is enabled, and not before");
    region.check(closed && up && bytes && units.trim() == "success", &text);
    Ok(())
}

/// The client's power is cut, the hub's two reboot; EC2 answers nobody.
pub fn reboot(region: &mut Region) -> Result<()> {
    let (a, hub) = (region.lab.host("a/host")?, region.lab.host("hub/host")?);
    region.lab.ec2_fault("*", "*", Fault::Reset);
    let keys = crate::key::prints(region)?;
    let routing = [shown(region, HUB)?, shown(region, CLIENT)?];
    let streams = [a.ping_stream(hub.address)?, hub.ping_stream(a.address)?];
    let client = region.vm(CLIENT)?;
    client.power_off();
    client.power_on()?;
    let hub_vm = region.vm(HUB)?;
    let nat = region.vm(NAT)?;
    let (tunnel, hub_age) = std::thread::scope(|scope| -> Result<_> {
        let reboots = [hub_vm, nat].map(|vm| scope.spawn(|| vm.reboot(BOOT)));
        for reboot in reboots {
            reboot.join().map_err(|_| anyhow::anyhow!("a reboot panicked"))??;
        }
        a.wait_for(hub.address, BOOT)?;
        Ok((client.age(), hub_vm.age()))
    })?;
    let seen = hub.whoami_tcp(crosswan_lab::internet::ECHO);
    region.report.figure(format!(
        "power-on of three gateways that were there before, at once and without EC2, to first packet through the tunnel, under TCG: {}",
        seconds(tunnel.min(hub_age))
    ));
    let nat_works = seen.is_ok_and(|seen| region.lab.gateway(NAT).is_ok_and(|nat| nat.public() == Some(seen)));
    region.check(nat_works, "hub/host is seen on the internet as the Elastic IP of hub/nat-hub again");
    for stream in streams {
        drop(stream.stop()?);
    }
    region.lab.ec2_heal();
    let (seen, names) = (&*region, [HUB, NAT, CLIENT]);
    let reports = seen.on_each(names, |name| {
        seen.vm(name)?.wait_for_shell(BOOT)?;
        seen.refresh(name).with_context(|| format!("{name}: refresh, EC2 answers again"))
    })?;
    for (name, report) in names.into_iter().zip(reports) {
        let outcome = &report["outcome"];
        region.check(outcome == "unchanged", &format!("{name}: EC2 answers again; the refresh says {outcome}"));
    }
    let same = crate::key::prints(region)? == keys;
    region.check(same, "each gateway has the key it had");
    for (name, before) in [HUB, CLIENT].into_iter().zip(&routing) {
        region.check(shown(region, name)? == *before, &format!("{name}: interfaces, rules and routes are as before"));
        let order = region.vm(name)?.ok(ORDER)?;
        region.check(order.trim() == STARTED, &format!("{name} started {}", order.trim()));
    }
    // Alone, to measure it: the others are up.
    let client = region.vm(CLIENT)?;
    client.power_off();
    client.power_on()?;
    wait_for_tunnel(region, BOOT)?;
    let age = region.vm(CLIENT)?.age();
    region.report.figure(format!(
        "power-on to first packet through the tunnel, a nat-vpn that was there before, under TCG: {}",
        seconds(age)
    ));
    region.vm(CLIENT)?.wait_for_boot(BOOT)?;
    Ok(())
}

/// What Debian's nftables.service does when it reloads; crosswan watch, in its sandbox, puts the rules back.
const FLUSH: &str = "nft flush ruleset; for n in $(seq 50); do
    iptables-save | grep -q -e '-A CROSSWAN-NAT' && echo back after less than $n tenths of a second && exit; sleep 0.1; done";

/// Failed units, journals, sandboxes, memory.
pub fn health(region: &mut Region) -> Result<()> {
    let seen = &*region;
    for (findings, figure) in seen.on_each([HUB, NAT, CLIENT], |name| looked_at(seen, name))? {
        for (ok, text) in findings {
            region.check(ok, &text);
        }
        region.report.figure(figure);
    }
    Ok(())
}

/// The findings on one machine, and its figure.
fn looked_at(region: &Region, name: &str) -> Result<(Vec<Finding>, String)> {
    let vm = region.vm(name)?;
    let state = vm.wait_for_boot(BOOT)?;
    let failed = vm.ok("systemctl --failed --plain --no-legend --no-pager")?;
    let ipsec = name != NAT;
    let charon = vm.sh("systemctl is-active strongswan.service crosswan-keep.service")?.stdout;
    let errors = errors(vm)?;
    let scores: Vec<String> = ["refresh", "keep", "watch", "guard"]
        .iter()
        .map(|unit| {
            Ok(format!(
                "{unit} {}",
                score(&vm.sh(&format!("systemd-analyze security --no-pager crosswan-{unit}.service"))?.stdout)?
            ))
        })
        .collect::<Result<_>>()?;
    let worst = scores.iter().filter_map(|score| score.rsplit(' ').next()?.parse::<f32>().ok()).fold(0.0, f32::max);
    let sysctls = vm.ok(SYSCTLS)?;
    // As installed, with what the image adds.
    let mistakes = vm
        .sh("systemd-analyze verify --man=no --recursive-errors=no crosswan-refresh.service crosswan-refresh.path")?
        .stdout;
    let upgrades = vm.ok("systemctl is-enabled apt-daily-upgrade.timer; apt-config dump | grep -E 'Periodic::Unattended-Upgrade|Automatic-Reboot '")?;
    let memory = memory(vm, ipsec)?;
    let disk = vm.ok("df -m --output=used / | tail -n1")?.trim().to_owned();
    let back = vm.sh(FLUSH)?.stdout;
    let wanted = if ipsec { "active\nactive" } else { "inactive\ninactive" };
    let secure = "enabled\nAPT::Periodic::Unattended-Upgrade \"1\";\nUnattended-Upgrade::Automatic-Reboot \"false\";";
    let one_line = |text: &str, between: &str| text.trim().replace('\n', between);
    let findings = vec![
        (
            failed.trim().is_empty() && state == "running",
            format!("{name} is {state}; failed units: {:?}", failed.trim()),
        ),
        (
            sysctls.trim() == "net.ipv4.ip_forward 1",
            format!("{name}: {}, and no other sysctl unlike the package's", one_line(&sysctls, ", ")),
        ),
        (upgrades.trim() == secure, format!("{name}: security upgrades: {}", one_line(&upgrades, " "))),
        (charon.trim() == wanted, format!("{name}: strongswan and keep are {}", one_line(&charon, " and "))),
        (back.contains("back"), format!("{name}: flushed rules: {:?}", back.trim())),
        (errors.is_empty(), format!("{name}: errors in the journal since its boot: {errors:?}")),
        (mistakes.trim().is_empty(), format!("{name}: mistakes in its units: {:?}", mistakes.trim())),
        (worst > 0.0 && worst <= 2.5, format!("{name}: exposure as installed: {}", scores.join(", "))),
    ];
    Ok((findings, format!("{name}: {memory}; disk {disk} MB used")))
}

/// `→ Overall exposure level for crosswan-keep.service: 1.1 OK`
fn score(text: &str) -> Result<&str> {
    let line = text.lines().find(|line| line.contains("Overall exposure level")).with_context(|| text.to_owned())?;
    line.split_once("service: ").and_then(|(_, rest)| rest.split_whitespace().next()).context("no number")
}

fn memory(vm: &Vm, ipsec: bool) -> Result<String> {
    let peak = refresh(vm, "MemoryPeak")?;
    let mut text = format!("refresh {} at its peak", megabytes(peak.trim()));
    if ipsec {
        for (name, unit) in [("keep", "crosswan-keep"), ("charon", "strongswan")] {
            let rss =
                vm.ok(&format!("awk '/VmRSS/{{print $2*1024}}' /proc/$(systemctl show -P MainPID {unit})/status"))?;
            text += &format!(", {name} {} resident", megabytes(rss.trim()));
        }
    }
    Ok(text
        + &format!(
            ", all of the machine {} MB",
            vm.ok("awk '/MemTotal/{t=$2}/MemAvailable/{a=$2}END{print int((t-a)/1024)}' /proc/meminfo")?.trim()
        ))
}

fn megabytes(bytes: &str) -> String {
    bytes.parse::<f64>().map_or_else(|_| bytes.to_owned(), |bytes| format!("{:.1} MB", bytes / 1e6))
}
