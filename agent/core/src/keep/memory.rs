//! What the loop remembers between two looks. Times are in milliseconds on the caller's clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
};

use crate::model::ConnName;

/// How often a pass is wanted for one tunnel, each time after twice as long. After that the hourly pass comes just as soon.
const MAX_PASSES: u32 = 5;

/// A CHILD_SA by the names of its connection and its child.
pub(super) type ChildRef = (String, String);

/// The state between two calls of [`super::decide`]. A new charon needs a new one.
#[derive(Debug, Default)]
pub struct Memory {
    /// The children that should be up and are not.
    pub(super) missing: BTreeMap<ChildRef, Missing>,
    /// The attempts on IKE_SAs that have brought up no child, by unique id.
    pub(super) childless: BTreeMap<u32, Childless>,
    /// The duplicates, and since when they have been there.
    pub(super) duplicates: BTreeMap<Duplicate, u64>,
    /// Connections without children, by name.
    pub(super) proofs: BTreeMap<String, Proof>,
    /// Children that have been up: only their loss is reported.
    pub(super) known: BTreeSet<ChildRef>,
    /// Connections with a tunnel that came up beside one to another gateway of the same party, and for which no pass was wanted yet
    /// (`false`), or one was.
    pub(super) beside: BTreeMap<String, bool>,
    /// Connections that were up at the last look, of parties with no other one.
    pub(super) alone: BTreeSet<String>,
    /// Connections of which something was missing at the last look.
    pub(super) down: BTreeSet<String>,
    /// How many children should be up.
    pub(super) wanted: usize,
    /// Whether the last look has left something to initiate to the next one.
    pub(super) more: bool,
    pub(super) transitions: Vec<Transition>,
}

#[derive(Debug)]
pub(super) struct Missing {
    pub since: u64,
    /// The number of looks that found it missing.
    pub looks: u32,
    pub attempts: u32,
    /// When it may be initiated again.
    pub next: u64,
    /// The number of passes that were wanted for it.
    pub passes: u32,
}

/// The IKE_SA of a connection without children.
#[derive(Debug)]
pub(super) struct Proof {
    /// When it was last seen to stand, or else first seen.
    pub since: u64,
    pub attempts: u32,
    /// When it may be initiated again.
    pub next: u64,
    pub stands: bool,
    pub connecting: bool,
    /// Whether a pass was wanted for it.
    pub reported: bool,
}

impl Proof {
    pub(super) fn new(now: u64) -> Self {
        Proof { since: now, attempts: 0, next: 0, stands: false, connecting: false, reported: false }
    }
}

#[derive(Debug, Default)]
pub(super) struct Childless {
    pub attempts: u32,
    pub last: u64,
}

/// A duplicate. It is remembered that there is one; which of the two should go is decided at each look.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duplicate {
    Ike { conn: String },
    Child { ike: u32, name: String },
}

/// Whether both connections lead to the same VPC, or both to hubs.
fn same_party(one: &str, other: &str) -> bool {
    let name = |conn: &str| conn.parse::<ConnName>();
    matches!((name(one), name(other)), (Ok(one), Ok(other)) if one.party() == other.party())
}

/// A child that came up or went down since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The connection.
    pub conn: String,
    /// The child in it.
    pub child: String,
    /// For how many milliseconds it was missing before it came up; `None` if it went down.
    pub up_after: Option<u64>,
    /// How often this end initiated it while it was missing.
    pub attempts: u32,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} is ", self.conn, self.child.escape_default())?;
        match self.up_after {
            Some(ms) => write!(f, "up, {}.{} s after it was seen missing", ms / 1000, ms % 1000 / 100),
            None => f.write_str("down"),
        }
    }
}

impl Memory {
    /// Forgets the pauses after failures, so that everything is tried again at once: the configuration has changed.
    pub fn forget_failures(&mut self) {
        self.missing.values_mut().for_each(|m| (m.attempts, m.next) = (0, 0));
        self.childless.values_mut().for_each(|c| c.attempts = 0);
        self.proofs.values_mut().for_each(|p| (p.attempts, p.next) = (0, 0));
    }

    /// The children that came up or went down since the last call.
    pub fn take_transitions(&mut self) -> Vec<Transition> {
        mem::take(&mut self.transitions)
    }

    /// The connection that has been missing for longest, and for how many milliseconds, if a pass is wanted for any: after
    /// `patience`, and each time after twice as long. The caller must ask for that pass, as it is not wanted again.
    pub fn take_wanted(&mut self, now: u64, patience: u64) -> Option<(String, u64)> {
        let overdue = |m: &Missing| m.passes < MAX_PASSES && now >= m.since + (patience << m.passes);
        let overdue = self.missing.iter_mut().filter(|(_, m)| overdue(m));
        let counted = overdue.map(|((conn, _), m)| {
            m.passes += 1;
            (m.since, conn)
        });
        counted.min().map(|(since, conn)| (conn.clone(), now - since))
    }

