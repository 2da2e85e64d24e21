//! `crosswan doctor`: a healthy region passes in every mode, and each cause is one failure with the remedy that mends it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Auth, Fault, Gateway, ImdsFault, Output};
use nix::libc::{SIGCONT, SIGSTOP};
use serde_json::Value;

use crate::region::{Region, UP, agent, eventually, refresh, show, status};

/// What it promises, on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(10);

/// One `crosswan doctor --json`, which must end in time; its exit code and what it says.
fn examine(gateway: &Gateway) -> Result<(i32, Value)> {
    let once = || -> Result<Output> {
        let before = Instant::now();
        let output = gateway.agent(&["doctor", "--json"])?;
        let took = before.elapsed();
        ensure!(took < LIMIT, "{}: it took {took:?}", gateway.name);
        Ok(output)
    };
    let mut output = once()?;
    for _ in 0..3 {
        // On a busy machine IMDS may need longer than the second that the SDK gives it.
        if output.stdout.contains("again in a moment") {
            output = once()?;
        }
    }
    Ok((output.code, parsed(&output)?))
}

fn parsed(output: &Output) -> Result<Value> {
    ensure!(output.stdout.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{}", show(output));
    serde_json::from_str(&output.stdout).with_context(|| show(output))
}

fn checks(said: &Value) -> impl Iterator<Item = &Value> {
    said["checks"].as_array().into_iter().flatten()
}

/// The checks in this state, by their ids.
fn ids<'a>(said: &'a Value, state: &str) -> Vec<&'a str> {
    checks(said).filter(|check| check["state"] == state).filter_map(|check| check["id"].as_str()).collect()
}

fn passes(gateway: &Gateway) -> Result<bool> {
    let (code, said) = examine(gateway)?;
    let wrong = [ids(&said, "failure"), ids(&said, "warning")].concat();
    ensure!((code == 0) == wrong.is_empty() && said["exit_code"] == code, "{said:#}");
    Ok(wrong.is_empty())
}

/// It must pass, at once.
fn healthy(gateway: &Gateway) -> Result<()> {
    let (code, said) = examine(gateway)?;
    ensure!(code == 0, "{}: {said:#}", gateway.name);
    Ok(())
}

/// What is wrong must be `id` and nothing else, with this exit code and a remedy with this text. What was found.
fn only(gateway: &Gateway, id: &str, code: i32, remedy: &str) -> Result<String> {
    let (ended, said) = examine(gateway)?;
    let wrong = [ids(&said, "failure"), ids(&said, "warning")].concat();
    ensure!(wrong == [id] && ended == code, "{id}: exit {ended}, {wrong:?}\n{said:#}");
    let check = checks(&said).find(|check| check["id"] == id).context("no such check")?;
    ensure!(check["remedy"].as_str().is_some_and(|text| text.contains(remedy)), "{check:#}");
    ensure!(check["wanted"].as_str().is_some_and(|text| !text.is_empty()), "{check:#}");
    ensure!(checks(&said).all(|check| check["because"].is_null() || check["because"] == id), "{said:#}");
    Ok(check["found"].as_str().context("nothing found")?.to_owned())
}

