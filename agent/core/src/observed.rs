//! The first stage's value: everything that one pass has found out before it decides.
//!
//! "Could not ask" is never "nothing there": a missing answer is an `Err`, a `None` whose documentation says so, or a line
//! of [`Observed::unasked`].

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    forwarding::Traffic,
    model::{
        Answers, AskError, ElasticIp, Identity, Interface, OwnInterface, OwnKeys, OwnTags, OwnVpc, Secret, SegmentTag,
        Timestamp, VpcId,
    },
    pair::PairStatus,
    settings::Settings,
    state::State,
    system::System,
};

/// What one pass has found out.
#[derive(Debug)]
pub struct Observed {
    /// When this pass began to look.
    pub now: Timestamp,
    /// Who this gateway is: from IMDS, or as remembered while IMDS does not answer.
    pub me: Identity,
    /// A phrase that says where this instance has a public address, if its first interface has none.
    pub elsewhere: Option<String>,
    /// The default route's interface.
    pub uplink: Interface,
    /// What the last good pass of this gateway left behind.
    pub state: State,
    /// What each listed region answered; empty where the mode asks for nothing.
    pub answers: Answers,
    /// The pre-shared keys that could be read.
    pub psks: Psks,
    /// This gateway's own keys; `None` if it has none, or settings allow none.
    pub own: Option<OwnKeys>,
    /// What EC2 shows of the own instance; `None` where EC2 was not asked, `Err` where it did not answer.
    pub tags: Option<Result<OwnTags, AskError>>,
    /// The own VPC's route tables; `None` where EC2 was not asked, `Err` where it did not answer.
    pub vpc: Option<Result<OwnVpc, AskError>>,
    /// What the own VPC's tag says of its segment; `None` where EC2 was not asked, `Err` where it did not answer.
    pub segment: Option<Result<SegmentTag, AskError>>,
    /// What `crosswan pair` hears of the other member just now; `None` where it does not run, or has no other member.
    pub heard: Option<PairStatus>,
    /// Whether the role has refused to let this gateway announce its key, since boot or since it last did.
    pub may_not_announce: bool,
    /// The Elastic IPs that settings ask for; `None` if they ask for none, `Err` where EC2 did not answer.
    pub addresses: Option<Result<Vec<ElasticIp>, AskError>>,
    /// The managed files, charon and iptables.
    pub system: System,
    /// What this gateway should forward.
    pub traffic: Traffic,
    /// What else could not be asked, a line each.
    pub unasked: Vec<String>,
    /// What else on this host stops or changes packets, or will, a line each.
    pub stopped: Vec<String>,
    /// Errors that did not keep the pass from looking further, a line each.
    pub problems: Vec<String>,
    /// Things that an operator should know and that are not failures, a line each.
    pub notes: Vec<String>,
}

impl Observed {
    /// EC2's source/destination check of the own instance; `None` if that is not known.
    pub fn source_dest_check(&self) -> Option<bool> {
        self.tags.as_ref()?.as_ref().ok()?.source_dest_check
    }

    /// Whether EC2 shows another running gateway of the own kind in the VPC, with which this one could be a pair.
    pub fn has_company(&self) -> bool {
        self.vpc.iter().flatten().flat_map(|vpc| &vpc.members).any(|members| !members.is_empty())
    }

    /// The own instance's first interface in EC2; `None` if that is not known.
    pub fn own_interface(&self) -> Option<&OwnInterface> {
        self.tags.as_ref()?.as_ref().ok()?.interface.as_ref()
    }

    /// What is known before anything but IMDS has been asked.
    pub fn new(settings: &Settings, me: Identity, uplink: Interface, now: Timestamp) -> Observed {
        Observed {
            now,
            elsewhere: None,
            state: State::default(),
            answers: Answers::new(),
            psks: Psks::default(),
            own: None,
            tags: None,
            vpc: None,
            segment: None,
            heard: None,
            may_not_announce: false,
            addresses: None,
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
    /// The pre-shared keys that only one client VPC has.
    pub of: BTreeMap<VpcId, Psk>,
    /// The pre-shared key of every VPC that has none of its own.
    pub shared: Psk,
    /// Why there is no pre-shared key at all, if there is none.
    pub missing: Option<String>,
}

/// The pre-shared key of one peer, and what is wrong with its source.
#[derive(Debug, Clone, Default)]
pub struct Psk {
    /// The pre-shared key; `None` if there is none that can be used.
    pub secret: Option<Secret>,
    /// Why the configured pre-shared key cannot be used. `secret` is then the one in use so far, if there is one.
    pub problem: Option<String>,
}

impl Psks {
    /// The pre-shared key for the tunnel of this client VPC.
    pub(crate) fn for_client(&self, vpc: &VpcId) -> &Psk {
        self.of.get(vpc).unwrap_or(&self.shared)
    }
}

/// The client VPCs that may get a tunnel in a pass of the hub. For a region that did not answer, they are those of its last
/// good answer.
pub fn clients(answers: &Answers, state: &State, me: &Identity) -> BTreeSet<VpcId> {
    let views = answers.values().flatten().chain(state.regions.values().map(|last| &last.view));
    let vpcs = views.flat_map(|view| &view.gateways).map(|gateway| &gateway.vpc).chain(state.peers.keys());
    vpcs.filter(|vpc| **vpc != me.vpc).cloned().collect()
}
