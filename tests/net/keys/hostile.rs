//! The claims of `docs/security.md`: a gateway that lies, a tag that was forged, a key that was stolen. Every attempt
//! goes through real charon, and an honest attempt made in the same way succeeds.

mod claims;
mod gone;
mod spoofed;
mod stolen;
mod tags;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_core::model::{PrivateKey, PublicKey};
use crosswan_faults::look::{ask, newest_ike, sas};
use crosswan_lab::{Gateway, PingStream};
use crosswan_vici::Sas;

use super::ring;
use crate::region::{Region, UP, eventually, show};

/// Where an attacker on a gateway writes connections, and a private key of the attacker's.
const EVIL: &str = "/etc/swanctl/conf.d/evil.conf";
const KEY: &str = "/etc/swanctl/private/evil.pem";

/// A gateway that an attacker controls. Its keep has ended, so only the attacker initiates.
struct Evil {
    gateway: Arc<Gateway>,
    hub: Arc<Gateway>,
    /// Its VPC's id.
    vpc: String,
    /// The identity that the hub expects of it.
    id: String,
}

/// What charon answers to an address of which it has no connection at all, to the very first message.
const UNKNOWN: &str = "NO_PROPOSAL_CHOSEN";
/// charon's answer to a peer that fails to prove its identity, or that it does not know at that address.
const NOBODY: &str = "AUTHENTICATION_FAILED";

/// Who it says it is.
struct Claim<'a> {
    /// Of the connection: short and unique.
    name: &'a str,
    id: &'a str,
    key: PublicKey,
    /// The CIDR it asks for.
    ts: &'a str,
}

impl Evil {
    fn takes_over(region: &mut Region, vpc: &str) -> Result<Evil> {
        let (gateway, hub) = (region.gateway(&format!("{vpc}/nat-vpn"))?, region.gateway("hub/vpn-hub")?);
        region.keepers.remove(&gateway.name);
        let vpc = region.lab.vpc_id(vpc)?;
        let id = identity(&vpc, &gateway);
        Ok(Evil { gateway, hub, vpc, id })
    }

    fn own_key(&self) -> Result<PublicKey> {
        Ok(ring(&self.gateway)?.current.public)
    }

    /// Loads another private key.
    fn brings(&self, key: &PrivateKey) -> Result<()> {
        self.gateway.write_file(KEY, std::str::from_utf8(key.text.bytes())?, 0o600)
    }

    /// One attempt on the hub, and what charon said of it: the exit code and the output.
    fn tries(&self, claim: &Claim) -> Result<(i32, String)> {
        let hub = self.hub.public().context("the hub's address")?;
        let Claim { name, id, key, ts } = claim;
        let (own, hubs) = (self.gateway.address, ring(&self.hub)?.current.public);
        let text = format!(
            "connections {{ {name} {{
               version = 2
               local_addrs = {own}
               remote_addrs = {hub}
               encap = yes
               mobike = no
               local {{ auth = pubkey\n id = {id}\n pubkeys = 0s{key} }}
               remote {{ auth = pubkey\n id = {hub}\n pubkeys = 0s{hubs} }}
               children {{ {name} {{ local_ts = {ts}\n remote_ts = 10.0.0.0/8 }} }}
             }} }}\n"
        );
        self.gateway.write_file(EVIL, &text, 0o600)?;
        self.gateway.swanctl(&["--load-all", "--noprompt"])?;
        // charon would make the child over an IKE_SA that is there already.
        for sa in ask(&self.gateway, async |vici| vici.sas().await)? {
            let (id, limit) = (Sas::Ike(sa.id), Some(Duration::from_secs(2)));
            ask(&self.gateway, async |vici| vici.terminate(id, true, limit).await)?;
        }
        let tried =
            self.gateway.run("swanctl", &["--initiate", "--ike", name, "--child", name, "--timeout", "10"], "")?;
        Ok((tried.code, show(&tried)))
    }

    /// An attempt that must fail by these words of charon's.
    fn is_refused(&self, claim: &Claim, by: &str) -> Result<()> {
        // A child that both ends have made is there twice, until one of them ends it.
        let is_single = |children: &Vec<_>| BTreeSet::from_iter(children).len() == children.len();
        let mut before = Vec::new();
        eventually(UP, "no child of others is there twice", || {
            before = of_others(sas(&self.hub)?, self);
            Ok(before.iter().all(|(_, _, children)| is_single(children)))
        })?;
        let (code, said) = self.tries(claim)?;
        ensure!(code != 0 && said.contains(by), "{}: not refused by {by}: {said}", claim.name);
        // charon leaves out of its list what it works on.
        let same = eventually(UP, "the others' SAs", || Ok(of_others(sas(&self.hub)?, self) == before));
        same.with_context(|| format!("{}: another's SAs were {before:?}, and are {:?}", claim.name, sas(&self.hub)))
    }

    /// An attempt that must succeed, or the failures of the others would prove nothing.
    fn is_taken(&self, claim: &Claim) -> Result<()> {
        let newest = newest_ike(&self.hub)?;
        let (code, said) = self.tries(claim)?;
        ensure!(code == 0 && said.contains("initiate completed successfully"), "{}: {said}", claim.name);
        let conn = format!("crosswan-{}", claim.id.replace('/', "-"));
        // The SA it takes the place of may stay for some seconds, and charon leaves out of its list what it works on.
        eventually(UP, claim.name, || {
            Ok(sas(&self.hub)?.iter().any(|sa| sa.conn == conn && sa.is_established() && sa.id > newest))
        })
    }
}

/// A gateway's IKE identity.
fn identity(vpc: &str, gateway: &Gateway) -> String {
    format!("{vpc}/{}", gateway.instance)
}

/// The established SAs of all but the attacker's VPC: connection, id, their children's selectors.
fn of_others(sas: Vec<crosswan_core::system::Sa>, evil: &Evil) -> Vec<(String, u32, Vec<Vec<String>>)> {
    let others = sas.into_iter().filter(|sa| !sa.conn.contains(&evil.vpc));
    let mut all: Vec<_> =
        others.map(|sa| (sa.conn, sa.id, sa.children.into_iter().map(|child| child.remote_ts).collect())).collect();
    all.sort();
    all
}

/// Packets between others, both ways.
fn bystanders(region: &Region, pairs: &[(&str, &str)]) -> Result<Vec<PingStream>> {
    pairs.iter().map(|(from, to)| crosswan_faults::look::stream(region, from, to)).collect()
}

fn undisturbed(streams: Vec<PingStream>, what: &str) -> Result<()> {
    streams.into_iter().try_for_each(|stream| crosswan_faults::look::unharmed(stream, what).map(drop))
}

/// What the hub has loaded for a VPC: the keys it accepts, as `crosswan.conf` has them; `None` without a connection.
fn accepted(hub: &Gateway, vpc: &str) -> Result<Option<String>> {
    let conns = ask(hub, async |vici| vici.list_conns().await)?;
    let prefix = format!("crosswan-{vpc}-");
    let mut used = conns.iter().filter(|(name, conn)| name.starts_with(&prefix) && !conn.children.is_empty());
    let Some((conn, _)) = used.next() else { return Ok(None) };
    let text = hub.read_file("/etc/swanctl/conf.d/crosswan.conf")?;
    let own = text.split_once(&format!("{conn} {{")).context("loaded, but in no file")?.1;
    let remote = own.split_once("remote {").context("no remote section")?.1;
    Ok(remote.lines().find_map(|line| line.trim().strip_prefix("pubkeys = ")).map(str::to_owned))
}