/// Each line breaks one thing, and the remedy that doctor names mends it.
#[test]
fn a_healthy_region_passes_and_each_cause_is_one_failure_with_its_remedy() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let (hub, spoke) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    for name in ["hub/vpn-hub", "hub/nat-hub", "a/nat-vpn"] {
        let gateway = region.gateway(name)?;
        refresh(&gateway)?;
        healthy(&gateway)?;
        let words = gateway.agent(&["doctor"])?;
        ensure!(words.code == 0 && words.stdout.contains(" 0 warnings, 0 failed, "), "{}", show(&words));
        eprintln!("# {name}: crosswan doctor\n{}", words.stdout);
    }

    // Remedies that are commands are run as they are printed.
    let pem = "/etc/swanctl/private/crosswan.pem";
    let clear = format!("mv {pem} /run/pem && swanctl --load-creds --clear --noprompt; mv /run/pem {pem}");
    for (harm, id, code, remedy) in [
        ("sysctl -w net.ipv4.ip_forward=0", "ip-forward", 7, "sysctl -w net.ipv4.ip_forward=1"),
        ("sysctl -w net.ipv4.conf.all.rp_filter=1", "rp-filter", 7, "sysctl -w net.ipv4.conf.all.rp_filter=2"),
        ("ip link set ens5 mtu 1400", "mtu", 7, "ip link set ens5 mtu 1500"),
        (
            "sysctl -w net.ipv4.conf.all.send_redirects=1",
            "send-redirects",
            7,
            "sysctl -w net.ipv4.conf.all.send_redirects=0",
        ),
        ("sysctl -w net.ipv6.conf.all.forwarding=1", "ipv6-forwarding", 7, "sysctl -w net.ipv6.conf.all.forwarding=0"),
        ("iptables -P FORWARD DROP", "foreign-rules", 7, "iptables -t filter -P FORWARD ACCEPT"),
        (
            "nft 'table inet f { chain c { type filter hook forward priority 10; policy drop; }; }'",
            "foreign-rules",
            7,
            "nft 'chain inet f c { policy accept; }'",
        ),
        ("iptables -t nat -F CROSSWAN-NAT", "rules-in-force", 9, "crosswan refresh"),
        ("iptables -D FORWARD -j CROSSWAN-GUARD", "rules-in-force", 9, "crosswan refresh"),
        ("ip link delete cw2", "interfaces-and-routes", 9, "crosswan refresh"),
        ("ip rule flush protocol 205", "interfaces-and-routes", 9, "crosswan refresh"),
        ("ip link add cw9 type dummy", "interfaces-and-routes", 9, "ip link delete cw9"),
        ("ip rule add pref 100 from 10.2.0.0/16 lookup main", "foreign-routes", 6, "ip rule"),
        (&format!("chmod 644 {pem}"), "key-file", 4, &format!("chmod 600 {pem}")),
        (&format!("mv {pem} /run/pem"), "key-file", 4, &format!("restore {pem}; or: crosswan refresh")),
        (&clear, "key-loaded", 4, "crosswan refresh"),
        ("rm /run/crosswan/status.json", "last-refresh", 4, "crosswan refresh"),
        (
            "sed -i 's/\"at\": [0-9]*/\"at\": 1000000000/' /run/crosswan/status.json",
            "last-refresh",
            4,
            "crosswan refresh",
        ),
        (
            "sed -i 's/\"version\": \".*\"/\"version\": \"0.1.0\"/' /run/crosswan/status.json",
            "version",
            6,
            "crosswan refresh",
        ),
        ("echo '# ours' > /etc/swanctl/swanctl.conf", "swanctl-include", 7, "include conf.d/*.conf"),
    ] {
        spoke.sh(harm)?.ok()?;
        let found = only(&spoke, id, code, remedy).with_context(|| harm.to_owned())?;
        eprintln!("{harm}: {id}: {found}");
        match (id, remedy) {
            (_, "crosswan refresh") => drop(refresh(&spoke)?),
            ("swanctl-include", line) => drop(spoke.sh(&format!("echo '{line}' > /etc/swanctl/swanctl.conf"))?.ok()?),
            (_, restore) if restore.starts_with("restore") => drop(spoke.sh(&format!("mv /run/pem {pem}"))?.ok()?),
            ("foreign-routes", _) => drop(spoke.sh("ip rule delete pref 100")?.ok()?),
            (_, command) => drop(spoke.sh(command)?.ok()?),
        }
        eventually(UP, harm, || passes(&spoke))?;
    }
    amazon(&region, &spoke)?;
    peers(&region, &spoke)?;
    others(&spoke)?;
    in_time(&region, &spoke)?;

    eventually(UP, "the hub's tunnels are up", || passes(&hub))?;
    region.lab.add_cidr("b", "10.1.128.0/17")?;
    refresh(&hub)?;
    let found = only(&hub, "overlap", 6, "crosswan status")?;
    ensure!(found.contains("10.1.128.0/17: overlaps 10.1.0.0/16"), "{found}");
    Ok(())
}

