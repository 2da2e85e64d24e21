//! What must hold whatever was read: the properties, as functions that panic.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use crosswan_core::{
    decide::{Decided, Request, decide},
    error::Error,
    iptables::{self, Rules},
    model::{Answers, Auth, ConnName, Holder, Identity, Interface, OwnKeys, Secret, Timestamp, Tunnel},
    observed::{Observed, Psk, Psks},
    outcome::Outcome,
    plan::{Planned, Step, plan},
    render::{Capabilities, render},
    report::Report,
    settings::Settings,
    state::State,
    swanctl::{self, ChildSummary, Node, Summary, Tree},
    system::{Charon, Configuration, Files, System},
};
use ipnet::Ipv4Net;

use crate::fake;

#[path = "../../support/settings_text.rs"]
mod settings_text;

/// When a pass takes place: later than what the corpus's state files remember.
pub const NOW: Timestamp = Timestamp(1_400_100_000);

/// A line for the journal or a terminal holds nothing that moves a cursor, ends the line or hides.
pub fn line(line: impl Display) {
    let line = line.to_string();
    let fine = |c: char| c == ' ' || c.is_ascii_graphic() || "…\u{fffd}".contains(c);
    assert!(line.chars().all(fine), "not fit for a line of output: {line:?}");
}

/// An error's whole chain is such a line.
pub fn error(error: &Error) {
    line(error.chain());
}

/// Decide, render and report over what was seen, with a key per peer whose bytes are `key`; then the properties of what
/// came out. `None`: decide itself refused.
pub fn pass(settings: &Settings, me: &Identity, answers: &Answers, state: &State, key: &[u8]) -> Option<Decided> {
    let uplink: Interface = "ens5".parse().unwrap();
    let psk = Psk { secret: Some(Secret::new(key)), problem: None };
    let observed = Observed {
        answers: answers.clone(),
        state: state.clone(),
        psks: Psks { shared: psk, ..Psks::default() },
        own: Some(own(me)),
        ..Observed::new(settings, me.clone(), uplink.clone(), NOW)
    };
    let decided = match decide(settings, &observed, &Request::default()) {
        Ok(decided) => decided,
        Err(e) => {
            error(&e);
            return None;
        }
    };
    let files = render(settings.mode, &decided, Capabilities { ml_kem: true }).unwrap();
    rendered(settings, &decided, &files, &uplink);
    let planned = Planned::of(settings, &observed, &decided).unwrap();
    let report = Report::of(settings, &observed, &decided, Outcome::planned(&planned));
    report.to_string().lines().for_each(line);
    let written = serde_json::to_string(&decided.state).unwrap();
    assert_eq!(serde_json::from_str::<State>(&written).unwrap(), decided.state, "the state reads back as another");
    Some(decided)
}

/// This gateway's keys in the middle of a rotation.
fn own(me: &Identity) -> OwnKeys {
    let holder = Holder { vpc: &me.vpc, instance: &me.instance };
    let (current, next) = (fake::key_pair(251, &me.instance), fake::key_pair(252, &me.instance));
    OwnKeys {
        current: current.proven(&holder).unwrap(),
        next: Some((next.proven(&holder).unwrap(), current.succeeded_by(&next, &holder).unwrap())),
    }
}

/// No hostile byte reaches a file, and what the files say when they are read back is what was decided.
fn rendered(settings: &Settings, decided: &Decided, files: &Files, uplink: &Interface) {
    for text in [&files.connections, &files.secrets, &files.rules].into_iter().flatten() {
        assert!(
            text.bytes().all(|b| b == b'\n' || b == b' ' || b.is_ascii_graphic()),
            "a byte that is no text: {text}"
        );
    }
    for text in [&files.connections, &files.secrets].into_iter().flatten() {
        text_of(&swanctl::parse(text).unwrap());
    }
    let target = Configuration::of(files.clone()).unwrap();
    if settings.mode.has_ipsec() {
        connections(decided, &target.connections);
        let owned = |t: &Tunnel| vec![t.local_id.to_string(), t.remote_id.to_string()];
        let psk = |(n, t): (&ConnName, &Tunnel)| match &t.auth {
            Auth::Psk(key) => Some((format!("ike-{n}"), (key.clone(), owned(t)))),
            Auth::Key { .. } => None,
        };
        let want = decided.tunnels.iter().filter_map(psk);
        let have = target.secrets.iter().map(|(id, s)| (id.clone(), (s.secret.clone(), s.owners.clone())));
        assert_eq!(want.collect::<BTreeMap<_, _>>(), have.collect(), "secrets");
    } else {
        assert_eq!((&files.connections, &files.secrets), (&None, &None));
    }
    rules(decided, files.rules.as_deref().unwrap(), uplink);
    assert_eq!(plan(&target, &settled(&target)).len(), 0, "after an apply there is something left to do");
}

