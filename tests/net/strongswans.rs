//! Gateways with different versions of strongSwan, and a peer that crosswan did not configure.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use crosswan_core::system::Sa;
use crosswan_faults::look::{all_well, ask, stream, unharmed};
use crosswan_lab::{Auth, Gateway, Lab, VpcSpec};

use crate::{
    keys::reconnect,
    region::{Region, UP, agent, eventually, lines, refresh},
};

/// The strongSwan of a suite of Debian, unpacked; `make test` has fetched it.
pub fn strongswan(suite: &str) -> Result<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/setup/strongswan.sh");
    let output = Command::new(script).args([suite, "cached"]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim_end().into())
}

/// charon's version and whether it can do ML-KEM.
fn charon(gateway: &Gateway) -> Result<(String, bool)> {
    ask(gateway, async |vici| Ok((vici.version().await?, vici.key_exchanges().await?.contains("ML_KEM_768"))))
}

/// Makes `gateway`'s IKE_SAs and CHILD_SAs anew while they are in use, as their lifetimes would.
fn rekey(gateway: &Gateway) -> Result<()> {
    let all = || ask(gateway, async |vici| vici.sas().await);
    // What another end has just replaced is still listed for some seconds.
    for sa in all()?.into_iter().filter(Sa::is_established) {
        for child in sa.children.iter().filter(|child| child.is_up()) {
            gateway.swanctl(&["--rekey", "--child-id", &child.id.to_string()])?;
            let new = |s: &Sa| s.children.iter().any(|c| c.name == child.name && c.id > child.id);
            eventually(UP, "a new CHILD_SA", || Ok(all()?.iter().any(|s| s.conn == sa.conn && new(s))))?;
        }
        gateway.swanctl(&["--rekey", "--ike-id", &sa.id.to_string()])?;
        eventually(UP, "a new IKE_SA", || Ok(all()?.iter().any(|s| s.conn == sa.conn && s.id > sa.id)))?;
    }
    Ok(())
}

#[test]
fn gateways_with_strongswan_5_and_6_connect_and_use_ml_kem_where_both_have_it() -> Result<()> {
    let (debian_13, newest) = (strongswan("trixie")?, strongswan("testing")?);
    let lab = Lab::builder(agent()?)
        .auth(Auth::Key)
        .vpc(VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?)
        .vpc(VpcSpec::client("a", "eu-west-1", &["10.1.0.0/16"])?)
        .vpc(VpcSpec::client("b", "eu-west-1", &["10.2.0.0/16"])?)
        .vpc(VpcSpec::client("c", "eu-west-1", &["10.3.0.0/16"])?)
        .build()?;
    lab.gateway("b/nat-vpn")?.use_strongswan(&debian_13)?;
    lab.gateway("c/nat-vpn")?.use_strongswan(&newest)?;
    let region = Region::booted(lab)?;
    let hub = region.gateway("hub/vpn-hub")?;
    let clients = ["a", "b", "c"].map(|vpc| region.gateway(&format!("{vpc}/nat-vpn")));
    let clients = clients.into_iter().collect::<Result<Vec<_>>>()?;
    let versions: Vec<_> = clients.iter().map(|client| charon(client)).collect::<Result<_>>()?;
    let [(own, _), (six, _), (new, true)] = &versions[..] else { panic!("no ML-KEM in the newest: {versions:?}") };
    ensure!(own != six && six.starts_with("6.0") && new != six && new.starts_with('6'), "{versions:?}");

    for tree in [None, Some(&debian_13), Some(&newest)] {
        if let Some(tree) = tree {
            hub.stop_charon()?;
            hub.use_strongswan(tree)?;
            hub.start_charon()?;
            refresh(&hub)?;
            reconnect(&region, &hub)?;
        }
        all_well(&region, UP)?;
        let (version, ml_kem) = charon(&hub)?;
        let mut streams = Vec::new();
        for host in ["a/host", "b/host", "c/host"] {
            streams.extend([stream(&region, host, "hub/host")?, stream(&region, "hub/host", host)?]);
        }
        clients.iter().map(|gateway| &**gateway).chain([&*hub]).try_for_each(rekey)?;
        for stream in streams {
            unharmed(stream, &format!("SAs rekeyed by either end, the hub with {version}"))?;
        }
        for (client, (its, its_ml_kem)) in clients.iter().zip(&versions) {
            let said = client.swanctl(&["--list-sas"])?;
            let what = format!("hub {version}, client {its}: {said}");
            ensure!(said.contains("AES_GCM_16-256/PRF_HMAC_SHA2_384/CURVE_25519"), "{what}");
            ensure!(said.contains("CURVE_25519/KE1_ML_KEM_768") == (ml_kem && *its_ml_kem), "{what}");
        }
        let report = refresh(&hub)?;
        ensure!(report["outcome"] == "unchanged", "hub {version}: {report:#}");
    }
    Ok(())
}

