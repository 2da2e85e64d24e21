//! An attacker who may write tags or launch: a forged key, and a newcomer whose CIDR is another's.

use anyhow::{Context, Result, ensure};
use crosswan_core::model::{Holder, KEY_TAG, NEXT_KEY_TAG, PrivateKey, Timestamp};
use crosswan_faults::look::{all_well, ask, sas};
use crosswan_lab::Auth;
use serde_json::Value;

use super::{Claim, Evil, UNKNOWN, accepted, bystanders, identity, undisturbed};
use crate::{
    keys::{announced, ring},
    region::{Region, UP, eventually, lines, refresh, refresh_with},
};

const OTHERS: [(&str, &str); 3] = [("a/host", "hub/host"), ("b/host", "a/host"), ("hub/host", "b/host-2")];

/// What the report refuses of a VPC, all of it.
fn refused(report: &Value, vpc: &str) -> String {
    let of_vpc = report["refused"].as_array().into_iter().flatten().filter(|entry| entry["vpc"] == vpc);
    of_vpc.map(Value::to_string).collect()
}

/// The attacker has a key pair and may write A's key tag, and nothing else.
#[test]
fn a_forged_key_tag_is_refused_with_both_fingerprints() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let (hub, a) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let vpc = region.lab.vpc_id("a")?;
    let known = ring(&a)?.current.public;
    // Both ends may have made one; keep soon ends the second.
    all_well(&region, UP)?;
    let (before, said) = (sas(&hub)?.into_iter().map(|sa| sa.id).collect::<Vec<_>>(), announced(&region.lab, &a)?);
    let others = bystanders(&region, &OTHERS)?;
    // The attacker's key pair is real, and can sign whatever it likes about A.
    let id = a.instance.parse()?;
    let pair = PrivateKey::from_seed(&[0x5a; 32], &id, Timestamp(0)).context("a key pair")?;
    let another = PrivateKey::from_seed(&[0x5b; 32], &id, Timestamp(0)).context("a key pair")?;
    let of_vpc = vpc.parse()?;
    let holder = Holder { vpc: &of_vpc, instance: &id };
    let forged = pair.public;
    let proven = pair.proven(&holder).context("a proof")?.to_string();
    let follows = pair.succeeded_by(&another, &holder).context("a succession")?;
    let (key_tag, signature) = (region.lab.tag_of(&a, KEY_TAG)?.unwrap_or_default(), follows.proof);
    for (key, next) in [
        // Its own key, with all it can sign; and with A's signature under it.
        (proven.clone(), "none".to_owned()),
        (key_tag.replace(&known.to_string(), &forged.to_string()), "none".to_owned()),
        // Its own key to follow A's, which it cannot sign for A.
        (key_tag.clone(), format!("{forged} {signature} {signature}")),
        (key_tag.clone(), follows.to_string()),
        (proven, format!("{known} {signature} {signature}")),
    ] {
        region.lab.tag(&a, KEY_TAG, Some(&key))?;
        region.lab.tag(&a, NEXT_KEY_TAG, Some(&next))?;
        let report = refresh(&hub)?;
        let why = refused(&report, &vpc);
        ensure!(!why.is_empty(), "{key}, {next}: {report:#}");
        ensure!(lines(&report, "steps").is_empty(), "{key}, {next}: {report:#}");
        ensure!(accepted(&hub, &vpc)? == Some(format!("0s{known}")), "{key}, {next}");
    }
    // What the hub remembers may be lost: its own files still know the key, and whose it is.
    for lost in ["", "{\"peers\": 7}", "{\"identity\": null, \"regions\""] {
        hub.write_file("/var/lib/crosswan/state.json", lost, 0o600)?;
        let report = refresh(&hub)?;
        ensure!(lines(&report, "steps").is_empty() && !refused(&report, &vpc).is_empty(), "{lost}: {report:#}");
        ensure!(accepted(&hub, &vpc)? == Some(format!("0s{known}")), "{lost}");
    }
    // A forged key of the hub is not believed either.
    let (b, hubs) = (region.gateway("b/nat-vpn")?, ring(&hub)?.current.public);
    let hub_id = hub.instance.parse()?;
    let hub_vpc = region.lab.vpc_id("hub")?.parse()?;
    let as_hub = pair.proven(&Holder { vpc: &hub_vpc, instance: &hub_id }).context("a proof")?;
    region.lab.tag(&hub, KEY_TAG, Some(&as_hub.to_string()))?;
    let why = refresh(&b)?["refused"].to_string();
    ensure!(why.contains(&hubs.fingerprint()) && why.contains(&forged.fingerprint()), "{why}");
    ensure!(!b.read_file("/etc/swanctl/conf.d/crosswan.conf")?.contains(&forged.to_string()));

    // The gateway that owns the tags reports the forgery and writes them again.
    let report = refresh(&a)?;
    let notes = report["notes"].to_string();
    ensure!(notes.contains(&known.fingerprint()) && notes.contains(&forged.fingerprint()), "{report:#}");
    ensure!(announced(&region.lab, &a)? == said);
    let report = refresh(&hub)?;
    ensure!(refused(&report, &vpc).is_empty(), "{report:#}");
    // charon leaves out of its list what it works on.
    eventually(UP, "no tunnel is made anew", || {
        Ok(sas(&hub)?.into_iter().map(|sa| sa.id).collect::<Vec<_>>() == before)
    })?;
    undisturbed(others, "key tags were forged")
}

