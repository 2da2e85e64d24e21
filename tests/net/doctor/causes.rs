//! Causes that need more than a shell line: AWS, charon, other users, and everybody hanging at once.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Fault, Gateway, ImdsFault};
use nix::libc::{SIGCONT, SIGSTOP};

use super::{checks, examine, healthy, ids, only, parsed, passes, why_not};
use crate::region::{Region, UP, agent, eventually, refresh, status};

/// What AWS has or says otherwise.
pub(super) fn amazon(region: &Region, spoke: &Gateway) -> Result<()> {
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
    // The VPC's routes: one that is gone, one that somebody leads elsewhere, and tables that cannot be looked at.
    let [_, table] = region.lab.managed_tables("a")?;
    refresh(spoke)?;
    healthy(spoke)?;
    for (action, id) in [
        ("CreateRoute", "iam-create-route"),
        ("ReplaceRoute", "iam-replace-route"),
        ("ModifyInstanceAttribute", "iam-modify-instance-attribute"),
    ] {
        region.lab.ec2_fault(&spoke.region, action, Fault::Unauthorized);
        only(spoke, id, 3, &format!("allow ec2:{action}"))?;
        region.lab.ec2_heal();
    }
    // An Elastic IP that settings ask for, while this gateway is in use with another.
    let (allocation, _) = region.lab.add_address(spoke)?;
    let asks = format!("address.allocation = \"{allocation}\"\n");
    spoke.write_file("/etc/crosswan/conf.d/address.toml", &asks, 0o644)?;
    let describe = format!("aws ec2 describe-addresses --region {}", spoke.region);
    ensure!(only(spoke, "elastic-ip", 6, &describe)?.contains("is in use with 198.51.100."));
    spoke.write_file("/etc/crosswan/conf.d/address.toml", "", 0o644)?;
    healthy(spoke)?;
    let (id, to) = (format!("route-{table}-10.0.0.0/8"), ("DestinationCidrBlock", "10.0.0.0/8"));
    let ec2 = |action: &str, more: &[(&str, &str)]| {
        region.lab.ec2().call(&spoke.region, action, &[&[("RouteTableId", table.as_str()), to], more].concat())
    };
    ec2("DeleteRoute", &[])?;
    ensure!(only(spoke, &id, 7, "crosswan refresh")?.starts_with("it is gone"));
    refresh(spoke)?;
    healthy(spoke)?;
    let view = region.lab.ec2().vpc(&spoke.region, &region.lab.vpc_id("a")?)?;
    let other = view.instances.iter().find(|i| i.id != spoke.instance).context("another instance")?;
    ec2("ReplaceRoute", &[("NetworkInterfaceId", &other.interface)])?;
    ensure!(only(spoke, &id, 7, "crosswan refresh")?.contains(&other.id));
    refresh(spoke)?;
    healthy(spoke)?;
    region.lab.ec2_fault(&spoke.region, "DescribeRouteTables", Fault::Garbage);
    only(spoke, "route-tables-tagged", 3, "once EC2 answers")?;
    region.lab.ec2_heal();
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
pub(super) fn peers(region: &Region, spoke: &Gateway) -> Result<()> {
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
    let found = only(spoke, "peer-path", 8, "open UDP 500 and 4500 in the security groups")?;
    ensure!(found.contains("no answer from UDP 500, no answer from UDP 4500"), "{found}");
    region.lab.cut_ipsec(spoke, false)?;
    eventually(UP * 2, "the tunnel is up again", || passes(spoke))?;

    // The hub's charon is not there.
    let hub = region.gateway("hub/vpn-hub")?;
    hub.stop_charon()?;
    end(spoke, &ike)?;
    only(spoke, "peer-path", 8, "crosswan doctor on the other gateway")?;
    hub.start_charon()?;
    refresh(&hub)?;
    eventually(UP * 2, "the tunnel is up again", || passes(spoke))?;

    // A hub that does not know this gateway: packets come through, and no tunnel comes of them.
    hub.sh("mv /etc/swanctl/conf.d/crosswan.conf /run/kept")?.ok()?;
    hub.swanctl(&["--load-conns"])?;
    hub.sh("mv /run/kept /etc/swanctl/conf.d/crosswan.conf")?.ok()?;
    end(spoke, &ike)?;
    let found = only(spoke, "peer-hub", 8, &format!("swanctl --initiate --ike {ike}"))?;
    ensure!(found.contains("no IKE_SA with"), "{found}");
    let (host, to) = (region.lab.host("a/host")?, region.address("b/host")?);
    why_not(spoke, host.address, to, 8, "no IKE_SA with")?;
    ensure!(!host.reaches(to)?, "it reaches {to} without a tunnel");
    refresh(&hub)?;
    eventually(UP * 2, "the tunnel is up again", || passes(spoke))?;

    // What doctor asks a hub that knows this gateway leaves no half-open IKE_SA there, which would stay for 30 seconds.
    end(spoke, &ike)?;
    examine(spoke)?;
    eventually(Duration::from_secs(5), "nothing is left with the hub", || Ok(half_open(&hub)? == 0))?;
    eventually(UP * 2, "the tunnel is up again", || passes(spoke))
}

/// Ends the IKE_SA, if there is one.
fn end(gateway: &Gateway, ike: &str) -> Result<()> {
    gateway.sh(&format!("swanctl --terminate --ike {ike} --force || true"))?.ok().map(drop)
}

/// The IKE_SAs that this charon has begun and not finished.
fn half_open(gateway: &Gateway) -> Result<usize> {
    let stats = gateway.sh("swanctl --stats")?.ok()?.stdout;
    let count = stats.lines().find_map(|line| line.split_once("half-open")).context("no half-open")?.0;
    let count = count.trim().rsplit(' ').next().context("no count")?;
    count.parse().with_context(|| stats.clone())
}

/// Who looks, with which settings, and from where.
pub(super) fn others(spoke: &Gateway) -> Result<()> {
    spoke.sh(&format!("install -m 755 {} /run/agent", agent()?.display()))?.ok()?;
    let settings = "/etc/crosswan/crosswan.toml";
    for mode in ["600", "644"] {
        spoke.sh(&format!("chmod {mode} {settings}"))?.ok()?;
        let user = spoke.sh("setpriv --reuid=65534 --regid=65534 --clear-groups /run/agent doctor --json")?;
        let said = parsed(&user)?;
        ensure!(user.code == 3 && ids(&said, "failure") == ["root"] && ids(&said, "warning").is_empty(), "{said:#}");
        ensure!(checks(&said).all(|check| check["because"].is_null() || check["because"] == "root"), "{said:#}");
    }

    let kept = spoke.read_file(settings)?;
    for broken in ["no_such_setting = 1\n", ""] {
        spoke.write_settings(broken)?;
        only(spoke, "settings", 2, settings)?;
    }
    spoke.sh(&format!("rm {settings}"))?.ok()?;
    only(spoke, "settings", 2, settings)?;
    spoke.write_settings(&kept)?;
    healthy(spoke)?;

    // What ENA's driver counts, which no interface of the lab does.
    let ethtool =
        "#!/bin/sh\nprintf 'NIC statistics:\\n bw_in_allowance_exceeded: 0\\n pps_allowance_exceeded: 12\\n'\n";
    spoke.write_file("/etc/fake/ethtool", ethtool, 0o755)?;
    spoke.set_env("PATH", "/etc/fake:/usr/sbin:/usr/bin:/sbin:/bin");
    let found = only(spoke, "ena-allowance", 6, "a larger instance type")?;
    ensure!(found == "pps_allowance_exceeded 12", "{found}");
    spoke.set_env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    healthy(spoke)?;

    let route = spoke.sh("ip route show default")?.ok()?.stdout;
    spoke.sh("ip route delete default")?.ok()?;
    only(spoke, "uplink", 3, "systemctl restart systemd-networkd")?;
    spoke.sh(&format!("ip route add {}", route.trim()))?.ok()?;
    healthy(spoke)
}

/// Everybody hangs at once, and nothing is written.
pub(super) fn in_time(region: &Region, spoke: &Gateway) -> Result<()> {
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
    // On a busy machine the hub has given up a charon that was stopped for so long.
    eventually(UP * 2, "the tunnel is up again", || passes(spoke))?;
    // A resolver that never answers: looking a name up has no limit of its own.
    spoke.sh(
        "rm -f /etc/resolv.conf; printf 'nameserver 192.0.2.1\noptions timeout:30 attempts:5\n' >/etc/resolv.conf",
    )?;
    spoke.set_env("AWS_ENDPOINT_URL_EC2", "http://ec2.example.com");
    only(spoke, "ec2", 3, "curl")?;
    ensure!(spoke.sh(files)?.ok()?.stdout == before, "doctor changed something:\n{before}");
    Ok(())
}
