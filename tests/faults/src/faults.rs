//! The faults, in the order they are played, each a row of the table.

mod charon;
mod cloud;
mod disk;
mod hostile;
mod hubs;
pub mod packets;
mod pair;
mod passes;
mod peers;
mod segments;
mod steps;
pub mod tampering;
mod trust;

use std::{fmt, time::Duration};

use anyhow::Result;

use crate::{
    pair::{DEAF, MUTE, hub_stage::HubStage, stage::PairStage},
    stage::Stage,
};

/// Who loses packets by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Nobody but the victim may.
    Untouched,
    /// It is the hub's charon that is away, in the lab with all ESP in it: the outage is measured, not forbidden.
    AllMeet,
}

/// One row.
pub struct Fault {
    pub name: &'static str,
    /// What is done.
    pub what: &'static str,
    /// Whether it is part of the short cut in `make test`: what the other tests do not show.
    pub quick: bool,
    pub others: Others,
    pub play: Play,
}

/// On which set-up it is played.
#[derive(Clone, Copy)]
pub enum Play {
    /// A hub and its clients.
    Gateway(fn(&mut Stage) -> Result<Healed>),
    /// The same with a pair.
    Pair(fn(&mut PairStage) -> Result<Healed>),
    /// Two hubs and their clients.
    Hubs(fn(&mut HubStage) -> Result<Healed>),
}

/// How it was healed, and how soon.
pub struct Healed {
    pub how: String,
    pub after: Duration,
}

impl Healed {
    /// By the next pass, which took so long.
    pub fn by_a_pass(after: Duration) -> Result<Healed> {
        Healed::by("the next pass", after)
    }

    pub fn by(how: impl fmt::Display, after: Duration) -> Result<Healed> {
        Ok(Healed { how: how.to_string(), after })
    }
}

macro_rules! faults {
    ($($ground:ident { $($name:literal $quick:literal $others:ident $what:literal $play:expr;)* })*) => {
        /// All of them.
        pub const ALL: &[Fault] = &[$($(
            Fault { name: $name, what: $what, quick: $quick, others: Others::$others, play: Play::$ground($play) }
        ),*),*];
    };
}

