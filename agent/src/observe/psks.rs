//! Pre-shared keys: those from files, those stored in AWS, and those in use.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{debug, info};

use super::{ec2, store};
use crate::settings::PreSharedKeys;
use crosswan_core::{
    model::{Mode, Secret, VpcId},
    observed::{Observed, Psk, Psks, clients},
    settings::{Settings, StoreUnasked},
    system::System,
};

/// The configured pre-shared keys, with those that are stored in AWS.
pub(super) struct Stored {
    pub keys: PreSharedKeys,
    /// The keys for which a store could not be asked.
    pub unasked: Vec<StoreUnasked>,
}

/// Fetches the pre-shared keys that are stored in AWS, if any are.
pub(super) async fn fetch(
    clients: &ec2::Clients,
    settings: &Settings,
    keys: &PreSharedKeys,
    observed: &Observed,
) -> Stored {
    let Some((stored, names)) = keys.to_fetch(&wanted(settings, observed)) else {
        return Stored { keys: keys.clone(), unasked: Vec::new() };
    };
    info!(store = %stored, names = names.len(), "fetching pre-shared keys");
    let fetched = store::fetch(clients, stored, &names, &observed.me.region, settings.ec2.timeout).await;
    debug!(stage = "observe keys", "done");
    let (keys, unasked) = keys.with(fetched, settings.mode != Mode::VpnHub);
    Stored { keys, unasked }
}

/// The client VPCs whose tunnels may need a pre-shared key: on the hub all that may get a tunnel, on a spoke its own.
fn wanted(settings: &Settings, observed: &Observed) -> BTreeSet<VpcId> {
    match settings.mode {
        Mode::VpnHub => clients(&observed.answers, &observed.state, &observed.me),
        Mode::NatVpn | Mode::NatHub => BTreeSet::from([observed.me.vpc.clone()]),
    }
}

impl Stored {
    /// A pre-shared key for each client. If a client's configured key cannot be used, the key in use stays.
    pub(super) fn by_client(&self, settings: &Settings, observed: &Observed) -> Psks {
        let in_use = in_use(&observed.system);
        let psk = |vpc: &VpcId| match self.keys.for_peer(vpc) {
            Ok(key) => Psk { secret: Some(key), problem: None },
            Err(problem) => Psk { secret: in_use.get(vpc).cloned(), problem: Some(problem) },
        };
        let clients = wanted(settings, observed).into_iter().chain(in_use.keys().cloned());
        let of = clients.map(|vpc| (vpc.clone(), psk(&vpc))).collect();
        Psks { of, shared: Psk::default(), missing: self.keys.missing().map(str::to_owned) }
    }
}

/// The pre-shared keys in the secrets file, by client VPC.
fn in_use(system: &System) -> BTreeMap<VpcId, Secret> {
    let owned = system.believed.secrets.values().flat_map(|s| s.owners.iter().map(|o| (o, &s.secret)));
    let of_spoke = |owner: &str| owner.split_once('/')?.0.parse().ok();
    owned.filter_map(|(owner, secret)| Some((of_spoke(owner)?, secret.clone()))).collect()
}
