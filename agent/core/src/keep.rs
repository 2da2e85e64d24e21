//! The decisions of `crosswan keep`: which SAs to initiate and which to end. Pure; time is passed in.
//!
//! The rules and numbers come from what was measured on charon 5.9.8 (`docs/facts.md`, "Initiation"): which end initiates, why
//! connecting SAs are left alone, and why the spoke removes duplicates.

mod action;
mod knock;
mod memory;
mod patience;
#[cfg(test)]
mod tests;
mod unloaded;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use self::memory::{ChildRef, Childless, Duplicate, Missing, Proof};
pub use self::{
    action::{Action, Reason},
    knock::{Ear, Knock, Knocks, Known},
    memory::{Memory, Transition},
    patience::patience,
    unloaded::Unloaded,
};
use crate::{
    model::{ConnName, Mode},
    swanctl::Summary,
    system::{ChildSa, Sa},
};

/// Initiations per look: a hub that has lost everything brings its tunnels up in steps, between which charon can handle the
/// answers.
const MAX_INITIATIONS: usize = 256;
/// A look does not see SAs that charon is working on: a child counts as missing only if it is still missing this much later, in
/// milliseconds.
const SURE: u64 = 500;
/// For this many milliseconds the hub leaves a missing tunnel to the peer. An uptime below it means that its charon has
/// restarted.
const HUB_PATIENCE: u64 = 30_000;
/// The longest pause between two attempts, in milliseconds.
const MAX_BACKOFF: u64 = 300_000;
/// The number of failed attempts after which a childless IKE_SA is given up.
const CHILDLESS_ATTEMPTS: u32 = 3;

/// How to decide: which end of the tunnels this is, and the unit of patience. A spoke initiates missing children and removes
/// duplicates. The hub initiates only after its own restart, or children that have been missing for long, and removes the
/// duplicates that the spoke has left.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The end of the tunnels that this gateway is.
    pub mode: Mode,
    /// The time between two looks.
    pub interval: Duration,
}

/// What one look at charon showed.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// charon's uptime, which below two minutes is exact to the second.
    pub uptime: Duration,
    /// The connections that charon has loaded, by name.
    pub conns: BTreeMap<String, Summary>,
    /// Its IKE_SAs with their children.
    pub sas: Vec<Sa>,
    /// The connections whose peers have just knocked: they are not left to the peers.
    pub expected: BTreeSet<String>,
}

/// Decides on one look. `now` is in milliseconds on any clock that only goes forward, the same for all calls with
/// this `memory`. Only crosswan's own connections, by their names, are touched.
pub fn decide(now: u64, view: &View, memory: &mut Memory, pace: Pace) -> Vec<Action> {
    let mut sas: BTreeMap<&str, Vec<&Sa>> = BTreeMap::new();
    for sa in &view.sas {
        sas.entry(&sa.conn).or_default().push(sa);
    }
    let uptime = view.uptime.as_millis() as u64;
    let begins = |(conn, summary): (&String, &Summary)| begins(pace.mode, conn, summary).then(|| conn.clone());
    let begins = view.conns.iter().filter_map(begins).collect();
    let mut tick = Tick { now, pace, begins, uptime, memory, duplicates: BTreeMap::new(), actions: Vec::new() };
    let (mut wanted, mut startable, mut proofs) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (conn, summary) in view.conns.iter().filter(|(name, _)| is_own(name)) {
        let sas = sas.get(conn.as_str()).map_or(&[][..], |s| s);
        let children = summary.children.iter().filter(|(_, c)| c.mode == "tunnel").map(|(name, _)| name);
        let children_here: Vec<ChildRef> = children.map(|child| (conn.clone(), child.clone())).collect();
        if summary.children.is_empty() {
            tick.find_duplicates(conn, sas);
            tick.note_proof(conn, sas);
            proofs.insert(conn.clone());
            continue;
        }
        tick.note_children(&children_here, sas);
        let given_up = tick.end_childless(conn, sas);
        tick.find_duplicates(conn, sas);
        let connecting = sas.iter().any(|sa| sa.is_connecting() || sa.child_pending);
        if !connecting && !given_up {
            startable.extend(children_here.iter().filter(|child_ref| !is_coming(child_ref, sas)).cloned());
        }
        wanted.extend(children_here);
    }
    tick.memory.missing.retain(|child_ref, _| wanted.contains(child_ref));
    tick.memory.known.retain(|child_ref| wanted.contains(child_ref));
    tick.memory.proofs.retain(|conn, _| proofs.contains(conn));
    tick.memory.childless.retain(|id, _| view.sas.iter().any(|sa| sa.id == *id));
    tick.memory.wanted = wanted.len();
    tick.memory.note_beside(&wanted);
    tick.end_duplicates();
    tick.initiate(&startable, &sas, &view.expected);
    tick.prove();
    tick.actions
}

