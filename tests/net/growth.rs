//! VPCs come and go while packets flow: points 4 and 5 of the demo. Foreign configuration stays as it is.

use std::sync::Arc;

use anyhow::Result;
use crosswan_faults::look::policies;
use crosswan_lab::{Gateway, PingStream};
use serde_json::Value;

use crate::{
    region::{Region, UP, eventually, lines, refresh},
    snapshot::{rules, secrets},
};

const THEIRS: &str = "/etc/swanctl/conf.d/theirs.conf";

#[test]
fn a_vpc_that_is_launched_gets_its_tunnel_and_one_that_is_deleted_loses_it() -> Result<()> {
    let mut region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    let theirs = Foreigner::moves_in(&region)?;
    refresh(&hub)?;

    a_third_vpc_is_launched(&mut region, &hub)?;
    theirs.is_untouched()?;
    a_gateway_loses_its_tag(&region, &hub)?;
    theirs.is_untouched()?;
    a_vpc_is_deleted(&region, &hub)?;
    theirs.is_untouched()
}

/// Point 4. Nothing is done on the clients: the private network was theirs from the start.
fn a_third_vpc_is_launched(region: &mut Region, hub: &Gateway) -> Result<()> {
    let streams = [stream(region, "a/host", "b/host")?, stream(region, "b/host-2", "a/host")?];
    region.lab.add_client("c", "eu-west-1", &["10.3.0.0/16"])?;
    let id = region.lab.vpc_id("c")?;
    let report = refresh(hub)?;
    let steps = lines(&report, "steps");
    assert!(steps.iter().any(|s| s.starts_with("load connection") && s.contains(&id)), "{report:#}");
    for other in ["a", "b"] {
        let other = region.lab.vpc_id(other)?;
        assert!(!steps.iter().any(|s| s.contains(&other)), "only what changed is loaded: {steps:#?}");
    }
    region.boot(&region.gateway("c/nat-vpn")?)?;
    region.settle()?;
    nothing_was_lost(streams)
}

/// Removal is revocation: the gateway still runs with a valid key, and its `keep` goes on trying.
fn a_gateway_loses_its_tag(region: &Region, hub: &Gateway) -> Result<()> {
    let streams = [stream(region, "a/host", "b/host")?, stream(region, "b/host-2", "hub/host")?];
    let (c, id) = (region.gateway("c/nat-vpn")?, region.lab.vpc_id("c")?);
    assert!(traces(hub, &id, "10.3.0.0/16")?.iter().all(|(_, there)| *there), "{:?}", traces(hub, &id, "10.3.0.0/16")?);
    region.lab.tag(&c, "service", None)?;
    the_polls_of_a_peer_that_left(hub, &id)?;
    // Its own end has not heard of it, or has and tries again.
    let refused = c.swanctl(&["--initiate", "--child", "c-10-3-0-0-16", "--timeout", "5"]);
    assert!(refused.is_err(), "{refused:?}");
    eventually(UP, "the hub refuses its key", || {
        Ok(c.charon_log().contains("AUTHENTICATION_FAILED") || c.charon_log().contains("NO_PROPOSAL_CHOSEN"))
    })?;
    assert!(!region.lab.host("c/host")?.reaches(region.address("hub/host")?)?);
    assert!(traces(hub, &id, "10.3.0.0/16")?.iter().all(|(_, there)| !there), "{:?}", traces(hub, &id, "10.3.0.0/16")?);
    nothing_was_lost(streams)
}

/// Point 5.
fn a_vpc_is_deleted(region: &Region, hub: &Gateway) -> Result<()> {
    let streams = [stream(region, "a/host", "hub/host")?, stream(region, "hub/host", "a/host")?];
    let id = region.lab.vpc_id("b")?;
    let before = traces(hub, &id, "10.102.0.0/16")?;
    assert!(before.iter().all(|(_, there)| *there), "{before:?}");
    region.lab.delete_vpc("b")?;
    the_polls_of_a_peer_that_left(hub, &id)?;
    for cidr in ["10.2.0.0/16", "10.102.0.0/16"] {
        let after = traces(hub, &id, cidr)?;
        assert!(after.iter().all(|(_, there)| !there), "{after:?}");
    }
    nothing_was_lost(streams)
}

/// The lab's settings say two misses: the first changes nothing, the second removes.
fn the_polls_of_a_peer_that_left(hub: &Gateway, id: &str) -> Result<()> {
    let first = refresh(hub)?;
    assert_eq!(lines(&first, "steps").len(), 0, "{id} stays for one poll: {first:#}");
    let kept = |report: &Value| report["kept"].to_string().contains("poll 1 of 2");
    assert!(kept(&first), "{first:#}");
    let second = refresh(hub)?;
    assert_eq!(lines(&second, "removed"), [id], "{second:#}");
    let third = refresh(hub)?;
    assert_eq!((third["outcome"].as_str(), lines(&third, "removed").len()), (Some("unchanged"), 0), "{third:#}");
    Ok(())
}

