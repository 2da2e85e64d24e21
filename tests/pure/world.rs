//! A world for the pure stages: what was seen, and a charon that holds exactly what it was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crosswan_core::{
    decide::{Contacts, Decision, KeyAnswer, Seen, decide, rotation::OwnKeys},
    error::Result,
    model::{Answers, Identity, Mode, Secret, Timestamp, VpcId},
    plan::{Step, plan},
    render::{Capabilities, render},
    report::Report,
    settings::{Flags, LegacyFile, Settings, Sources, TomlFile},
    state::State,
    swanctl::Summary,
    system::{Charon, ChildSa, Configuration, Files, Sa, System},
};
use serde::{Deserialize, Serialize};

/// What `observe` would have brought in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct World {
    pub me: Identity,
    pub uplink: String,
    pub now: i64,
    #[serde(default)]
    pub answers: Answers,
    #[serde(default)]
    pub state: State,
    /// This gateway's own keys; without them every tunnel has a pre-shared one.
    #[serde(default)]
    pub own: Option<OwnKeys>,
    /// The key exchange methods charon has.
    pub key_exchanges: BTreeSet<String>,
    /// charon's IKE_SAs: the connection, and whether it has a child. Without it charon was not asked.
    #[serde(default)]
    pub sas: Option<BTreeMap<String, bool>>,
}

/// The settings of a folder laid out like the root of a gateway.
pub fn settings(root: &Path) -> Result<Settings> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root.join("etc/crosswan/conf.d"))
        .map(|entries| entries.map(|e| e.unwrap().path()).collect())
        .unwrap_or_default();
    paths.sort();
    paths.insert(0, root.join("etc/crosswan/crosswan.toml"));
    let toml = paths.into_iter().filter_map(|path| Some(TomlFile { text: fs::read_to_string(&path).ok()?, path }));
    settings_of(root, toml.collect())
}

/// The settings of these TOML files, and of the 2014 files below `root`.
pub fn settings_of(root: &Path, toml: Vec<TomlFile>) -> Result<Settings> {
    let legacy = |mode: Mode| {
        let path = root.join(format!("etc/default/{mode}"));
        let text = fs::read_to_string(&path).ok();
        Ok(text.map(|text| LegacyFile { path, text, open: false }))
    };
    let sources = Sources { root, toml, env: &BTreeMap::new(), flags: &Flags::default() };
    Settings::of(&sources, legacy)
}

fn key(vpc: &VpcId) -> KeyAnswer {
    KeyAnswer { key: Some(Secret::new(format!("key of {vpc}"))), problem: None }
}

fn established((conn, carries): (&String, &bool)) -> Sa {
    let child = ChildSa { state: "INSTALLED".into(), ..ChildSa::default() };
    let children = carries.then_some(child).into_iter().collect();
    Sa { conn: conn.clone(), state: "ESTABLISHED".into(), children, ..Sa::default() }
}

impl World {
    pub fn decide(&self, settings: &Settings) -> Result<Decision> {
        let contacts = self.sas.as_ref().map(|sas| Contacts::of(&sas.iter().map(established).collect::<Vec<_>>()));
        let contacts = contacts.unwrap_or_default();
        let uplink = self.uplink.parse().expect("an interface's name");
        let seen = Seen {
            me: &self.me,
            answers: &self.answers,
            state: &self.state,
            now: Timestamp(self.now),
            uplink: &uplink,
            keys: &key,
            own: self.own,
            contacts: &contacts,
            loaded: &BTreeSet::new(),
            pinned: &BTreeMap::new(),
            accept: &BTreeMap::new(),
        };
        decide(settings, &seen, false)
    }

    pub fn files(&self, settings: &Settings) -> Result<(Decision, Files)> {
        let decision = self.decide(settings)?;
        let files = render(settings.mode, &decision, Capabilities::of(&self.key_exchanges))?;
        Ok((decision, files))
    }

    pub fn report(&self, settings: &Settings, decision: &Decision) -> Report {
        Report::new(Timestamp(self.now), settings.mode, &self.me, &self.answers, decision)
    }
}

/// The system after an apply of `files` that went well, told by nothing but the files.
pub fn settled(files: &Files) -> System {
    let target = Configuration::of(files.clone()).expect("our own text parses");
    let charon = Charon {
        version: "5.9.8".into(),
        key_exchanges: BTreeSet::new(),
        connections: target.connections.iter().map(|(n, tree)| (n.to_string(), Summary::of(tree))).collect(),
        secrets: target.secrets.keys().cloned().collect(),
        keys: BTreeSet::new(),
        sas: Vec::new(),
    };
    System {
        files: files.clone(),
        rules: target.rules.clone(),
        believed: target,
        charon: Some(charon),
        ..System::default()
    }
}

/// The steps from one set of files to another, as an operator reads them.
pub fn steps(from: &Files, to: &Files) -> Vec<String> {
    let target = Configuration::of(to.clone()).expect("our own text parses");
    plan(&target, &settled(from)).iter().map(Step::to_string).collect()
}