fn is_own(conn: &str) -> bool {
    conn.parse::<ConnName>().is_ok_and(|name| !name.is_old_shunt())
}

/// How long, in milliseconds, this end waits before it initiates the proof of a connection; `None` if the peer must. The holder
/// of a next key initiates its own proof. That of a gateway that stands by is initiated by the spoke, like any tunnel.
fn prover(conn: &str, mode: Mode) -> Option<u64> {
    let name: ConnName = conn.parse().ok()?;
    match mode {
        _ if name.is_peer_proof() => None,
        _ if name.is_own_proof() => Some(SURE),
        Mode::VpnHub => Some(HUB_PATIENCE),
        Mode::NatVpn | Mode::NatHub => Some(SURE),
    }
}

/// Whether this end is the one of the two that initiates a connection's missing children at once, and ends its duplicates first: a spoke is,
/// and of two hubs the one whose identity comes first.
fn begins(mode: Mode, conn: &str, summary: &Summary) -> bool {
    let across = || conn.parse().is_ok_and(|name: ConnName| name.other_hub().is_some());
    mode != Mode::VpnHub || across() && summary.local_id < summary.remote_id
}

/// Whether a child is being created, so that its success is not known yet.
fn is_coming((_, child): &ChildRef, sas: &[&Sa]) -> bool {
    let coming = |c: &ChildSa| matches!(c.state.as_str(), "CREATED" | "INSTALLING" | "RETRYING");
    sas.iter().flat_map(|sa| &sa.children).any(|c| c.name == *child && coming(c))
}

/// Whether an IKE_SA's children can carry packets: it is not on its way out.
fn carries(sa: &Sa) -> bool {
    matches!(sa.state.as_str(), "ESTABLISHED" | "REKEYING" | "REKEYED")
}

fn is_childless(sa: &Sa) -> bool {
    let going = |c: &ChildSa| matches!(c.state.as_str(), "DELETING" | "DELETED" | "DESTROYING");
    sa.is_established() && !sa.child_pending && sa.children.iter().all(going)
}

struct Tick<'m> {
    now: u64,
    pace: Pace,
    /// The connections that this end [`begins`].
    begins: BTreeSet<String>,
    uptime: u64,
    memory: &'m mut Memory,
    duplicates: BTreeMap<Duplicate, Vec<Action>>,
    actions: Vec<Action>,
}

