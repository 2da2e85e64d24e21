//! A client VPC with two gateways, of which EC2 shows one at a time: a peer that comes, moves to another address and goes.

use std::sync::Arc;

use anyhow::{Context, Result};
use crosswan_core::model::child_name;
use crosswan_lab::{Gateway, Lab, Role};

use crate::{
    look::{ask, sas},
    region::{Region, UP, eventually, refresh},
};

/// Where it is, to EC2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Nowhere,
    First,
    Second,
}

/// VPC `c`, 10.3.0.0/16.
pub struct Peer {
    pub first: Arc<Gateway>,
    pub second: Arc<Gateway>,
}

impl Peer {
    pub const VPC: &str = "c";
    pub const CIDR: &str = "10.3.0.0/16";

    /// Adds it to a lab, nowhere yet.
    pub fn launch(lab: &Lab) -> Result<Peer> {
        lab.add_client(Peer::VPC, "eu-west-1", &[Peer::CIDR])?;
        let peer = Peer { first: lab.gateway("c/nat-vpn")?, second: lab.add_gateway(Peer::VPC, Role::NatVpn)? };
        peer.tag(lab, At::Nowhere)?;
        Ok(peer)
    }

    /// Tells EC2 where it is.
    pub fn tag(&self, lab: &Lab, at: At) -> Result<()> {
        let gateways = [(&self.first, at == At::First), (&self.second, at == At::Second)];
        let service = |on| Some(if on { "nat" } else { "off" });
        gateways.into_iter().try_for_each(|(gateway, on)| lab.tag(gateway, "service", service(on)))
    }

    /// Brings a hub there, undisturbed.
    pub fn is(&self, region: &Region, hub: &Gateway, at: At) -> Result<()> {
        self.tag(&region.lab, at)?;
        refresh(hub).map(drop)
    }

    /// The hub's IKE_SAs with it.
    pub fn sas(lab: &Lab, hub: &Gateway) -> Result<usize> {
        let prefix = format!("crosswan-{}-", lab.vpc_id(Peer::VPC)?);
        Ok(sas(hub)?.iter().filter(|sa| sa.conn.starts_with(&prefix) && !sa.children.is_empty()).count())
    }

    /// Makes sure of an SA between a hub that knows it and whichever gateway it knows.
    pub fn connect(lab: &Lab, hub: &Gateway) -> Result<()> {
        if Peer::sas(lab, hub)? == 0 {
            let prefix = format!("crosswan-{}-", lab.vpc_id(Peer::VPC)?);
            let child = child_name(&Peer::CIDR.parse()?);
            let loaded = ask(hub, async |vici| vici.list_conns().await)?;
            let mut used = loaded.iter().filter(|(name, conn)| name.starts_with(&prefix) && !conn.children.is_empty());
            let name = used.next().map(|(name, _)| name.clone()).context("no connection to the peer")?;
            ask(hub, async |vici| vici.initiate(&name, Some(&child), Some(UP)).await)?;
            eventually(UP, "the peer's SA", || Ok(Peer::sas(lab, hub)? == 1))?;
        }
        Ok(())
    }
}
