//! plan: what should be against what is -> the steps in between. With an empty plan there is nothing to do.
//!
//! Pure. The same function plans a change, a roll-back (towards the old files) and the verification (whose plan must be
//! empty), so the three cannot disagree about what counts as a difference.

mod conclusion;
mod interfaces;
mod remember;
mod standing;
mod step;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeSet};

use ipnet::Ipv4Net;

pub use conclusion::Conclusion;
pub use remember::Remember;
pub(crate) use remember::leads_to;
pub use standing::{Standing, standing};
pub use step::{Step, touched};

use conclusion::conclusions;
use interfaces::{moves, realms, routing};

use crate::{
    decide::Decided,
    error::Result,
    iptables,
    model::{ConnName, PrivateKey, PublicKey},
    observed::Observed,
    render::{Capabilities, render},
    settings::Settings,
    swanctl::{self, Summary, Tree},
    system::{Charon, ChildSa, Configuration, Followed, ManagedFile, System, is_our_secret},
};

/// The third stage's value: what should be, the steps to it, and what follows them.
#[derive(Debug)]
pub struct Planned<'a> {
    /// What charon, iptables and the files should have after the pass.
    pub target: Cow<'a, Configuration>,
    /// The way there from what was observed, in order.
    pub steps: Vec<Step>,
    /// What follows once the steps are in force, in order.
    pub conclusions: Vec<Conclusion<'a>>,
}

impl<'a> Planned<'a> {
    /// Renders what was decided, parses it back, and plans the way there from what was observed.
    ///
    /// # Errors
    /// A template's text cannot be written or does not parse, which is a bug.
    pub fn of(settings: &Settings, observed: &'a Observed, decided: &'a Decided) -> Result<Planned<'a>> {
        let system = &observed.system;
        let capabilities = system.charon.as_ref().map(|c| Capabilities::of(&c.key_exchanges)).unwrap_or_default();
        let files = render(settings.mode, decided, capabilities)?;
        let keys = if settings.mode.has_ipsec() { own_keys(observed) } else { Vec::new() };
        let complete = |parsed: Configuration| {
            let mut target = Configuration { keys: keys.clone(), ..parsed };
            target.rules.unknown_as(&system.rules);
            Cow::Owned(target)
        };
        // The text of the templates is the one truth: what is compared and loaded is parsed from it. If it is the text on
        // disk, it has already been parsed.
        let on_disk = &system.believed;
        let target = match on_disk.files == files {
            true if on_disk.keys == keys && on_disk.rules.closed() == system.rules.closed() => Cow::Borrowed(on_disk),
            true => complete(on_disk.clone()),
            false => complete(Configuration::of(files)?),
        };
        let said = system.followed.without(&decided.overruled);
        let steps = plan_as_said(&target, system, &said);
        Ok(Planned { target, steps, conclusions: conclusions(settings.mode, observed, decided) })
    }

    /// Everything that changes, a line each, as an operator reads it.
    pub fn changes(&self) -> Vec<String> {
        let conclusions = self.conclusions.iter().filter(|conclusion| conclusion.is_change());
        self.steps.iter().map(Step::to_string).chain(conclusions.map(Conclusion::to_string)).collect()
    }
}

/// The private keys that charon should have after this pass. During a rotation, and in the pass in which the next key takes over,
/// it has both, so that nothing is signed with a key that is gone.
fn own_keys(observed: &Observed) -> Vec<PrivateKey> {
    let Some(own) = &observed.own else { return Vec::new() };
    let wanted = |key: &&PrivateKey| key.public == own.current.key || own.next_key() == Some(key.public);
    observed.system.keys.iter().filter(wanted).cloned().collect()
}

/// The steps from `current` to `target`, in the order that keeps what works: rules first (the guard stands before a
/// tunnel moves), then everything that is added, routes last, then everything that goes, and at the end the files, which record
/// the result. Without an answer from charon, there are steps only for the rules and their file.
///
/// Where live tunnels get an interface, the rules wait until the new CHILD_SAs are up beside the old ones, as the guard lets only
/// packets of interfaces pass. The policy rules follow at once: in between such a tunnel carries nothing.
///
/// Rules and realms of routes are two changes, and what lies between them lets nothing pass that neither the old settings nor the new
/// ones allow, and stops nobody who has not moved (`interfaces.rs`).
///
/// Routes lead where the words of far pairs say, which the target need not know yet ([`Followed`]).
pub fn plan(target: &Configuration, current: &System) -> Vec<Step> {
    plan_as_said(target, current, &current.followed)
}