impl Tick<'_> {
    fn interval(&self) -> u64 {
        self.pace.interval.as_millis() as u64
    }

    fn note_children(&mut self, children_here: &[ChildRef], sas: &[&Sa]) {
        for child_ref in children_here {
            let live = sas.iter().filter(|sa| carries(sa)).flat_map(|sa| &sa.children);
            if live.into_iter().any(|c| c.name == child_ref.1 && c.is_up()) {
                self.memory.seen_up(child_ref, self.now);
            } else {
                self.memory.seen_missing(child_ref, self.now);
            }
        }
    }

    /// Notes whether the IKE_SA of a connection without children stands. Only one that this end has initiated proves an own key.
    fn note_proof(&mut self, conn: &str, sas: &[&Sa]) {
        let own = conn.parse().is_ok_and(|name: ConnName| name.is_own_proof());
        let stands = sas.iter().any(|sa| carries(sa) && (sa.initiator || !own));
        let proof = self.memory.proofs.entry(conn.to_owned()).or_insert(Proof::new(self.now));
        if stands {
            (proof.attempts, proof.next, proof.since) = (0, 0, self.now);
        }
        proof.stands = stands;
        proof.connecting = sas.iter().any(|sa| sa.is_connecting());
    }

    /// Initiates the proofs that this end has to initiate and that do not stand.
    fn prove(&mut self) {
        let (now, mode, interval) = (self.now, self.pace.mode, self.interval());
        let room = MAX_INITIATIONS.saturating_sub(self.actions.len());
        let due = self.memory.proofs.iter_mut().filter(|(conn, proof)| {
            let ready = |patience| now >= proof.since + patience && now >= proof.next;
            !proof.stands && !proof.connecting && prover(conn, mode).is_some_and(ready)
        });
        for (conn, proof) in due.take(room) {
            proof.next = now + (interval << proof.attempts.min(16)).min(MAX_BACKOFF);
            proof.attempts += 1;
            self.actions.push(Action::Prove { conn: conn.clone(), attempt: proof.attempts });
        }
    }

    /// Ends IKE_SAs on which no child came up. Returns true if one was ended, so that nothing is initiated on it.
    fn end_childless(&mut self, conn: &str, sas: &[&Sa]) -> bool {
        let before = self.actions.len();
        for sa in sas {
            if sa.children.iter().any(ChildSa::is_up) {
                self.memory.childless.remove(&sa.id);
            }
            let Some(&Childless { attempts, last }) = self.memory.childless.get(&sa.id) else { continue };
            if is_childless(sa) && attempts >= CHILDLESS_ATTEMPTS && self.now >= last + self.interval() {
                let reason = Reason::Childless { attempts };
                self.actions.push(Action::TerminateIke { conn: conn.into(), id: sa.id, reason });
            }
        }
        self.actions.len() > before
    }

    /// Finds duplicates, and which of the two would go.
    fn find_duplicates(&mut self, conn: &str, sas: &[&Sa]) {
        let established: Vec<&Sa> = sas.iter().copied().filter(|sa| sa.is_established()).collect();
        if let Some(kept) = established.iter().max_by_key(|sa| precedence(sa)) {
            let rest = established.iter().filter(|sa| sa.id != kept.id && carries_all_of(kept, sa));
            let ends = rest.map(|sa| Action::TerminateIke {
                conn: conn.into(),
                id: sa.id,
                reason: Reason::DuplicateOf(kept.id),
            });
            self.duplicates.insert(Duplicate::Ike { conn: conn.into() }, ends.collect::<Vec<_>>());
        }
        for sa in &established {
            for kept in &sa.children {
                let same: Vec<&ChildSa> = sa.children.iter().filter(|c| c.name == kept.name).collect();
                let newest = same.iter().all(|c| c.id <= kept.id);
                // During a rekey there are two on purpose.
                if newest && !sa.child_pending && same.iter().all(|c| c.state == "INSTALLED") {
                    let ends = same.iter().filter(|c| c.id != kept.id).map(|c| Action::TerminateChild {
                        conn: conn.into(),
                        child: c.name.clone(),
                        id: c.id,
                        reason: Reason::DuplicateOf(kept.id),
                    });
                    self.duplicates.insert(Duplicate::Child { ike: sa.id, name: kept.name.clone() }, ends.collect());
                }
            }
        }
    }

    /// Ends the duplicates that have been there for long enough. If both ends chose at the same time, they could end different
    /// ones and lose both: so the hub waits until the spoke has had its chance.
    fn end_duplicates(&mut self) {
        let mut found = mem::take(&mut self.duplicates);
        found.retain(|_, ends| !ends.is_empty());
        self.memory.duplicates.retain(|duplicate, _| found.contains_key(duplicate));
        for (duplicate, ends) in found {
            let first = ends.iter().all(|end| self.begins.contains(end.conn()));
            let patience = self.interval() * if first { 1 } else { 3 };
            if self.now >= *self.memory.duplicates.entry(duplicate).or_insert(self.now) + patience {
                self.actions.extend(ends);
            }
        }
    }

    /// Initiates missing children, those with the fewest attempts first: a dead peer waits behind a living one.
    fn initiate(
        &mut self,
        startable: &BTreeSet<ChildRef>,
        sas: &BTreeMap<&str, Vec<&Sa>>,
        expected: &BTreeSet<String>,
    ) {
        let (now, uptime, begins, interval) = (self.now, self.uptime, &self.begins, self.interval());
        let ready = |conn: &String, m: &Missing| {
            let due_here = begins.contains(conn) || uptime < HUB_PATIENCE || now >= m.since + HUB_PATIENCE;
            (expected.contains(conn) || due_here && now >= m.since + SURE) && now >= m.next
        };
        let mut due: Vec<(&ChildRef, &mut Missing)> = self
            .memory
            .missing
            .iter_mut()
            .filter(|(child_ref, m)| startable.contains(*child_ref) && ready(&child_ref.0, m))
            .collect();
        due.sort_by_key(|(_, m)| (m.attempts, m.since));
        self.memory.more = due.len() > MAX_INITIATIONS;
        let mut tried = BTreeSet::new();
        for (child_ref, missing) in due.into_iter().take(MAX_INITIATIONS) {
            missing.next = now + (interval << missing.attempts.min(16)).min(MAX_BACKOFF);
            missing.attempts += 1;
            tried.insert(child_ref.0.clone());
            let (conn, child) = child_ref.clone();
            self.actions.push(Action::Initiate { conn, child, attempt: missing.attempts });
        }
        for sa in tried.iter().filter_map(|conn| sas.get(conn.as_str())).flatten() {
            let seen = self.memory.childless.entry(sa.id).or_default();
            (seen.attempts, seen.last) = (seen.attempts + 1, now);
        }
    }
}

/// The order of duplicates, of which the greatest stays: the IKE_SA with the newest installed child, then the newer IKE_SA.
fn precedence(sa: &Sa) -> (Option<u32>, u32) {
    (sa.children.iter().filter(|c| c.is_up()).map(|c| c.id).max(), sa.id)
}

/// Whether `other` can be ended without loss, because `kept` carries every child that it carries.
fn carries_all_of(kept: &Sa, other: &Sa) -> bool {
    other.children.iter().all(|c| kept.children.iter().any(|k| k.name == c.name && k.is_up()))
}
