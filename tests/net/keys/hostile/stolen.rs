//! A private key in the wrong hands: rotated, replaced, or used by another VPC's gateway.

use anyhow::{Result, ensure};
use crosswan_faults::look::{all_well, ask, sas};
use crosswan_lab::Auth;

use super::{Claim, Evil, NOBODY, accepted, bystanders, identity, undisturbed};
use crate::{
    keys::{
        announced, ring,
        rotation::{proved, rotate},
    },
    region::{Region, UP, lines, refresh, refresh_with},
};

const OTHERS: [(&str, &str); 2] = [("b/host", "hub/host"), ("hub/host", "b/host-2")];

/// From the gateway that it was stolen from: with the right address and the right identity.
#[test]
fn an_old_key_that_was_stolen_is_worth_nothing_after_the_rotation() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let others = bystanders(&region, &OTHERS)?;
    let (hub, a) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let stolen = ring(&a)?.current;
    rotate(&a)?;
    refresh(&hub)?;
    // In the middle both keys count.
    let next = ring(&a)?.next.map(|key| key.public);
    ensure!(accepted(&hub, &region.lab.vpc_id("a")?)?.is_some_and(|keys| keys.contains(&stolen.public.to_string())));
    let evil = Evil::takes_over(&mut region, "a")?;
    evil.brings(&stolen)?;
    let claim = |name| Claim { name, id: &evil.id, key: stolen.public, ts: "10.1.0.0/16" };
    evil.is_taken(&claim("stolen-early"))?;
    // The owner's agent and keep are back for as long as the proof takes.
    let keep = a.spawn_agent(&["keep"])?;
    refresh(&a)?;
    proved(&a)?;
    refresh(&a)?;
    refresh(&hub)?;
    drop(keep);
    ensure!(Some(ring(&a)?.current.public) == next && announced(&region.lab, &a)?.len() == 1);
    ensure!(accepted(&hub, &evil.vpc)?.is_some_and(|keys| !keys.contains(&stolen.public.to_string())));

    evil.is_refused(&claim("stolen"), NOBODY)?;
    evil.is_taken(&Claim { name: "new", key: ring(&a)?.current.public, ..claim("") })?;
    // Once loaded, charon still accepts it as a key of this peer; `pubkeys` in the connection refuses it. Without `pubkeys`, as in
    // a foreign connection:
    let hubs = hub.public().map(|address| address.to_string()).unwrap_or_default();
    let careless = format!(
        "connections {{ careless {{\nversion = 2\nlocal_addrs = {}\nremote_addrs = {}\nencap = yes\nunique = never
           local {{ auth = pubkey\n id = {hubs}\n pubkeys = 0s{} }}
           remote {{ auth = pubkey\n id = {} }}
           children {{ careless {{ local_ts = 10.0.0.0/8\n remote_ts = 10.1.0.0/16 }} }} }} }}\n",
        hub.address,
        a.public().map(|address| address.to_string()).unwrap_or_default(),
        ring(&hub)?.current.public,
        evil.id,
    );
    hub.write_file("/etc/swanctl/conf.d/careless.conf", &careless, 0o600)?;
    hub.swanctl(&["--load-conns"])?;
    let (code, said) = evil.tries(&claim("stolen-late"))?;
    let by: Vec<_> = ask(&hub, async |vici| vici.sas().await)?.into_iter().filter(|sa| sa.conn == "careless").collect();
    println!("a connection without pubkeys: exit {code}, {} IKE_SA", by.len());
    ensure!(code == 0 && by.len() == 1, "charon has forgotten the key: say so in docs/facts.md\n{said}");
    undisturbed(others, "a stolen key was tried")
}