/// What somebody writes who knows strongSwan, the hub's address, its key and the networks behind it, and nothing of crosswan:
/// kernel policies, no interface, and by its VPC's and its own id the names that the hub goes by.
fn hand_written(client: &Gateway, vpc: &str, hub: &Gateway, psk: &str) -> Result<String> {
    let hub = hub.public().context("the hub's address")?;
    Ok(format!(
        "connections {{
  hub {{
    version = 2
    remote_addrs = {hub}
    proposals = aes256gcm16-prfsha384-x25519
    local {{
      auth = psk
      id = {vpc}/{}
    }}
    remote {{
      auth = psk
      id = {hub}
    }}
    children {{
      net {{
        local_ts = 10.3.0.0/16
        remote_ts = 10.0.0.0/16, 10.1.0.0/16
        esp_proposals = aes256gcm16-x25519
        start_action = trap
      }}
    }}
  }}
}}
secrets {{
  ike-hub {{
    secret = {psk}
  }}
}}
",
        client.instance
    ))
}

#[test]
fn a_peer_with_a_handwritten_swanctl_conf_reaches_the_networks_behind_the_hub() -> Result<()> {
    let debian_13 = strongswan("trixie")?;
    let lab = Lab::builder(agent()?)
        .auth(Auth::Psk)
        .vpc(VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?)
        .vpc(VpcSpec::client("a", "eu-west-1", &["10.1.0.0/16"])?)
        .vpc(VpcSpec::client("c", "eu-west-1", &["10.3.0.0/16"])?)
        .build()?;
    let mut region = Region::from(lab);
    let (hub, peer) = (region.gateway("hub/vpn-hub")?, region.gateway("c/nat-vpn")?);
    let conf = hand_written(&peer, &region.lab.vpc_id("c")?, &hub, region.lab.psk())?;
    peer.write_file("/etc/swanctl/conf.d/hub.conf", &conf, 0o600)?;
    // No agent runs there.
    region.lab.source_dest_check(&peer, false)?;
    peer.use_strongswan(&debian_13)?;
    peer.start_charon()?;
    for name in ["hub/vpn-hub", "a/nat-vpn"] {
        region.boot(&region.gateway(name)?)?;
    }
    region.settle()?;

    let pairs = [("c/host", "a/host"), ("a/host", "c/host"), ("c/host", "hub/host"), ("hub/host", "c/host")];
    let streams = pairs.iter().map(|(from, to)| stream(&region, from, to)).collect::<Result<Vec<_>>>()?;
    rekey(&peer)?;
    rekey(&hub)?;
    // The narrower selectors of the peer are no reason to make its tunnel anew, again and again.
    for _ in 0..3 {
        let report = refresh(&hub)?;
        ensure!(report["outcome"] == "unchanged" && lines(&report, "steps").is_empty(), "{report:#}");
    }
    streams.into_iter().try_for_each(|stream| unharmed(stream, "rekeyed by either end").map(drop))?;
    let policies = peer.run("ip", &["xfrm", "policy"], "")?.ok()?.stdout;
    ensure!(policies.contains("dst 10.1.0.0/16") && !policies.contains("if_id"), "{policies}");
    // Either end makes it again when it is gone.
    reconnect(&region, &peer)?;
    let addresses = (region.lab.host("c/host")?, region.lab.host("a/host")?);
    ensure!(addresses.0.whoami_tcp(addresses.1.address)? == addresses.0.address, "the source's address");
    Ok(())
}
