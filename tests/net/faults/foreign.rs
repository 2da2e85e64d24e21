//! Rules, connections and secrets of other programs on the same gateway stay untouched, whatever crosswan does.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Gateway, PingStream};

use super::look::{Snapshot, ask, rules, unharmed};
use crate::region::{Region, UP, eventually, refresh, refresh_with};

/// Names that begin like crosswan's, but are foreign.
const CONNECTION: &str = "crosswanderer";
const CHAIN: &str = "CROSSWANDERER";
const FIREWALL: &str = "*filter
:CROSSWANDERER - [0:0]
-A FORWARD -j CROSSWANDERER
-A CROSSWANDERER -p tcp -m tcp --dport 25 -j DROP
-A CROSSWANDERER -m comment --comment \"-j CROSSWAN-GUARD\" -j RETURN
COMMIT
*nat
-A POSTROUTING -s 172.16.0.0/12 -o eth0 -j MASQUERADE
COMMIT
";

#[test]
fn nothing_foreign_is_touched() -> Result<()> {
    let region = Region::standard()?;
    let (hub, partner) = (region.gateway("hub/vpn-hub")?, region.gateway("hub/nat-hub")?);
    hub.set_env("CROSSWAN_AFTER_MISSES", "1");
    hub.run("iptables-restore", &["--noflush"], FIREWALL)?.ok()?;
    let packets = partner_tunnel(&hub, &partner)?;
    let foreign = |line: &str| !line.contains("CROSSWAN-G") && !line.contains("CROSSWAN-T") || line.contains("comment");
    let foreign = |line: &str| foreign(line) && !line.contains("CROSSWAN-NAT") && !line.contains("CROSSWAN-MSS");
    let firewall = rules(&hub, foreign)?;
    ensure!(firewall.iter().filter(|line| line.contains(CHAIN)).count() == 4, "{firewall:#?}");
    let (loaded, sa) = theirs(&hub)?;

    let unchanged = |when: &str| -> Result<()> {
        ensure!(rules(&hub, foreign)? == firewall, "{when}: {:#?}\ninstead of {firewall:#?}", rules(&hub, foreign)?);
        let now = theirs(&hub)?;
        ensure!(now == (loaded.clone(), sa), "{when}: {now:?} instead of {loaded:?}, IKE_SA {sa}");
        Ok(())
    };
    region.lab.add_client("c", "eu-west-1", &["10.3.0.0/16"])?;
    let before = Snapshot::of(&hub)?;
    hub.sh("cd /etc/swanctl && mount --bind conf.d conf.d && mount -o remount,bind,ro conf.d")?.ok()?;
    let report = refresh_with(&hub, &[], 4)?;
    ensure!(report["outcome"] == "rolled-back", "{report:#}");
    Snapshot::of(&hub)?.must_be(&before, "rolled back")?;
    hub.sh("umount /etc/swanctl/conf.d")?.ok()?;
    unchanged("after a roll-back")?;
    refresh(&hub)?;
    unchanged("after a peer came")?;
    hub.sh("iptables -t nat -F CROSSWAN-NAT; iptables -D FORWARD -j CROSSWAN-GUARD")?.ok()?;
    refresh(&hub)?;
    unchanged("after our own rules were put back")?;
    region.lab.delete_vpc("c")?;
    refresh(&hub)?;
    unchanged("after a peer left")?;
    ensure!(Snapshot::of(&hub)?.connections.len() == before.connections.len());
    unharmed(packets, "the partner's tunnel")?;

    // Their secret still works: the tunnel can be established again.
    hub.swanctl(&["--terminate", "--ike", CONNECTION])?;
    hub.swanctl(&["--initiate", "--child", "lan", "--timeout", "20"])?;
    Ok(())
}

/// A tunnel somebody configured by hand, between two addresses outside the private network.
fn partner_tunnel(hub: &Gateway, partner: &Gateway) -> Result<PingStream> {
    let ends = [(hub, Ipv4Addr::new(192, 168, 77, 1)), (partner, Ipv4Addr::new(192, 168, 78, 1))];
    for ((gateway, inner), (peer, far)) in [(ends[0], ends[1]), (ends[1], ends[0])] {
        gateway.ns()?.ip(&format!("addr add {inner}/32 dev lo"))?;
        let (me, them) = (gateway.address, peer.address);
        let text = format!(
            "connections {{
  {CONNECTION} {{
    version = 2
    local_addrs = {me}
    remote_addrs = {them}
    local {{ auth = psk\n id = {me} }}
    remote {{ auth = psk\n id = {them} }}
    children {{ lan {{ local_ts = {inner}/32\n remote_ts = {far}/32 }} }}
  }}
}}
secrets {{ ike-{CONNECTION} {{ id-1 = {me}\n id-2 = {them}\n secret = correcthorsebatterystaple }} }}
"
        );
        gateway.write_file("/etc/swanctl/conf.d/other.conf", &text, 0o600)?;
    }
    partner.start_charon()?;
    hub.swanctl(&["--load-all", "--noprompt"])?;
    hub.swanctl(&["--initiate", "--child", "lan", "--timeout", "20"])?;
    let stream = PingStream::start(&*hub.ns()?, ends[0].1, ends[1].1, Duration::from_millis(50), u32::MAX)?;
    eventually(UP, "the partner's tunnel carries packets", || Ok(stream.answers() > 0))?;
    stream.stop()?;
    PingStream::start(&*hub.ns()?, ends[0].1, ends[1].1, Duration::from_millis(50), u32::MAX)
}

/// The foreign configuration that charon holds, and the number of its IKE_SA.
fn theirs(hub: &Gateway) -> Result<(String, u32)> {
    let (conns, secrets, sas) =
        ask(hub, async |vici| Ok((vici.list_conns().await?, vici.shared_ids().await?, vici.sas().await?)))?;
    ensure!(secrets.contains(&format!("ike-{CONNECTION}")), "{secrets:?}");
    let conn = conns.get(CONNECTION).context("the partner's connection is gone")?;
    let sa = sas.iter().find(|sa| sa.conn == CONNECTION).context("the partner's IKE_SA is gone")?;
    Ok((format!("{conn:?}"), sa.id))
}
