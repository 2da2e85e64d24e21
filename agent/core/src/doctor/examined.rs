//! What one look found out about this gateway, before anything is judged.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{probe::Probe, surroundings::Surroundings};
use crate::{
    decide::address,
    forwarding::{Knob, Obstacles, Problem},
    iptables::Rules,
    model::{AskError, ElasticIp, Identity, InstanceId, Interface, Keyring, Mode, OwnTags, OwnVpc, Scope, Timestamp},
    observed::Observed,
    pair::PairStatus,
    report::{FailedPass, Report},
    settings::Settings,
    state::State,
    system::{Charon, Conntrack, Followed, Routing},
};

/// What was found, or why it could not be asked. "Could not ask" is never "nothing there".
pub type Found<T> = Result<T, String>;

/// Everything that `crosswan doctor` judges.
#[derive(Debug)]
pub struct Examined {
    /// When the look began.
    pub now: Timestamp,
    /// The time by IMDS, at the same moment; `None` if it does not say.
    pub imds_time: Option<Timestamp>,
    /// Whether it was made as root.
    pub root: bool,
    /// The checked settings.
    pub settings: Found<Settings>,
    /// Who this gateway is, from IMDS.
    pub me: Found<Identity>,
    /// A phrase that says where this instance has a public address, if its first interface has none.
    pub elsewhere: Option<String>,
    /// The default route's interface.
    pub uplink: Found<Interface>,
    /// What EC2 shows of the own instance; `None` if IMDS could not be asked whose that is.
    pub own: Option<Result<OwnTags, AskError>>,
    /// The own VPC's route tables; `None` if EC2 could not be asked about the own instance.
    pub vpc: Option<Result<OwnVpc, AskError>>,
    /// The Elastic IPs that settings ask for; `None` if they ask for none, or as with `vpc`.
    pub addresses: Option<Result<Vec<ElasticIp>, AskError>>,
    /// What EC2 shows around the own interface; `None` as with `vpc`.
    pub around: Option<Surroundings>,
    /// What this gateway remembers; nothing if that cannot be read.
    pub state: State,
    /// Whether the role allows what a pass does beyond describing instances, by the end of the check's id, such as `create-tags`. What
    /// has no subject, as `create-route` where no table has the tag, is left out. Empty if EC2 could not be asked about the own instance.
    pub allowed: BTreeMap<&'static str, Result<(), AskError>>,
    /// What came of asking each region of each further account, as a pass asks it; empty as with `allowed`.
    pub accounts: BTreeMap<Scope, Result<usize, AskError>>,
    /// What is wrong with the kernel's settings.
    pub sysctls: Found<Vec<(Knob, Problem)>>,
    /// The kernel's table of tracked connections.
    pub conntrack: Option<Conntrack>,
    /// What the driver of the uplink counts, as `ethtool -S` prints it; `None` if it does not say.
    pub driver: Option<String>,
    /// The own chains in iptables now.
    pub rules: Found<Rules>,
    /// The own chains that the last refresh loaded; `None` if none has.
    pub wanted_rules: Found<Option<Rules>>,
    /// What other programs' rules do to this gateway's traffic; `None` if it is not known what that is.
    pub foreign: Option<Found<Obstacles>>,
    /// The kernel's routing.
    pub routing: Found<Lead>,
    /// The interfaces, policy rules and routes that the last refresh made; `None` if none has.
    pub wanted_routing: Found<Option<Routing>>,
    /// What charon has loaded.
    pub charon: Found<Charon>,
    /// What came of trying IKE with each peer of [`super::to_try`], on each of [`super::IKE_PORTS`].
    pub paths: BTreeMap<Ipv4Addr, [Probe; 2]>,
    /// Why strongSwan's own start would not find the managed files.
    pub unreached: Found<Option<Problem>>,
    /// This gateway's private keys on disk.
    pub keyring: Found<Option<Keyring>>,
    /// The other member of the pair that the last refresh found, and what `crosswan pair` shows of it if it runs; `None` without a pair.
    pub pair: Found<Option<(InstanceId, Option<PairStatus>)>>,
    /// The far gateways that are followed by their own word.
    pub followed: Followed,
    /// Whether a program hears `pair.port`, UDP.
    pub hears: Found<bool>,
    /// The last report since boot.
    pub report: Found<Option<Report>>,
    /// The last pass, if it ended without a report.
    pub failed: Found<Option<FailedPass>>,
}

/// What leads packets in the kernel now.
#[derive(Debug, Clone, Default)]
pub struct Lead {
    /// What crosswan has made.
    pub own: Routing,
    /// Interfaces of others that could be mistaken for crosswan's.
    pub interfaces: Vec<String>,
    /// Policy rules of others that are tried before crosswan's, and routes of others in its table.
    pub beside: Vec<String>,
    /// The largest packet that each interface takes, in bytes.
    pub mtus: BTreeMap<String, u32>,
}

impl Examined {
    /// What was found, as a pass decides on it; `None` if it is not known who this gateway is and what for.
    pub(super) fn observed(&self) -> Option<Observed> {
        let (Ok(settings), Ok(me), Ok(uplink)) = (&self.settings, &self.me, &self.uplink) else { return None };
        let mut observed = Observed::new(settings, me.clone(), uplink.clone(), self.now);
        (observed.tags, observed.vpc, observed.state) = (self.own.clone(), self.vpc.clone(), self.state.clone());
        (observed.addresses, observed.system.charon) = (self.addresses.clone(), self.charon.as_ref().ok().cloned());
        Some(observed)
    }

    /// Whether this gateway has no address of its own yet: it makes no tunnel then.
    pub(super) fn awaits_address(&self) -> bool {
        let decided = self.settings.as_ref().ok().zip(self.observed());
        decided.is_some_and(|(settings, observed)| address(settings, &observed).is_awaited())
    }

    /// Whether a peer was tried, and did not answer on each port.
    pub(super) fn is_closed(&self, peer: Ipv4Addr) -> bool {
        self.paths.get(&peer).is_some_and(|ports| ports.iter().any(|probe| *probe != Probe::Answered))
    }

    /// The last report, if there is one that could be read.
    pub fn last_report(&self) -> Option<&Report> {
        self.report.as_ref().ok()?.as_ref()
    }

    /// What this gateway is for: by the settings, or by the last report where these are wrong.
    pub fn mode(&self) -> Option<Mode> {
        self.settings.as_ref().ok().map(|s| s.mode).or(self.last_report().map(|r| r.mode))
    }

    /// Who this gateway is: from IMDS, or as the last report says, for the commands that mend IMDS.
    pub fn known_as(&self) -> Option<&Identity> {
        self.me.as_ref().ok().or(self.last_report().map(|r| &r.me))
    }

    /// Whether passes with these settings have to ask EC2; if settings are wrong, it does not matter.
    pub fn asks_ec2(&self) -> bool {
        let needs = |s: &Settings| self.needs_key() || s.mode.has_ipsec() && s.asks();
        self.settings.as_ref().is_ok_and(needs)
    }

    /// Whether these settings need a key; or could use one, and there is another gateway for which it matters.
    pub fn needs_key(&self) -> bool {
        let company = || matches!(self.pair, Ok(Some(_)));
        self.settings.as_ref().is_ok_and(|s| s.needs_key() || s.has_key() && company())
    }
}