/// A newcomer, with a key and all, whose VPC has another's CIDR, a part of it, or the hub's. The CIDRs are what EC2 says of
/// the VPC: no tag has any.
#[test]
fn a_newcomer_with_anothers_cidr_is_refused_and_harms_nobody() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let hub = region.gateway("hub/vpn-hub")?;
    let others = bystanders(&region, &OTHERS)?;
    let holders = [("hub", "10.0.0.0/16"), ("a", "10.1.0.0/16"), ("b", "10.102.0.0/16")];
    for (name, cidr, (holder, held)) in
        [("c", "10.1.0.0/16", holders[1]), ("d", "10.102.128.0/20", holders[2]), ("e", "10.0.128.0/20", holders[0])]
    {
        region.lab.add_client(name, "eu-west-1", &[cidr])?;
        let (gateway, vpc) = (region.gateway(&format!("{name}/nat-vpn"))?, region.lab.vpc_id(name)?);
        gateway.start_charon()?;
        refresh(&gateway)?;
        let report = refresh(&hub)?;
        let why = refused(&report, &vpc);
        let whose = if holder == "hub" { "the hub's own VPC".to_owned() } else { region.lab.vpc_id(holder)? };
        ensure!(why.contains(&format!("overlaps {held} of {whose}")), "{why}");
        ensure!(accepted(&hub, &vpc)?.is_none(), "{report:#}");
        let evil = Evil::takes_over(&mut region, name)?;
        let claim = Claim { name: "newcomer", id: &evil.id, key: evil.own_key()?, ts: cidr };
        evil.is_refused(&claim, UNKNOWN)?;
        let b = identity(&region.lab.vpc_id("b")?, &*region.gateway("b/nat-vpn")?);
        evil.is_refused(&Claim { name: "as-b", id: &b, ..claim }, UNKNOWN)?;
    }
    // One that asks for something of its own, too, gets only that.
    region.lab.add_client("f", "eu-west-1", &["10.6.0.0/16", "10.2.64.0/20"])?;
    let f = region.gateway("f/nat-vpn")?;
    f.start_charon()?;
    refresh(&f)?;
    let report = refresh(&hub)?;
    let vpc = region.lab.vpc_id("f")?;
    ensure!(refused(&report, &vpc).contains("overlaps 10.2.0.0/16"), "{report:#}");
    let evil = Evil::takes_over(&mut region, "f")?;
    let own = Claim { name: "own", id: &evil.id, key: evil.own_key()?, ts: "10.6.0.0/16" };
    evil.is_taken(&own)?;
    evil.is_refused(&Claim { name: "theirs", ts: "10.2.64.0/20", ..own }, "TS_UNACCEPTABLE")?;
    let conns = ask(&hub, async |vici| vici.list_conns().await)?;
    ensure!(conns.keys().filter(|name| name.starts_with("crosswan-vpc-")).count() == 3, "{conns:?}");
    refresh_with(&hub, &[], 0)?;
    undisturbed(others, "newcomers claimed others' CIDRs")
}
