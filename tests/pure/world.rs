//! A world for the pure stages: what was seen, and a charon that holds exactly what it was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crosswan_core::{
    decide::{Decided, Request, decide},
    error::Result,
    model::{
        Answers, AskError, Identity, Mode, OwnKeys, OwnTags, Place, RegionView, Scope, Secret, SegmentTag, Timestamp,
        Tries, VpcId,
    },
    observed::{Observed, Psk, Psks, clients},
    plan::{Step, plan},
    render::{Capabilities, render},
    settings::{Flags, LegacyFile, Settings, Sources, TomlFile},
    state::State,
    swanctl::{Summary, place},
    system::{Charon, ChildSa, Configuration, Files, Sa, System},
};
use serde::{Deserialize, Deserializer};

/// What `observe` would have brought in.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct World {
    pub me: Identity,
    pub uplink: String,
    pub now: i64,
    #[serde(default, deserialize_with = "answers")]
    pub answers: Answers,
    #[serde(default)]
    pub state: State,
    /// This gateway's own keys; without them every tunnel has a pre-shared one.
    #[serde(default)]
    pub own: Option<OwnKeys>,
    /// EC2's source/destination check of the own instance, if EC2 was asked about that.
    #[serde(default)]
    pub source_dest_check: Option<bool>,
    /// What the own VPC's tag says of its segment, if EC2 was asked about that.
    #[serde(default)]
    pub segment: Option<SegmentTag>,
    /// The key exchange methods charon has.
    pub key_exchanges: BTreeSet<String>,
    /// charon's IKE_SAs: the connection, and whether it has a child. Without it every loaded one is up.
    #[serde(default)]
    pub sas: Option<BTreeMap<String, bool>>,
}

/// A region's answer, or EC2's code for a throttle.
fn answers<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Answers, D::Error> {
    let throttled =
        |code| AskError::Throttled { service: "EC2", operation: "DescribeInstances", code, tries: Tries::Insisted(8) };
    let answers: BTreeMap<Scope, std::result::Result<RegionView, String>> = BTreeMap::deserialize(from)?;
    Ok(answers.into_iter().map(|(region, answer)| (region, answer.map_err(throttled))).collect())
}

/// The settings of a folder laid out like the root of a gateway.
pub(crate) fn settings(root: &Path) -> Result<Settings> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root.join("etc/crosswan/conf.d"))
        .map(|entries| entries.map(|e| e.unwrap().path()).collect())
        .unwrap_or_default();
    paths.sort();
    paths.insert(0, root.join("etc/crosswan/crosswan.toml"));
    let toml = paths.into_iter().filter_map(|path| Some(TomlFile { text: fs::read_to_string(&path).ok()?, path }));
    settings_of(root, toml.collect())
}

/// The settings of these TOML files, and of the 2014 files below `root`.
pub(crate) fn settings_of(root: &Path, toml: Vec<TomlFile>) -> Result<Settings> {
    let legacy = |mode: Mode| {
        let path = root.join(format!("etc/default/{mode}"));
        let text = fs::read_to_string(&path).ok();
        Ok(text.map(|text| LegacyFile { path, text, open: false }))
    };
    let sources = Sources { root, toml, env: &BTreeMap::new(), flags: &Flags::default() };
    Settings::of(&sources, legacy)
}

/// The IKE_SA of a loaded connection, with its children if it carries packets.
fn established(name: &str, loaded: &Summary, place: Option<Place>, carries: bool) -> Sa {
    let if_id = place.map(Place::if_id);
    let child = |name: &String| ChildSa { name: name.clone(), state: "INSTALLED".into(), if_id, ..ChildSa::default() };
    Sa {
        conn: name.to_owned(),
        state: "ESTABLISHED".into(),
        remote_host: loaded.remote_addrs.first().cloned().unwrap_or_default(),
        local_id: loaded.local_id.clone().unwrap_or_default(),
        children: loaded.children.keys().filter(|_| carries).map(child).collect(),
        ..Sa::default()
    }
}

impl World {
    /// All of it, on a gateway whose system is as `files` say.
    pub(crate) fn observed(&self, settings: &Settings, files: &Files) -> Observed {
        let mut system = settled(files);
        let place = |name: &String| system.places.get(&name.parse().ok()?).copied();
        if let Some(charon) = &mut system.charon {
            charon.key_exchanges = self.key_exchanges.clone();
            charon.sas = match &self.sas {
                Some(sas) => sas
                    .iter()
                    .map(|(name, carries)| {
                        let loaded = charon.connections.get(name).cloned().unwrap_or_default();
                        established(name, &loaded, place(name), *carries)
                    })
                    .collect(),
                None => charon
                    .connections
                    .iter()
                    .map(|(name, loaded)| established(name, loaded, place(name), true))
                    .collect(),
            };
        }
        let vpcs = clients(&self.answers, &self.state, &self.me).into_iter().chain([self.me.vpc.clone()]);
        let psk = |vpc: VpcId| {
            let secret = Some(Secret::new(format!("key of {vpc}")));
            (vpc, Psk { secret, problem: None })
        };
        let uplink = self.uplink.parse().expect("an interface's name");
        Observed {
            answers: self.answers.clone(),
            state: self.state.clone(),
            psks: Psks { of: vpcs.map(psk).collect(), ..Psks::default() },
            own: self.own,
            tags: self.source_dest_check.map(|on| Ok(OwnTags { source_dest_check: Some(on), ..OwnTags::default() })),
            segment: self.segment.clone().map(Ok),
            system,
            ..Observed::new(settings, self.me.clone(), uplink, Timestamp(self.now))
        }
    }

    pub(crate) fn decide(&self, settings: &Settings) -> Result<Decided> {
        decide(settings, &self.observed(settings, &Files::default()), &Request::default())
    }

    /// At a gateway that has no files yet.
    pub(crate) fn files(&self, settings: &Settings) -> Result<(Decided, Files)> {
        let decided = self.decide(settings)?;
        let files = render(settings.mode, &decided, Capabilities::of(&self.key_exchanges))?;
        Ok((decided, files))
    }
}

/// The system after an apply of `files` that went well, told by nothing but the files.
pub(crate) fn settled(files: &Files) -> System {
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
        routing: target.routing.clone(),
        places: target.connections.iter().filter_map(|(name, tree)| Some((name.clone(), place(tree)?))).collect(),
        believed: target,
        charon: Some(charon),
        ..System::default()
    }
}

/// The steps from one set of files to another, as an operator reads them.
pub(crate) fn steps(from: &Files, to: &Files) -> Vec<String> {
    let target = Configuration::of(to.clone()).expect("our own text parses");
    plan(&target, &settled(from)).iter().map(Step::to_string).collect()
}