fn plan_as_said(target: &Configuration, current: &System, said: &Followed) -> Vec<Step> {
    let mut steps = Vec::new();
    let rules = iptables::plan(&target.rules, &current.rules).map(Step::RestoreRules);
    let realms = realms(target, current, rules.is_some());
    if let Some(charon) = &current.charon {
        let (routes, no_routes) = routing(target, current, said);
        let (interfaces, routes): (Vec<Step>, Vec<Step>) = routes.into_iter().partition(Step::is_interface);
        let (policy_rules, routes): (Vec<Step>, Vec<Step>) = routes.into_iter().partition(Step::is_policy_rule);
        let moves = moves(target, charon);
        let (now, later) = match moves.is_empty() && !realms.first {
            true => (rules, None),
            false => (None, rules),
        };
        steps.extend(realms.isolating);
        steps.extend(now.into_iter().chain(interfaces));
        keys_to_load(target, charon, &mut steps);
        secrets_to_load(target, current, charon, &mut steps);
        connections_to_load(target, current, charon, &mut steps);
        steps.extend(moves.renewals);
        steps.extend(routes.into_iter().chain(later).chain(policy_rules));
        steps.extend(moves.ends);
        revocations(target, current, charon, &mut steps);
        keys_to_unload(target, current, charon, &mut steps);
        steps.extend(no_routes);
        for (name, want, have) in [
            (ManagedFile::Secrets, &target.files.secrets, &current.files.secrets),
            (ManagedFile::Connections, &target.files.connections, &current.files.connections),
            (ManagedFile::Routing, &target.files.routing, &current.files.routing),
        ] {
            file(name, want, have, current, &mut steps);
        }
    } else if realms.awaited {
        // Realms wait for charon, and rules that tell VPCs apart by them wait with them: those in force go on.
        return steps;
    } else {
        steps.extend(rules);
        // A mode without tunnels needs no charon to give up their interfaces.
        if target.routing.is_empty() {
            steps.extend(routing(target, current, said).1);
            file(ManagedFile::Routing, &target.files.routing, &current.files.routing, current, &mut steps);
        }
    }
    file(ManagedFile::Rules, &target.files.rules, &current.files.rules, current, &mut steps);
    file(ManagedFile::Pair, &target.files.pair, &current.files.pair, current, &mut steps);
    steps
}

fn keys_to_load(target: &Configuration, charon: &Charon, steps: &mut Vec<Step>) {
    let missing = target.keys.iter().filter(|key| !charon.keys.contains(&key.public.charon_id()));
    steps.extend(missing.map(|key| Step::LoadKey { key: key.clone() }));
}

/// A private key is crosswan's own only if it is on disk. It is unloaded after the connections that signed with it have changed.
fn keys_to_unload(target: &Configuration, current: &System, charon: &Charon, steps: &mut Vec<Step>) {
    let unwanted = current.keys.iter().map(|key| key.public).filter(|key| target.keys.iter().all(|k| k.public != *key));
    let loaded = unwanted.filter(|key| charon.keys.contains(&key.charon_id()));
    steps.extend(loaded.map(|key| Step::UnloadKey { key }));
}

fn secrets_to_load(target: &Configuration, current: &System, charon: &Charon, steps: &mut Vec<Step>) {
    for (id, secret) in &target.secrets {
        let why = match (current.believed.secrets.get(id), charon.secrets.contains(id)) {
            (Some(old), true) if old == secret => continue,
            (Some(old), true) if old != secret => "changed",
            (_, true) => "not known to be as on disk",
            (_, false) => "new",
        };
        steps.push(Step::LoadSecret { id: id.clone(), secret: secret.clone(), why });
    }
}

