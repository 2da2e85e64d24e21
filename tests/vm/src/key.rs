//! How gateways authenticate: by their own keys, and by a pre-shared key that arrives late.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crosswan_lab::Vm;

use crate::machine::refresh;
use crate::region::{CLIENT, HUB, Region, UP, wait_for_tunnel};
use crate::report::seconds;

/// Each knows the other by the key that the other made and announced in its instance's tag; there was no other way.
pub fn own(region: &mut Region) -> Result<()> {
    let mut made = Vec::new();
    for name in [HUB, CLIENT] {
        let vm = region.vm(name)?;
        let files = vm.ok("shopt -s dotglob; stat -c '%A %U %n' /etc/swanctl/private /etc/swanctl/private/*")?;
        let others = vm.ok(
            "ls -A /etc/crosswan; ls -A /etc/credstore; grep -c secret /etc/swanctl/conf.d/crosswan-secrets.conf",
        )?;
        let methods =
            vm.ok("swanctl --list-conns | sed -n 's/^ *\\(local\\|remote\\) \\(.*\\) authentication:.*/\\2/p' | grep -v unspecified")?;
        let report = region.status(name)?;
        let key = report["key"]["fingerprint"].as_str().context("no key in the report")?.to_owned();
        let tunnels = report["tunnels"].as_object().context("no tunnels in the report")?;
        let peers: Vec<_> =
            tunnels.values().flat_map(|tunnel| tunnel["peer_keys"].as_array().cloned()).flatten().collect();
        region.check(
            files == "drwx------ root /etc/swanctl/private\n-rw------- root /etc/swanctl/private/crosswan.pem\n",
            &format!("{name}: {}", files.trim().replace('\n', ", ")),
        );
        region.check(
            others == "conf.d\ncrosswan.toml\n1\n" && methods == "public key\npublic key\n",
            &format!("{name}: no secret but that; authentication by {}", methods.trim().replace('\n', " and ")),
        );
        made.push((name, key, peers));
    }
    for ((name, _, peers), (_, key, _)) in [(&made[0], &made[1]), (&made[1], &made[0])] {
        let right = peers.len() == 1 && peers[0] == key.as_str();
        region.check(right, &format!("{name} takes its peer by {key}, which that made"));
    }
    Ok(())
}

/// Of the private keys; to see that they stay.
pub fn prints(region: &Region) -> Result<Vec<String>> {
    [HUB, CLIENT].into_iter().map(|name| region.vm(name)?.ok("sha256sum /etc/swanctl/private/crosswan.pem")).collect()
}

/// The client is set to pre-shared keys before there is one. The hub knows it by its own, and has no part in this.
pub fn pre_shared(region: &mut Region) -> Result<()> {
    let vm = region.vm(CLIENT)?;
    vm.ok("printf '[auth]\\nmethod = \"psk\"\\n' >/etc/crosswan/conf.d/psk.toml")?;
    vm.sh("systemctl start crosswan-refresh.service")?;
    let code = last(vm)?.0;
    let says = |text: &str| text.contains("/etc/crosswan/psk");
    let status = vm.sh("crosswan status")?.stdout;
    let shown: String = status.lines().filter(|line| line.contains("WAITING") && says(line)).map(str::trim).collect();
    let journal = says(&vm.ok("journalctl -q --no-pager -u crosswan-refresh.service")?);
    let nat = region.lab.host("a/host")?.whoami_tcp(crosswan_lab::internet::ECHO)?;
    let public = region.lab.gateway(CLIENT)?.public();
    let told = code == "2" && !shown.is_empty() && journal;
    region.check(told, &format!("exit code {code}, status and journal say what is missing: {shown}"));
    region.check(Some(nat) == public, "its NAT works without the key");
    let psk = region.lab.psk().to_owned();
    let vm = region.vm(CLIENT)?;
    let (started, before) = (Instant::now(), last(vm)?);
    vm.ok(&format!("umask 077; printf '%s\\n' {psk} >/etc/credstore/crosswan.psk"))?;
    while last(vm)? == before || vm.sh("grep -q ike- /etc/swanctl/conf.d/crosswan-secrets.conf")?.code != 0 {
        ensure!(started.elapsed() < UP, "the key was written, and no refresh took it");
    }
    let text = format!(
        "the key was written to /etc/credstore: charon has it {} later, and nobody started anything",
        seconds(started.elapsed())
    );
    region.check(true, &text);
    limit(region)?;
    let vm = region.vm(CLIENT)?;
    vm.ok("rm /etc/crosswan/conf.d/psk.toml /etc/credstore/crosswan.psk")?;
    region.refresh(CLIENT)?;
    let back = wait_for_tunnel(region, UP)?;
    region.check(true, &format!("set back to keys of their own: the tunnel is up again after {}", seconds(back)));
    Ok(())
}

/// A refresh at its start limit fails the path unit that waits for the key, and the next refresh starts it again.
fn limit(region: &mut Region) -> Result<()> {
    let vm = region.vm(CLIENT)?;
    let path = || Ok::<_, anyhow::Error>(vm.sh("systemctl is-active crosswan-refresh.path")?.stdout.trim().to_owned());
    vm.ok("mkdir -p /run/systemd/system/crosswan-refresh.service.d
        printf '[Unit]\\nStartLimitBurst=1\\n' >/run/systemd/system/crosswan-refresh.service.d/limit.conf
        systemctl daemon-reload
        systemctl start crosswan-refresh.service; systemctl start crosswan-refresh.service
        rm /run/systemd/system/crosswan-refresh.service.d/limit.conf; systemctl daemon-reload")?;
    let during = path()?;
    vm.ok("systemctl reset-failed crosswan-refresh.service; systemctl start crosswan-refresh.service")?;
    let after = path()?;
    region.check(
        during == "failed" && after == "active",
        &format!("crosswan-refresh.path with refresh at its start limit: {during}; after the next refresh: {after}"),
    );
    Ok(())
}

/// The last pass: its exit code, and which it was.
fn last(vm: &Vm) -> Result<(String, String)> {
    Ok((refresh(vm, "ExecMainStatus")?, refresh(vm, "InvocationID")?))
}
