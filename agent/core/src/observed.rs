//! Stage 1's value: everything that one pass has found out before it decides.
//!
//! "Could not ask" is never "nothing there": what was not answered is an `Err`, a `None` that says so, or a line of
//! [`Observed::unasked`].

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    forwarding::Traffic,
    model::{Answers, AskError, Identity, Interface, OwnKeys, OwnTags, Secret, Timestamp, VpcId},
    settings::Settings,
    state::State,
    system::System,
};

/// What was found out.
#[derive(Debug)]
pub struct Observed {
    /// When this pass began to look.
    pub now: Timestamp,
    pub me: Identity,
    /// Where this instance's public address is, if its first interface has none.
    pub elsewhere: Option<String>,
    /// The default route's interface.
    pub uplink: Interface,
    /// What the last good pass of this gateway left behind.
    pub state: State,
    /// What each listed region answered. Empty where the mode asks nothing.
    pub answers: Answers,
    pub psks: Psks,
    /// This gateway's own keys; `None` if it has or may have none.
    pub own: Option<OwnKeys>,
    /// What EC2 shows of the own instance; `None` where it was not asked, `Err` where it could not be.
    pub tags: Option<Result<OwnTags, AskError>>,
    /// The managed files, charon and iptables.
    pub system: System,
    /// What this gateway should forward.
    pub traffic: Traffic,
    /// What else could not be asked.
    pub unasked: Vec<String>,
    /// What else on this host stops or changes packets, or will.
    pub stopped: Vec<String>,
    /// What went wrong while looking, and stopped nothing.
    pub problems: Vec<String>,
    /// Worth reading, but no failure.
    pub notes: Vec<String>,
}

impl Observed {
    /// A gateway that knows who it is, and has not looked at anything else.
    pub fn new(settings: &Settings, me: Identity, uplink: Interface, now: Timestamp) -> Observed {
        Observed {
            now,
            elsewhere: None,
            state: State::default(),
            answers: Answers::new(),
            psks: Psks::default(),
            own: None,
            tags: None,
            system: System::default(),
            traffic: Traffic::of(settings.mode, &settings.nat(&me, &uplink), &uplink),
            unasked: Vec::new(),
            stopped: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
            me,
            uplink,
        }
    }
}

/// Pre-shared keys, by the client VPC of their tunnels.
#[derive(Debug, Clone, Default)]
pub struct Psks {
    pub of: BTreeMap<VpcId, Psk>,
    /// For every VPC that has none of its own.
    pub shared: Psk,
    /// Why there is no pre-shared key at all, if there is none.
    pub missing: Option<String>,
}

/// The pre-shared key for one peer, and what is wrong with its source.
#[derive(Debug, Clone, Default)]
pub struct Psk {
    pub key: Option<Secret>,
    /// Set when the configured key cannot be used; `key` is then the one in use so far, if there is one.
    pub problem: Option<String>,
}

impl Psks {
    /// The key for the tunnel of this client VPC.
    pub fn for_client(&self, vpc: &VpcId) -> &Psk {
        self.of.get(vpc).unwrap_or(&self.shared)
    }
}

/// The client VPCs that may get a tunnel in a pass of the hub: in a region that was not heard, those of its last good answer.
pub fn clients(answers: &Answers, state: &State, me: &Identity) -> BTreeSet<VpcId> {
    let views = answers.values().flatten().chain(state.regions.values().map(|last| &last.view));
    let vpcs = views.flat_map(|view| &view.gateways).map(|gateway| &gateway.vpc).chain(state.peers.keys());
    vpcs.filter(|vpc| **vpc != me.vpc).cloned().collect()
}