/// Every connection reads back as its tunnel, and there is no other.
fn connections(decided: &Decided, read: &BTreeMap<ConnName, Tree>) {
    let child = |s: &crosswan_core::model::Selectors| ChildSummary {
        local_ts: selectors(&s.local),
        remote_ts: selectors(&s.remote),
        mode: "tunnel".into(),
    };
    let tunnel = |t: &Tunnel| Summary {
        local_addrs: [t.local_addr.to_string()].into(),
        remote_addrs: [t.remote_addr.to_string()].into(),
        local_id: Some(t.local_id.to_string()),
        remote_id: Some(t.remote_id.to_string()),
        local_auth: t.auth.method().into(),
        remote_auth: t.auth.method().into(),
        children: t.children.iter().map(|(name, s)| (name.clone(), child(s))).collect(),
    };
    let want: BTreeMap<ConnName, Summary> = decided.tunnels.iter().map(|(n, t)| (n.clone(), tunnel(t))).collect();
    let have: BTreeMap<ConnName, Summary> = read.iter().map(|(n, tree)| (n.clone(), Summary::of(tree))).collect();
    assert_eq!(want, have, "connections");
    let keys = |t: &Tunnel| match &t.auth {
        Auth::Psk(_) => Vec::new(),
        Auth::Key { peer, .. } => peer.clone(),
    };
    for (name, tunnel) in &decided.tunnels {
        assert_eq!(swanctl::peer_keys(&read[name]), keys(tunnel), "the peer's keys");
        let place = (!tunnel.children.is_empty()).then_some(tunnel.place);
        assert_eq!(swanctl::place(&read[name]), place, "the place");
    }
}

/// Networks as charon keeps them: without host bits, and without those inside another one.
fn selectors(nets: &BTreeSet<Ipv4Net>) -> BTreeSet<String> {
    let nets: BTreeSet<Ipv4Net> = nets.iter().map(Ipv4Net::trunc).collect();
    let outermost = |n: &&Ipv4Net| !nets.iter().any(|o| o != *n && o.contains(*n));
    nets.iter().filter(outermost).map(Ipv4Net::to_string).collect()
}

/// Every word of the rules file that is not fixed is a network or an interface that was decided on.
fn rules(decided: &Decided, text: &str, uplink: &Interface) {
    let nets: BTreeSet<String> =
        decided.nat.private_net.iter().chain(&decided.nat.own).map(|n| n.trunc().to_string()).collect();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(["*", ":CROSSWAN-", "-A ", "COMMIT"].iter().any(|start| line.starts_with(start)), "{line}");
        for pair in words.windows(2) {
            match pair {
                ["-s" | "-d", net] => {
                    assert!(nets.contains(*net) && !net.ends_with("/0"), "not a network of ours: {line}")
                }
                ["-i" | "-o", device] => {
                    assert!([uplink.as_str(), "cw+"].contains(device), "{line}");
                }
                ["-j" | "-g", to] => assert!(
                    to.starts_with("CROSSWAN-")
                        || ["ACCEPT", "DROP", "REJECT", "RETURN", "TCPMSS", "MASQUERADE"].contains(to),
                    "{line}"
                ),
                _ => {}
            }
        }
    }
    assert_eq!(iptables::plan(&Rules::parse(text), &Rules::parse(&saved(text))), None, "iptables-save would differ");
}

/// What iptables-save prints after the file was restored: comments gone, counters in another state.
fn saved(text: &str) -> String {
    let kept = text.lines().filter(|l| !l.starts_with('#')).map(|l| l.replace("[0:0]", "[7:420]") + "\n");
    kept.collect()
}

/// Written and parsed again, a tree is the same.
pub fn text_of(tree: &Tree) {
    assert_eq!(swanctl::parse(&settings_text::write(tree)).as_ref(), Ok(tree), "written and read it is another tree");
}

/// Every step says what it does on one line.
pub fn steps(steps: &[Step]) {
    steps.iter().for_each(line);
}

/// The system after an apply that went well, told by nothing but the files.
pub fn settled(target: &Configuration) -> System {
    let charon = Charon {
        connections: target.connections.iter().map(|(n, tree)| (n.to_string(), Summary::of(tree))).collect(),
        secrets: target.secrets.keys().cloned().collect(),
        ..Charon::default()
    };
    System {
        files: target.files.clone(),
        rules: target.rules.clone(),
        routing: target.routing.clone(),
        believed: target.clone(),
        charon: Some(charon),
        ..System::default()
    }
}

/// What another has set up in charon is never unloaded, ended or replaced.
pub fn only_ours(steps: &[Step]) {
    for step in steps {
        let name = match step {
            Step::UnloadConnection { name } => name,
            Step::UnloadSecret { id } => id.strip_prefix("ike-").unwrap_or("another's"),
            Step::TerminateChild { connection, .. } | Step::Terminate { connection, .. } => connection,
            _ => continue,
        };
        assert!(name.parse::<ConnName>().is_ok(), "{step} is not ours to do");
    }
}