fn connections_to_load(target: &Configuration, current: &System, charon: &Charon, steps: &mut Vec<Step>) {
    let mut renewals = Vec::new();
    for (name, tree) in &target.connections {
        let (wanted, loaded) = (Summary::of(tree), charon.connections.get(name.as_str()));
        let why = match (current.believed.connections.get(name), loaded) {
            (Some(old), Some(now)) if old == tree && *now == wanted => continue,
            (_, Some(now)) if *now != wanted => difference(now, &wanted),
            (Some(old), Some(_)) if old != tree => what_else(old, tree),
            (_, Some(_)) => "not known to be as on disk".to_owned(),
            (_, None) => format!("new: {}", describe(&wanted)),
        };
        steps.push(Step::LoadConnection { name: name.clone(), tree: tree.clone(), why });
        let stood_by = loaded.is_some_and(|l| l.children.is_empty()) && !wanted.children.is_empty();
        if stood_by && charon.sas.iter().any(|sa| sa.conn == name.as_str() && sa.is_authenticated()) {
            let children = wanted.children.keys().cloned().collect();
            renewals.push(Step::TakeOver { connection: name.clone(), children });
        }
        for (child, selectors) in &wanted.children {
            // After a pass that was cut off, the loaded connection says nothing about the SA, whose own selectors count then.
            let stale = match current.doubt {
                None => loaded.and_then(|l| l.children.get(child)).is_some_and(|before| before != selectors),
                Some(_) => true,
            };
            let differs = |c: &ChildSa| {
                let same =
                    |ts: &[String], want: &BTreeSet<String>| ts.iter().cloned().collect::<BTreeSet<_>>() == *want;
                !(same(&c.local_ts, &selectors.local_ts) && same(&c.remote_ts, &selectors.remote_ts))
            };
            // One with another interface is renewed for that.
            let placed = swanctl::place(tree);
            let old = |c: &ChildSa| stale && c.name == *child && c.is_up() && c.place() == placed && differs(c);
            let old: Vec<u32> = children(charon, name.as_str()).filter(|c| old(c)).map(|c| c.id).collect();
            if !old.is_empty() {
                let (connection, child, why) = (name.clone(), child.clone(), "selectors changed");
                renewals.push(Step::RenewChild { connection, child, old, why });
            }
        }
    }
    steps.append(&mut renewals);
}

/// The peer's address and the CIDRs that the connection reaches through it.
fn describe(s: &Summary) -> String {
    if s.children.is_empty() {
        return format!("{} without a child, to prove that it works", joined(&s.remote_addrs));
    }
    format!("{} for {}", joined(&s.remote_addrs), joined(s.children.values().flat_map(|c| &c.remote_ts)))
}

/// What has changed that charon does not show.
fn what_else(old: &Tree, new: &Tree) -> String {
    let (before, after) = (swanctl::peer_keys(old), swanctl::peer_keys(new));
    let fingerprints = |keys: &[PublicKey]| keys.iter().map(PublicKey::fingerprint).collect::<Vec<_>>().join(" and ");
    if before != after {
        return format!("peer's key {} => {}", fingerprints(&before), fingerprints(&after));
    }
    let own = |tree: &Tree| tree.get("local").cloned();
    let places = (swanctl::place(old), swanctl::place(new));
    match places {
        _ if own(old) != own(new) => "this gateway's key".into(),
        (before, Some(after)) if before != Some(after) => format!("its packets go through {}", after.interface()),
        _ => "proposals or timers changed".into(),
    }
}

/// What a loaded connection has and what it should have instead.
fn difference(now: &Summary, wanted: &Summary) -> String {
    let mut out = Vec::new();
    let mut changed = |what: &str, a: String, b: String| {
        if a != b {
            out.push(format!("{what} {a} => {b}"));
        }
    };
    let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "any".into());
    changed("local address", joined(&now.local_addrs), joined(&wanted.local_addrs));
    changed("address", joined(&now.remote_addrs), joined(&wanted.remote_addrs));
    changed("local id", id(&now.local_id), id(&wanted.local_id));
    changed("id", id(&now.remote_id), id(&wanted.remote_id));
    changed("authentication", now.local_auth.clone(), wanted.local_auth.clone());
    changed("the peer's authentication", now.remote_auth.clone(), wanted.remote_auth.clone());
    let names: BTreeSet<&String> = now.children.keys().chain(wanted.children.keys()).collect();
    for name in names {
        out.extend(match (now.children.get(name), wanted.children.get(name)) {
            (None, Some(_)) => Some(format!("with {name}")),
            (Some(_), None) => Some(format!("without {name}")),
            (a, b) if a != b => Some(format!("selectors of {name}")),
            _ => None,
        });
    }
    // charon may hold text that crosswan did not load.
    out.join(", ").escape_default().to_string()
}