faults! {
Gateway {
    "kill-add" false Untouched "kill -9 before every file write, rename, VICI call and restore of a pass that adds a peer" steps::add;
    "kill-move" false Untouched "the same, the peer moves to another gateway" steps::moved;
    "kill-remove" false Untouched "the same, the peer is removed" steps::remove;
    "sigterm" true Untouched "SIGTERM at moments spread over a pass" steps::sigterm;
    "disk-full" false Untouched "/etc/swanctl full" |s| disk::full(s, "/etc/swanctl/conf.d");
    "disk-read-only" false Untouched "/etc/swanctl read-only" |s| disk::read_only(s, "/etc/swanctl/conf.d");
    "state-full" false Untouched "/var/lib/crosswan full" |s| disk::full(s, "/var/lib/crosswan");
    "state-read-only" false Untouched "/var/lib/crosswan read-only" |s| disk::read_only(s, "/var/lib/crosswan");
    "run-full" true Untouched "/run/crosswan full" disk::run_full;
    "owner-mode" false Untouched "wrong owner or mode on managed files, six ways" tampering::owners;
    "edited" false Untouched "managed files, rules and connections changed by hand, twenty ways" tampering::edited;
    "state-file" false Untouched "state file truncated, empty, garbage, gone" tampering::state;
    "charon-killed" false Untouched "charon of the victim killed, then started by systemd" |s| charon::killed(s, false);
    "charon-hung" false Untouched "charon of the victim stopped (SIGSTOP) for a pass and 5 s" |s| charon::hung(s, false);
    "charon-restarted" true Untouched "charon of the victim restarted in the middle of a pass" |s| charon::restarted(s, false);
    "hub-charon-killed" false AllMeet "the hub's charon killed, then started by systemd" |s| charon::killed(s, true);
    "hub-charon-hung" false AllMeet "the hub's charon stopped (SIGSTOP) for a pass and 5 s" |s| charon::hung(s, true);
    "hub-charon-restarted" false AllMeet "the hub's charon restarted in the middle of a pass" |s| charon::restarted(s, true);
    "vetoing-peer" false Untouched "the victim refuses every new child while the hub changes all selectors and its guard, and a peer comes" peers::vetoing;
    "dead-newcomer" true Untouched "a second instance in the victim's VPC has the gateway's tag and an address, and nothing that works" trust::dead_newcomer;
    "forged-tags" false Untouched "a client's key tags overwritten with all that an attacker's own key can sign" trust::forged_tags;
    "state-lost" false Untouched "the same, with the hub's state lost in four ways" trust::state_lost;
    "charon-hung-in-pass" false Untouched "charon of the victim stopped (SIGSTOP) in the middle of a pass" peers::hung_in_pass;
    "xtables-lock" false Untouched "another program holds the xtables lock for 60 s (iptables-legacy)" passes::xtables_lock;
    "nat-flushed" false Untouched "another program flushes the nat table fifty times a second" passes::nat_flushed;
    "flush" false Untouched "nft's whole ruleset flushed ten times on hub and victim, crosswan watch at work" passes::flushed;
    "segments" true Untouched "the victim's VPC changes its segment, to one that is listed, an unknown one, none and back, while settings change too" segments::changing;
    "imds-gone" false Untouched "IMDS does not answer the hub" cloud::imds_gone;
    "imds-changing" false Untouched "IMDS changes its answer to the hub and to the victim, to something wrong and something else" cloud::imds_changing;
    "ec2-throttled" false Untouched "EC2 throttles every call for two minutes" cloud::throttled;
    "ec2-garbage" false Untouched "EC2 answers garbage" cloud::garbage;
    "ec2-cut" false Untouched "EC2's answers end in the middle" cloud::cut;
    "ec2-page" false Untouched "the second page of EC2's answer fails" cloud::second_page;
    "ec2-disabled" false Untouched "a region is disabled (AuthFailure)" cloud::disabled;
    "account-fails" true Untouched "another account, to which one peer belongs, takes away the role that the hub assumes there" cloud::account_fails;
    "clock-forward" false Untouched "the clock of hub and victim is stepped a day forward, and back" |s| passes::clock(s, 86_400);
    "clock-back" true Untouched "the clock of hub and victim is stepped a day back, and forward" |s| passes::clock(s, -86_400);
    "at-once" false Untouched "two refreshes and a keep at once, ten times" passes::at_once;
    "ike-flood" true Untouched "a flood of IKE_SA_INIT, a third with forged addresses of clients" hostile::flood;
    "knocks" true Untouched "a flood of IKE_SA_INIT from addresses that the hub does not know" hostile::knocks;
    "claim" true Untouched "a client with a valid key claims another's identity and CIDR" hostile::claim;
    "replay" true Untouched "everything a client and the hub said to each other is sent again, three times" hostile::replay;
}

Pair {
    "pair-killed" false Untouched "the member with the routes killed, its instance stopped, and booted again" pair::killed;
    "pair-agent-hung" false Untouched "its crosswan pair stopped (SIGSTOP)" |s| pair::hung(s, true, false);
    "pair-charon-hung" false Untouched "its charon stopped (SIGSTOP)" |s| pair::hung(s, false, true);
    "pair-all-hung" true Untouched "its crosswan pair, keep and charon stopped (SIGSTOP)" |s| pair::hung(s, true, true);
    "pair-charon-killed" false Untouched "its charon killed, then started by systemd" pair::charon_killed;
    "pair-mute" false Untouched "nothing that it sends leaves it" pair::mute;
    "pair-deaf" false Untouched "nothing reaches it" pair::deaf;
    "pair-without-ec2" false Untouched "EC2 answers nothing when it is killed, and later answers" pair::without_ec2;
    "pair-both" false Untouched "both members killed at once, and booted again" pair::both;
    "pair-clocks" false Untouched "the clocks of the members stepped a day forward and back, apart from each other; then one is cut off" pair::clocks;
    "pair-split" false Untouched "the members cannot hear each other, and both carry everything" pair::split;
    "pair-flapping" true Untouched "the link of the member with the routes away for 0.7 s and there for 0.7 s, forty times" pair::flapping;
    "pair-standby-killed" false Untouched "the member without routes killed, and booted again" pair::standby_killed;
}
Hubs {
    "hubs-killed" false AllMeet "the hub that is used killed, its instance stopped, and booted again" hubs::killed;
    "hubs-agent-hung" false AllMeet "its crosswan pair stopped (SIGSTOP)" |s| hubs::hung(s, true, false);
    "hubs-charon-hung" false AllMeet "its charon stopped (SIGSTOP)" |s| hubs::hung(s, false, true);
    "hubs-all-hung" false AllMeet "its crosswan pair, keep and charon stopped (SIGSTOP)" |s| hubs::hung(s, true, true);
    "hubs-charon-killed" false AllMeet "its charon killed, then started by systemd" hubs::charon_killed;
    "hubs-mute" false AllMeet "nothing that it sends leaves it" |s| hubs::half_dead(s, MUTE);
    "hubs-deaf" false AllMeet "nothing reaches it" |s| hubs::half_dead(s, DEAF);
    "hubs-without-ec2" false AllMeet "EC2 answers nothing when it is cut off, and later answers" hubs::without_ec2;
    "hubs-both" false AllMeet "both hubs killed at once, and booted again" hubs::both;
    "hubs-clocks" false AllMeet "the clocks of the hubs stepped a day forward and back, apart from each other" hubs::clocks;
    "hubs-split" false AllMeet "the hubs cannot hear each other, and both carry everything" hubs::split;
    "hubs-flapping" false AllMeet "the link of the hub that is used away for 0.7 s and there for 0.7 s, forty times" hubs::flapping;
    "hubs-standby-killed" false AllMeet "the hub that stands by killed, and booted again" hubs::standby_killed;
}
}