/// Where a peer shows on the hub, and whether it does: it shows everywhere while it has its tunnel, and nowhere after.
fn traces(hub: &Gateway, vpc: &str, cidr: &str) -> Result<[(&'static str, bool); 7]> {
    let file = |path: &str| Ok::<_, anyhow::Error>(hub.read_file(path)?.contains(vpc));
    let listed = |list: &str| Ok::<_, anyhow::Error>(hub.swanctl(&[list])?.contains(vpc));
    Ok([
        ("connection", listed("--list-conns")?),
        ("SAs", listed("--list-sas")?),
        ("policies", policies(hub)?.iter().any(|policy| policy.contains(cidr))),
        ("secret", secrets(hub)?.iter().any(|id| id.contains(vpc))),
        ("crosswan.conf", file("/etc/swanctl/conf.d/crosswan.conf")?),
        ("crosswan-secrets.conf", file("/etc/swanctl/conf.d/crosswan-secrets.conf")?),
        ("routes", hub.sh("ip route show table all")?.ok()?.stdout.contains(cidr)),
    ])
}

fn stream(region: &Region, from: &str, to: &str) -> Result<PingStream> {
    region.lab.host(from)?.ping_stream(region.address(to)?)
}

fn nothing_was_lost(streams: [PingStream; 2]) -> Result<()> {
    for stream in streams {
        let report = stream.stop()?;
        assert!(report.sent > 20 && report.lost == 0, "{report:?}");
    }
    Ok(())
}

/// Another administrator on the hub: rules in chains of their own and in the built-in ones, a connection with its
/// secret, and an IKE_SA without a child, which `keep` would delete if it treated it as its own.
struct Foreigner {
    hub: Arc<Gateway>,
    rules: Vec<String>,
    file: String,
    sa: String,
}

impl Foreigner {
    fn moves_in(region: &Region) -> Result<Foreigner> {
        let (hub, far) = (region.gateway("hub/vpn-hub")?, region.gateway("hub/nat-hub")?);
        let line = "iptables -N THEIRS && iptables -A THEIRS -s 192.0.2.1/32 -j DROP && iptables -I FORWARD 1 -j THEIRS \
                    && iptables -A INPUT -p tcp -m tcp --dport 23 -j DROP \
                    && iptables -t nat -A POSTROUTING -s 192.0.2.9/32 -j MASQUERADE";
        hub.sh(line)?.ok()?;
        for (here, there) in [(&hub, &far), (&far, &hub)] {
            here.write_file(THEIRS, &childless(here, there), 0o600)?;
        }
        far.start_charon()?;
        hub.swanctl(&["--load-conns"])?;
        hub.swanctl(&["--load-creds", "--noprompt"])?;
        hub.swanctl(&["--initiate", "--ike", "theirs", "--timeout", "10"])?;
        let (rules, file, sa) = (foreign(&hub)?, hub.read_file(THEIRS)?, spi(&hub)?);
        assert!(rules.len() == 4 && !sa.is_empty(), "{rules:#?} {sa}");
        Ok(Foreigner { hub, rules, file, sa })
    }

    fn is_untouched(&self) -> Result<()> {
        assert_eq!(foreign(&self.hub)?, self.rules);
        assert_eq!(self.hub.read_file(THEIRS)?, self.file);
        assert_eq!(spi(&self.hub)?, self.sa, "the same IKE_SA");
        assert!(secrets(&self.hub)?.iter().any(|id| id == "ike-theirs"));
        assert!(self.hub.swanctl(&["--list-conns"])?.contains("theirs:"));
        Ok(())
    }
}

/// An IKE_SA without CHILD_SAs between two instances of one VPC.
fn childless(here: &Gateway, there: &Gateway) -> String {
    format!(
        "connections {{ theirs {{\n version = 2\n childless = force\n local_addrs = {}\n remote_addrs = {}\n \
         proposals = aes256gcm16-prfsha384-x25519\n local {{ auth = psk\n id = {} }}\n remote {{ auth = psk\n id = {} }}\n \
         }} }}\nsecrets {{ ike-theirs {{\n id-1 = {}\n id-2 = {}\n secret = \"their own business\" }} }}\n",
        here.address, there.address, here.instance, there.instance, here.instance, there.instance
    )
}

fn foreign(hub: &Gateway) -> Result<Vec<String>> {
    Ok(rules(hub)?.into_iter().filter(|rule| rule.starts_with('-') && !rule.contains("CROSSWAN-")).collect())
}

/// The line of `--list-sas` that names their IKE_SA with both SPIs.
fn spi(hub: &Gateway) -> Result<String> {
    let all = hub.swanctl(&["--list-sas"])?;
    Ok(all.lines().find(|line| line.starts_with("theirs:")).unwrap_or_default().to_owned())
}