/// Addresses or CIDRs on one line, each once, 10.2.0.0/16 before 10.102.0.0/16.
fn joined<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let items: BTreeSet<_> = items.into_iter().map(|i| (i.parse::<Ipv4Net>().ok(), i.as_str())).collect();
    items.into_iter().map(|(_, item)| item).collect::<Vec<_>>().join(", ")
}

/// Removal is revocation (safety rule 6): the connection and the secret are unloaded, and the SAs are ended.
fn revocations(target: &Configuration, current: &System, charon: &Charon, steps: &mut Vec<Step>) {
    let own = |name: &str| name.parse::<ConnName>().ok();
    let unwanted = |name: &str| own(name).is_some_and(|n| !target.connections.contains_key(&n));
    for name in charon.connections.keys().filter(|n| unwanted(n)) {
        steps.push(Step::UnloadConnection { name: name.clone() });
    }
    for id in charon.secrets.iter().filter(|id| is_our_secret(id) && !target.secrets.contains_key(*id)) {
        steps.push(Step::UnloadSecret { id: id.clone() });
    }
    let mut ended = BTreeSet::new();
    // SAs whose peer has authenticated with a key that no longer counts. In a rotation old and new keys overlap, so it ends
    // none.
    for (name, tree) in &target.connections {
        let (before, after) = (current.peer_keys.get(name), swanctl::peer_keys(tree));
        let replaced = |before: &Vec<PublicKey>| !after.is_empty() && before.iter().all(|key| !after.contains(key));
        if before.is_some_and(replaced) {
            let why = "the peer's key was replaced";
            steps.push(Step::Terminate { connection: name.to_string(), id: None, why });
            ended.insert(name.as_str());
        }
    }
    for sa in &charon.sas {
        let Some(name) = own(&sa.conn).filter(|_| !ended.contains(sa.conn.as_str())) else { continue };
        let Some(tree) = target.connections.get(&name) else {
            let why =
                if name.is_own_proof() || name.is_peer_proof() { "the proof is over" } else { "the peer is gone" };
            steps.push(Step::Terminate { connection: sa.conn.clone(), id: None, why });
            ended.insert(&sa.conn);
            continue;
        };
        let wanted = Summary::of(tree);
        let moved = !wanted.remote_addrs.contains(&sa.remote_host);
        // The peer still sends to the old address, where nobody is; but it answers this gateway's DPD, and so does not notice.
        // Only when the SA is ended does it try again and show that it fails.
        let renamed = sa.is_established() && wanted.local_id.as_ref().is_some_and(|id| *id != sa.local_id);
        if moved || renamed {
            let why = if moved { "the peer has a new address" } else { "this gateway has a new identity" };
            steps.push(Step::Terminate { connection: sa.conn.clone(), id: Some(sa.id), why });
            continue;
        }
        for child in sa.children.iter().filter(|c| !wanted.children.contains_key(&c.name)) {
            let (connection, child, id) = (sa.conn.clone(), child.name.clone(), child.id);
            steps.push(Step::TerminateChild { connection, child, id, why: "no longer configured" });
        }
    }
}

/// The CHILD_SAs charon holds for a connection.
fn children<'a>(charon: &'a Charon, connection: &'a str) -> impl Iterator<Item = &'a ChildSa> {
    charon.sas.iter().filter(move |sa| sa.conn == connection).flat_map(|sa| &sa.children)
}

fn file(file: ManagedFile, want: &Option<String>, have: &Option<String>, current: &System, steps: &mut Vec<Step>) {
    let why = match (want, have) {
        (Some(want), Some(have)) if want != have => "changed",
        (Some(_), Some(_)) if current.wrong_mode.contains(&file) => "permissions were wrong",
        (Some(_), None) => "new",
        (None, Some(_)) => {
            steps.push(Step::RemoveFile { file });
            return;
        }
        _ => return,
    };
    if let Some(contents) = want {
        steps.push(Step::WriteFile { file, contents: contents.clone(), why });
    }
}
