//! `crosswan doctor`: a healthy region passes in every mode, and each cause is one failure with the remedy that mends it.

mod around;
mod causes;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use crosswan_lab::{Auth, Gateway, Host, Output};
use serde_json::Value;

use self::causes::{amazon, in_time, others, peers};
use crate::region::{Region, UP, eventually, refresh, show};

/// What it promises.
const LIMIT: Duration = Duration::from_secs(10);

/// One `crosswan doctor --json`, which must end in time; its exit code and what it says. A machine that is busy with other tests may need
/// several tries for that, and so may the lab's IMDS for the second that the SDK gives it.
fn examine(gateway: &Gateway) -> Result<(i32, Value)> {
    let mut took = Vec::new();
    for _ in 0..4 {
        let before = Instant::now();
        let output = gateway.agent(&["doctor", "--json"])?;
        took.push(before.elapsed());
        if before.elapsed() < LIMIT && !output.stdout.contains("again in a moment") {
            return Ok((output.code, parsed(&output)?));
        }
    }
    bail!("{}: not in time, or IMDS gave no credentials: {took:?}", gateway.name)
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

/// What mends this check, as it says now.
fn remedy_of(gateway: &Gateway, id: &str) -> Result<String> {
    let (_, said) = examine(gateway)?;
    let check = checks(&said).find(|check| check["id"] == id).context("no such check")?;
    Ok(check["remedy"].as_str().context("no remedy")?.to_owned())
}

/// `crosswan why`, on every gateway, beside what packets do.
fn what_is_between_two_addresses(region: &Region) -> Result<()> {
    let [a, b, hub] = ["a/host", "b/host", "hub/host"].map(|name| region.lab.host(name));
    let (a, b, hub) = (a?, b?, hub?);
    let ask = |gateway: &str, from: &Host, to: Ipv4Addr| {
        let words = region.gateway(gateway)?.agent(&["why", &from.address.to_string(), &to.to_string()])?;
        eprintln!("# {gateway}: crosswan why\n{}", words.stdout);
        Ok::<_, anyhow::Error>(words)
    };
    let internet = region.lab.internet().address;
    for (gateway, from, to) in [
        ("hub/vpn-hub", &a, b.address),
        ("hub/vpn-hub", &hub, a.address),
        ("a/nat-vpn", &a, b.address),
        ("a/nat-vpn", &a, internet),
        ("hub/nat-hub", &hub, internet),
    ] {
        let words = ask(gateway, from, to)?;
        ensure!(words.code == 0 && words.stdout.contains(", as far as this gateway sees"), "{}", show(&words));
        ensure!(from.reaches(to)?, "{} does not reach {to}", from.name);
    }
    let nobody = Ipv4Addr::new(10, 200, 0, 9);
    let words = ask("hub/vpn-hub", &a, nobody)?;
    ensure!(words.code == 4 && words.stdout.contains("no gateway of its VPC was found"), "{}", show(&words));
    let spoke = region.gateway("a/nat-vpn")?;
    spoke.sh("iptables -P FORWARD DROP")?.ok()?;
    let words = ask("a/nat-vpn", &a, b.address)?;
    ensure!(words.code == 7 && words.stdout.contains("FAILED  foreign-rules"), "{}", show(&words));
    ensure!(!a.reaches(b.address)?, "what it says of {} is not true", a.name);
    spoke.sh("iptables -P FORWARD ACCEPT")?.ok()?;
    Ok(())
}

/// `crosswan why` of what does not reach, which must end with this code and have a failure with this text.
fn why_not(gateway: &Gateway, from: Ipv4Addr, to: Ipv4Addr, code: i32, said: &str) -> Result<()> {
    let words = gateway.agent(&["why", &from.to_string(), &to.to_string()])?;
    let fails = words.stdout.lines().any(|line| line.starts_with("FAILED") && line.contains(said));
    ensure!(words.code == code && fails, "{}", show(&words));
    Ok(())
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

    what_is_between_two_addresses(&region)?;

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
        ("iptables -D FORWARD 1", "rules-in-force", 9, "crosswan refresh"),
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

/// What EC2 itself stops before it reaches the gateway, or leads past it.
#[test]
fn groups_acls_and_route_tables_that_stop_a_gateway_are_named_with_what_opens_them() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let spoke = region.gateway("a/nat-vpn")?;
    for name in ["hub/vpn-hub", "hub/nat-hub", "a/nat-vpn"] {
        let gateway = region.gateway(name)?;
        refresh(&gateway)?;
        eventually(UP, name, || passes(&gateway))?;
    }
    around::around(&region, &spoke)
}