    /// The number of tunnels that were up at the last look.
    pub fn up(&self) -> usize {
        self.wanted - self.missing.len().min(self.wanted)
    }

    /// A connection that has shown something which a pass should see, if there is one: the tunnel to a second gateway is up, a
    /// gateway that stands by has authenticated, or every peer has accepted the next key. The caller must ask for that pass, as it
    /// is not wanted again for that.
    pub fn take_proven(&mut self) -> Option<String> {
        let name = |conn: &str| conn.parse::<ConnName>().ok();
        let own = |conn: &str| name(conn).is_some_and(|name| name.is_own_proof());
        let all_own = self.proofs.iter().all(|(conn, proof)| !own(conn) || proof.stands);
        let counts = |conn: &str| match name(conn) {
            Some(name) if name.is_own_proof() => all_own,
            Some(name) => !name.is_peer_proof(),
            None => false,
        };
        let mut first = None;
        for (conn, reported) in self.beside.iter_mut().filter(|(_, reported)| !**reported) {
            *reported = true;
            first.get_or_insert_with(|| conn.clone());
        }
        for (conn, proof) in
            self.proofs.iter_mut().filter(|(conn, proof)| proof.stands && !proof.reported && counts(conn))
        {
            proof.reported = true;
            first.get_or_insert_with(|| conn.clone());
        }
        first
    }

    /// Whether to look again soon: something was seen missing only once, or there was more to initiate than one look may.
    pub fn unsure(&self) -> bool {
        let fresh = |p: &Proof| !p.stands && !p.connecting && p.attempts == 0;
        self.more || self.missing.values().any(|m| m.looks < 2) || self.proofs.values().any(fresh)
    }

    pub(super) fn seen_missing(&mut self, child_ref: &ChildRef, now: u64) {
        if self.known.remove(child_ref) {
            self.change(child_ref, None, 0);
        }
        if !self.missing.contains_key(child_ref) {
            // After a gateway was replaced, the new one's child counts as missing for as long as that of the old one.
            let before =
                self.missing.iter().find(|((conn, child), _)| *child == child_ref.1 && same_party(conn, &child_ref.0));
            let (since, passes) = before.map_or((now, 0), |(_, m)| (m.since, m.passes));
            self.missing.insert(child_ref.clone(), Missing { since, looks: 0, attempts: 0, next: 0, passes });
        }
        self.missing.entry(child_ref.clone()).and_modify(|m| m.looks += 1);
    }

    pub(super) fn seen_up(&mut self, child_ref: &ChildRef, now: u64) {
        if let Some(was) = self.missing.remove(child_ref) {
            self.change(child_ref, Some(now.saturating_sub(was.since)), was.attempts);
        }
        self.known.insert(child_ref.clone());
    }

    /// Notes the connections that have all of their children in `wanted` up, beside another one of the same party.
    pub(super) fn note_beside(&mut self, wanted: &BTreeSet<ChildRef>) {
        let conns: BTreeSet<&String> = wanted.iter().map(|(conn, _)| conn).collect();
        let mut parties: BTreeMap<String, Vec<&String>> = BTreeMap::new();
        for conn in conns {
            if let Ok(name) = conn.parse::<ConnName>() {
                parties.entry(name.party().to_owned()).or_default().push(conn);
            }
        }
        let missing: BTreeSet<&String> = self.missing.keys().map(|(conn, _)| conn).collect();
        let (mut beside, mut alone) = (BTreeMap::new(), BTreeSet::new());
        for conns in parties.into_values() {
            let up: Vec<String> =
                conns.iter().filter(|conn| !missing.contains(*conn)).map(|conn| (*conn).clone()).collect();
            let only = conns.len() > up.len();
            if conns.len() > 1 { beside.extend(up.into_iter().map(|conn| (conn, only))) } else { alone.extend(up) }
        }
        self.beside.retain(|conn, _| beside.contains_key(conn) || missing.contains(conn));
        for (conn, only) in beside {
            // One that was up before the other came is nothing new. One that comes back while another is down is: routes may still lead
            // to the other.
            let known = self.alone.contains(&conn);
            let back = only && self.down.contains(&conn);
            let reported = self.beside.entry(conn).or_insert(known);
            *reported &= !back;
        }
        (self.alone, self.down) = (alone, missing.into_iter().cloned().collect());
    }

    fn change(&mut self, (conn, child): &ChildRef, up_after: Option<u64>, attempts: u32) {
        self.transitions.push(Transition { conn: conn.clone(), child: child.clone(), up_after, attempts });
    }
}

/// One line for `systemctl status`.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} tunnels up", self.up(), self.wanted)
    }
}