/// What AWS has or says otherwise.
fn amazon(region: &Region, spoke: &Gateway) -> Result<()> {
    let options = format!("--region {} --instance-id {}", spoke.region, spoke.instance);
    region.lab.source_dest_check(spoke, true)?;
    let remedy = format!("aws ec2 modify-instance-attribute {options} --no-source-dest-check");
    only(spoke, "source-dest-check", 7, &remedy)?;
    region.lab.source_dest_check(spoke, false)?;

    for (path, fault, id, code, remedy) in [
        ("", ImdsFault::Down, "imds", 3, format!("aws ec2 modify-instance-metadata-options {options}")),
        ("", ImdsFault::Late(600), "clock", 3, "chronyc makestep".into()),
        ("meta-data/public-ipv4", ImdsFault::Status(404), "public-address", 7, format!("associate-address {options}")),
        (
            "meta-data/iam/security-credentials/",
            ImdsFault::Status(404),
            "role",
            3,
            format!("instance-profile {options}"),
        ),
    ] {
        spoke.imds.set(path, Some(fault));
        eprintln!("{path}: {id}: {}", only(spoke, id, code, &remedy)?);
        spoke.imds.set(path, None);
        healthy(spoke)?;
    }
    for fault in [Fault::Unauthorized, Fault::Garbage, Fault::Silent] {
        region.lab.ec2_fault(&spoke.region, "DescribeInstances", fault);
        let denied = fault == Fault::Unauthorized;
        only(spoke, "ec2", 3, if denied { "allow ec2:DescribeInstances" } else { "curl" })?;
        region.lab.ec2_heal();
    }
    let hub = region.gateway("hub/vpn-hub")?;
    for (gateway, action, id) in
        [(spoke, "CreateTags", "iam-create-tags"), (&*hub, "DescribeVpcs", "iam-describe-vpcs")]
    {
        region.lab.ec2_fault(&gateway.region, action, Fault::Unauthorized);
        only(gateway, id, 3, &format!("allow ec2:{action}"))?;
        region.lab.ec2_heal();
        healthy(gateway)?;
    }
    // Whoever may write tags may write anything there.
    for tag in ["\u{202e}\u{7f}'; reboot", "", "none"] {
        region.lab.tag(spoke, "crosswan-key", Some(tag))?;
        let found = only(spoke, "key-tag", 4, "crosswan refresh")?;
        ensure!(!found.contains("reboot") || found.contains(r"\u{202e}\u{7f}"), "{found}");
        refresh(spoke)?;
        healthy(spoke)?;
    }
    Ok(())
}

/// charon and the tunnel.
fn peers(region: &Region, spoke: &Gateway) -> Result<()> {
    // One that hangs.
    spoke.signal_charon(SIGSTOP)?;
    only(spoke, "charon", 3, "systemctl restart strongswan")?;
    spoke.signal_charon(SIGCONT)?;
    eventually(UP, "charon goes on", || passes(spoke))?;
    spoke.stop_charon()?;
    only(spoke, "charon", 3, "systemctl restart strongswan")?;
    spoke.start_charon()?;
    refresh(spoke)?;
    eventually(UP, "the tunnel is up again", || passes(spoke))?;

    // The connection is gone from charon.
    spoke.sh("mv /etc/swanctl/conf.d/crosswan.conf /run/kept")?.ok()?;
    spoke.swanctl(&["--load-conns"])?;
    spoke.sh("mv /run/kept /etc/swanctl/conf.d/crosswan.conf")?.ok()?;
    let found = only(spoke, "peer-hub", 8, "crosswan refresh")?;
    ensure!(found.contains("charon has not loaded crosswan-hub-"), "{found}");
    refresh(spoke)?;
    eventually(UP, "the tunnel is up again", || passes(spoke))?;

    // What is between them drops IKE and ESP.
    let ike = status(spoke)?["tunnels"][0]["connection"].as_str().context("no tunnel")?.to_owned();
    region.lab.cut_ipsec(spoke, true)?;
    spoke.swanctl(&["--terminate", "--ike", &ike, "--force"])?;
    let found = only(spoke, "peer-hub", 8, &format!("swanctl --initiate --ike {ike}"))?;
    ensure!(found.contains("no IKE_SA with"), "{found}");
    region.lab.cut_ipsec(spoke, false)?;
    eventually(UP * 2, "the tunnel is up again", || passes(spoke))
}

