//! The Elastic IP that settings ask for.
//!
//! It comes after everything that this gateway can show to work without a tunnel, and before every tunnel and route: peers know a
//! gateway by its address, so a tunnel that was made before would break when the address changes. What an instance has that runs
//! is never taken, and a gateway that is in use keeps the address it has.

use std::{fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{
    model::{AddressHolder, AllocationId, AssociationId, ElasticIp},
    observed::Observed,
    settings::Settings,
};

/// What becomes of this gateway's Elastic IP.
#[derive(Debug, Clone, Default)]
pub enum OwnAddress {
    /// Nothing: settings ask for none, or EC2 did not answer and this gateway is in use.
    #[default]
    Unasked,
    /// This gateway should take one of these.
    Take(TakeAddress),
    /// It is so, and stays so.
    Is(AddressIs),
}

/// The addresses of which this gateway should take one. `Display` is what an operator reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeAddress {
    /// What may be taken, the best first. There is at least one.
    pub candidates: Vec<Candidate>,
    /// Whether charon must have been seen to work before.
    pub needs_charon: bool,
    /// The public address that this gateway gives up.
    pub instead_of: Option<Ipv4Addr>,
}

/// An Elastic IP that no running instance has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its allocation id.
    pub allocation: AllocationId,
    /// The address.
    pub address: Ipv4Addr,
    /// Its association with an instance that does not run, which has to end before.
    pub left: Option<AssociationId>,
}

/// How the Elastic IP is, for the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressIs {
    /// This gateway has it, by EC2's own answer and that of IMDS.
    Here(AllocationId),
    /// This gateway does not take it, because it is in use under another address; a sentence.
    Kept(String),
    /// This gateway cannot take it yet, and makes no tunnel and takes no route before; a phrase.
    Waits(String),
}

impl OwnAddress {
    /// Whether this gateway has no address of its own yet.
    pub fn is_awaited(&self) -> bool {
        self.awaited().is_some()
    }

    /// A phrase that says what routes wait for, if this gateway has no address of its own yet.
    pub fn awaited(&self) -> Option<String> {
        let waits = matches!(self, OwnAddress::Take(_) | OwnAddress::Is(AddressIs::Waits(_)));
        waits.then(|| "this gateway's Elastic IP comes first".to_owned())
    }
}

/// Decides on the Elastic IP.
pub fn address(settings: &Settings, observed: &Observed) -> OwnAddress {
    let (Some(wanted), Some(asked)) = (&settings.address, &observed.addresses) else { return OwnAddress::Unasked };
    let me = &observed.me;
    let is = OwnAddress::Is;
    let in_use = || {
        let public = me.public.map_or("no public address".to_owned(), |public| public.to_string());
        AddressIs::Kept(format!(
            "this gateway is in use with {public}, and taking {wanted} would cut it off. Replace this gateway, or associate the \
             address by hand when that suits you"
        ))
    };
    let all = match asked {
        Ok(all) => all,
        Err(_) if works(observed) => return OwnAddress::Unasked,
        Err(_) => return is(AddressIs::Waits("EC2 did not say who has it".into())),
    };
    let own = |holder: &&AddressHolder| {
        holder.instance.as_ref() == Some(&me.instance) && holder.private.is_none_or(|private| private == me.private)
    };
    if let Some(mine) = all.iter().find(|ip| ip.holder.as_ref().filter(own).is_some()) {
        return match me.public {
            Some(public) if public == mine.address => is(AddressIs::Here(mine.allocation.clone())),
            _ if works(observed) => is(in_use()),
            _ => is(AddressIs::Waits(format!("{} is associated, and IMDS does not show it yet", mine.allocation))),
        };
    }
    if works(observed) {
        return is(in_use());
    }
    let candidate = |ip: &ElasticIp, left| Candidate { allocation: ip.allocation.clone(), address: ip.address, left };
    let free = all.iter().filter(|ip| ip.holder.is_none()).map(|ip| candidate(ip, None));
    let left = all.iter().filter_map(|ip| {
        let holder = ip.holder.as_ref().filter(|holder| holder.stopped)?;
        Some(candidate(ip, Some(holder.association.clone())))
    });
    let candidates: Vec<Candidate> = free.chain(left).collect();
    if !candidates.is_empty() {
        let (needs_charon, instead_of) = (settings.mode.has_ipsec(), me.public);
        return OwnAddress::Take(TakeAddress { candidates, needs_charon, instead_of });
    }
    let held = |ip: &ElasticIp| {
        let by = ip.holder.as_ref().and_then(|holder| holder.instance.as_ref());
        let by = by.map_or("something that is no instance".to_owned(), |by| format!("{by}, which runs"));
        format!("{} is associated with {by}", ip.allocation)
    };
    let why: Vec<String> = all.iter().take(5).map(held).collect();
    let why =
        if why.is_empty() { format!("this account does not have {wanted} in {}", me.region) } else { why.join("; ") };
    is(AddressIs::Waits(why))
}

/// Whether packets depend on the address that this gateway has: a tunnel is up, or a route of the VPC leads here.
fn works(observed: &Observed) -> bool {
    let sas = observed.system.charon.iter().flat_map(|charon| &charon.sas);
    let tunnel = sas.flat_map(|sa| &sa.children).any(|child| child.is_up());
    let own = observed.own_interface().map(|own| &own.id);
    let tables = observed.vpc.iter().flatten().flat_map(|vpc| vpc.tables.values());
    tunnel || tables.flat_map(|table| table.routes.values()).any(|route| route.target.is(&observed.me.instance, own))
}

impl fmt::Display for TakeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> =
            self.candidates.iter().map(|one| format!("{} ({})", one.address, one.allocation)).collect();
        write!(f, "take the Elastic IP {}", names.join(" or "))?;
        self.instead_of.map_or(Ok(()), |public| write!(f, " instead of {public}"))
    }
}

#[cfg(test)]
mod tests;
