//! Routers follow EC2: what an agent changes there decides about the next packet, or about those after a delay.
//!
//! The lab makes each VPC's network known here, and the proxy says what was changed through it. What the lab changes itself it syncs itself.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::ec2::{Ec2, VpcView};
use crate::http::decoded;
use crate::lock;
use crate::proxy::call::Call;
use crate::router::Router;

/// Changes that decide about packets.
const DECIDE: [&str; 7] = [
    "ModifyInstanceAttribute",
    "ModifyNetworkInterfaceAttribute",
    "CreateRoute",
    "ReplaceRoute",
    "DeleteRoute",
    "AssociateAddress",
    "DisassociateAddress",
];
/// EC2 promises no time at all; a test that waits longer waits for nothing.
const LONGEST: Duration = Duration::from_secs(5);

/// Whether a call changes where packets go.
pub fn decides(call: &Call) -> bool {
    call.service == "ec2" && DECIDE.contains(&call.action.as_str())
}

/// A VPC's router, and what is needed to make it fit EC2.
#[derive(Debug)]
pub struct Network {
    region: String,
    id: String,
    ec2: Ec2,
    /// The router.
    pub router: Router,
    /// The VPC as EC2 told it last; IMDS answers from it.
    pub view: Arc<Mutex<VpcView>>,
    /// Whether the VPC is gone. Held while the view is read and applied, so that an older one is never applied after a newer one.
    gone: Mutex<bool>,
}

impl Network {
    /// Of a VPC that is in EC2.
    pub fn new(region: &str, id: &str, ec2: Ec2, router: Router) -> Network {
        let (region, id) = (region.to_string(), id.to_string());
        Network { region, id, ec2, router, view: Arc::default(), gone: Mutex::new(false) }
    }

    /// Reads the VPC from EC2 and makes routes, NAT, checks, public addresses and IMDS fit.
    pub fn sync(&self) -> Result<()> {
        let gone = lock(&self.gone);
        ensure!(!*gone, "{} is gone", self.id);
        let view = self.ec2.vpc(&self.region, &self.id)?;
        self.router.apply(&view)?;
        self.router.announce(&view)?;
        *lock(&self.view) = view;
        Ok(())
    }

    /// From now on it stays as it is: the VPC is about to be deleted.
    pub fn retire(&self) {
        *lock(&self.gone) = true;
    }

    /// As [`Network::sync`], for the proxy, which has nobody to tell an error.
    fn follow(&self) {
        if let Err(error) = self.sync() {
            // A VPC may be deleted at any time.
            let gone = *lock(&self.gone);
            if !gone {
                eprintln!("lab: the router of {} does not follow EC2: {error:#}", self.id);
            }
        }
    }

    /// Whether one of these is an id of this VPC.
    fn has(&self, ids: &[String]) -> bool {
        let view = lock(&self.view);
        let instances = view.instances.iter().flat_map(|i| [&i.id, &i.interface]);
        instances.chain(view.tables.iter().map(|table| &table.id)).any(|own| ids.contains(own))
    }
}

/// The networks of all VPCs. Each ends with its VPC, whatever is known here.
#[derive(Debug, Default)]
pub struct Follow {
    networks: Mutex<Vec<Weak<Network>>>,
    delay: Mutex<Duration>,
}

impl Follow {
    /// From now on this network follows what is changed through the proxy.
    pub fn add(&self, network: &Arc<Network>) {
        let mut networks = lock(&self.networks);
        networks.retain(|network| network.strong_count() > 0);
        networks.push(Arc::downgrade(network));
    }

    /// From now on packets follow a change this much later, at most five seconds.
    pub fn delay(&self, delay: Duration) {
        *lock(&self.delay) = delay.min(LONGEST);
    }

    /// After a call through the proxy has succeeded. Without a delay packets follow before this returns, and so before the caller is
    /// answered.
    pub fn changed(&self, call: &Call, form: &str) {
        if !decides(call) {
            return;
        }
        let concerned = self.concerned(call, form);
        let delay = *lock(&self.delay);
        if delay.is_zero() {
            concerned.iter().filter_map(Weak::upgrade).for_each(|network| network.follow());
            return;
        }
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            concerned.iter().filter_map(Weak::upgrade).for_each(|network| network.follow());
        });
    }

    /// The VPC that the call names by something in it. What names none, as an address does, may be about any of the region.
    fn concerned(&self, call: &Call, form: &str) -> Vec<Weak<Network>> {
        let ids: Vec<String> =
            form.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, v)| decoded(v)).collect();
        let networks: Vec<_> = lock(&self.networks).iter().filter_map(Weak::upgrade).collect();
        let (mut named, region): (Vec<_>, Vec<_>) =
            networks.iter().filter(|network| network.region == call.region).partition(|network| network.has(&ids));
        // An address may move from one VPC to another.
        if named.is_empty() || call.action.ends_with("Address") {
            named.extend(region);
        }
        named.into_iter().map(Arc::downgrade).collect()
    }
}