/// The other way to get rid of a key: at once, by a new one that an operator accepts. A session that was made with the old
/// key is ended and cannot be made again.
#[test]
fn a_key_that_was_replaced_takes_its_live_sa_along() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let others = bystanders(&region, &OTHERS)?;
    let evil = Evil::takes_over(&mut region, "a")?;
    let stolen = ring(&evil.gateway)?.current;
    evil.brings(&stolen)?;
    let claim = Claim { name: "stolen", id: &evil.id, key: stolen.public, ts: "10.1.0.0/16" };
    evil.is_taken(&claim)?;
    let live = |evil: &Evil| -> Result<Vec<u32>> {
        let its = sas(&evil.hub)?.into_iter().filter(|sa| sa.conn.contains(&evil.vpc));
        Ok(its.map(|sa| sa.id).collect())
    };
    let before = live(&evil)?;

    std::fs::remove_file(evil.gateway.path("/etc/swanctl/private/crosswan.pem"))?;
    refresh(&evil.gateway)?;
    let fresh = ring(&evil.gateway)?.current.public;
    let report = refresh(&evil.hub)?;
    let refused = report["refused"].to_string();
    ensure!(refused.contains(&fresh.fingerprint()) && refused.contains(&stolen.public.fingerprint()), "{report:#}");
    ensure!(live(&evil)? == before, "nobody has said that the new key is right");
    let right = format!("{}={}", evil.vpc, fresh.fingerprint());
    let wrong = format!("{}={}", evil.vpc, stolen.public.fingerprint());
    let report = refresh_with(&evil.hub, &["--accept-key", &wrong], 0)?;
    ensure!(lines(&report, "steps").is_empty() && live(&evil)? == before, "another key was named: {report:#}");
    let report = refresh_with(&evil.hub, &["--accept-key", &right], 0)?;
    ensure!(report["steps"].to_string().contains("the peer's key was replaced"), "{report:#}");
    ensure!(live(&evil)?.iter().all(|id| !before.contains(id)), "an SA made with the old key is still there");
    evil.is_refused(&claim, NOBODY)?;

    // The owner comes back.
    std::fs::remove_file(evil.gateway.path(super::EVIL))?;
    std::fs::remove_file(evil.gateway.path(super::KEY))?;
    evil.gateway.start_charon()?;
    refresh(&evil.gateway)?;
    region.keepers.insert(evil.gateway.name.clone(), evil.gateway.spawn_agent(&["keep"])?);
    all_well(&region, UP)?;
    undisturbed(others, "a key was replaced")
}

/// Another VPC's private key, read from its disk or a snapshot of it, on a gateway with a valid one of its own.
#[test]
fn the_key_of_another_vpc_makes_nobody_that_vpc() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let others = bystanders(&region, &OTHERS)?;
    let evil = Evil::takes_over(&mut region, "a")?;
    let (b, vpc_b) = (region.gateway("b/nat-vpn")?, region.lab.vpc_id("b")?);
    let (mine, theirs) = (ring(&evil.gateway)?.current, ring(&b)?.current);
    evil.brings(&theirs)?;
    let own = Claim { name: "honest", id: &evil.id, key: mine.public, ts: "10.1.0.0/16" };
    evil.is_taken(&own)?;
    // Its own identity with the other key; and the other's identity, key and CIDR, but not its address.
    evil.is_refused(&Claim { name: "key-theirs", key: theirs.public, ..own }, NOBODY)?;
    let id_b = identity(&vpc_b, &b);
    let all = Claim { name: "all-theirs", id: &id_b, key: theirs.public, ts: "10.2.0.0/16" };
    evil.is_refused(&all, NOBODY)?;

    // As crosswan's own key file it is replaced: another instance has made it. With that line forged it is announced.
    let file = "/etc/swanctl/private/crosswan.pem";
    let text = std::str::from_utf8(theirs.text.bytes())?.to_owned();
    evil.gateway.write_file(file, &text, 0o600)?;
    refresh(&evil.gateway)?;
    ensure!(![mine.public, theirs.public].contains(&ring(&evil.gateway)?.current.public));
    evil.gateway.write_file(file, &text.replace(&b.instance, &evil.gateway.instance), 0o600)?;
    refresh(&evil.gateway)?;
    ensure!(announced(&region.lab, &evil.gateway)? == [theirs.public]);
    let report = refresh(&evil.hub)?;
    let why = format!("holds the private key of {} in {vpc_b} {}", b.instance, theirs.public.fingerprint());
    ensure!(report["refused"].to_string().contains(&why), "{report:#}");
    ensure!(accepted(&evil.hub, &evil.vpc)? == Some(format!("0s{}", mine.public)));
    ensure!(accepted(&evil.hub, &vpc_b)? == Some(format!("0s{}", theirs.public)));
    undisturbed(others, "another's key was used")
}