/// Who looks, with which settings, and from where.
fn others(spoke: &Gateway) -> Result<()> {
    spoke.sh(&format!("install -m 755 {} /run/agent", agent()?.display()))?.ok()?;
    let user = spoke.sh("setpriv --reuid=65534 --regid=65534 --clear-groups /run/agent doctor --json")?;
    let said = parsed(&user)?;
    ensure!(user.code == 3 && ids(&said, "failure") == ["root"] && ids(&said, "warning").is_empty(), "{said:#}");
    ensure!(checks(&said).all(|check| check["because"].is_null() || check["because"] == "root"), "{said:#}");

    let kept = spoke.read_file("/etc/crosswan/crosswan.toml")?;
    for broken in ["no_such_setting = 1\n", ""] {
        spoke.write_settings(broken)?;
        only(spoke, "settings", 2, "/etc/crosswan/crosswan.toml")?;
    }
    spoke.sh("rm /etc/crosswan/crosswan.toml")?.ok()?;
    only(spoke, "settings", 2, "/etc/crosswan/crosswan.toml")?;
    spoke.write_settings(&kept)?;
    healthy(spoke)?;

    let route = spoke.sh("ip route show default")?.ok()?.stdout;
    spoke.sh("ip route delete default")?.ok()?;
    only(spoke, "uplink", 3, "systemctl restart systemd-networkd")?;
    spoke.sh(&format!("ip route add {}", route.trim()))?.ok()?;
    healthy(spoke)
}

/// Everybody hangs at once, and nothing is written.
fn in_time(region: &Region, spoke: &Gateway) -> Result<()> {
    let files = "find /etc/swanctl /etc/crosswan /var/lib/crosswan /run/crosswan -printf '%p %i %T@ %m\\n' | sort; \
                 iptables-save | grep -v '^#' | sed 's/\\[.*\\]//'; ip rule; ip route show table all; ip link | grep cw";
    let before = spoke.sh(files)?.ok()?.stdout;
    spoke.signal_charon(SIGSTOP)?;
    region.lab.ec2_fault(&spoke.region, "*", Fault::Silent);
    for imds in [None, Some(ImdsFault::Slow(Duration::from_secs(3)))] {
        spoke.imds.set("", imds.clone());
        let (code, said) = examine(spoke)?;
        let wrong = ids(&said, "failure");
        let first = if imds.is_some() { "imds" } else { "ec2" };
        ensure!(code == 3 && wrong == [first, "charon"], "{said:#}");
    }
    spoke.imds.set("", None);
    spoke.signal_charon(SIGCONT)?;
    region.lab.ec2_heal();
    // A resolver that never answers: looking a name up has no limit of its own.
    spoke.sh(
        "rm -f /etc/resolv.conf; printf 'nameserver 192.0.2.1\noptions timeout:30 attempts:5\n' >/etc/resolv.conf",
    )?;
    spoke.set_env("AWS_ENDPOINT_URL_EC2", "http://ec2.example.com");
    only(spoke, "ec2", 3, "curl")?;
    ensure!(spoke.sh(files)?.ok()?.stdout == before, "doctor changed something:\n{before}");
    Ok(())
}
