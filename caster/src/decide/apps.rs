//! Apps and what their instances are launched with.

use crosswan_core::model::Mode;

use super::{images::Wish, input::Input};
use crate::{
    desired::{Choice, Fault, Launch, Plain, Scaled},
    document::{Digest, Nat, UserData, Way, way_of},
    text,
    tree::KeyPath,
};

impl Input<'_> {
    /// The apps that are not gateways: plain ones, and Auto Scaling groups.
    pub(super) fn apps(&self, warnings: &mut Vec<Fault>) -> (Vec<Plain>, Vec<Scaled>) {
        let (mut plain, mut scaled) = (Vec::new(), Vec::new());
        for (i, app) in self.document.apps.iter().enumerate() {
            if way_of(self.document) == Way::App(i) {
                continue;
            }
            let launch = self.launch_app(i, warnings);
            let (name, path) = (app.name.clone(), KeyPath::of("apps").index(i));
            let subnets = self.subnets_in(app.public, app.azlimit.as_deref());
            let mut balancers: Vec<String> = Vec::new();
            for balancer in app.balancers() {
                if !balancers.iter().any(|b| b == balancer) {
                    balancers.push(balancer.to_owned());
                }
            }
            let addresses = app.addrs.clone();
            match app.autoscale {
                None => {
                    let count = app.count.unwrap_or(0) as usize;
                    plain.push(Plain { name, path, count, subnets, balancers, addresses, launch });
                }
                Some(scale) => scaled.push(Scaled {
                    name,
                    path,
                    min: scale.min,
                    max: scale.max,
                    desired: app.count.unwrap_or(scale.min),
                    subnets,
                    balancers,
                    addresses,
                    private_addresses: app.intaddrs.clone(),
                    launch,
                }),
            }
        }
        (plain, scaled)
    }

    pub(super) fn launch_nat(&self, nat: &Nat, warnings: &mut Vec<Fault>) -> Launch {
        let path = KeyPath::of("nat");
        let wish = Wish {
            path: path.clone(),
            ami: nat.ami.as_deref(),
            aminame: nat.aminame.as_deref(),
            instance_type: &nat.instance_type,
            zones: self.document.vpc.azs.first().map(String::as_str).into_iter().collect(),
        };
        let ready = self.ready(&wish, &nat.role, Some(&nat.keypair), warnings);
        Launch {
            name: self.names.full(&nat.name),
            service: nat.svctag.clone(),
            cluster: None,
            instance_type: nat.instance_type.clone(),
            profile: nat.role.clone(),
            key_pair: Some(nat.keypair.clone()),
            groups: vec![nat.group.clone()],
            public: false,
            user_data: Some(self.settings(self.nat_mode()).digest()),
            ready,
        }
    }

    pub(super) fn launch_app(&self, i: usize, warnings: &mut Vec<Fault>) -> Launch {
        let app = &self.document.apps[i];
        let path = KeyPath::of("apps").index(i);
        let gateway = way_of(self.document) == Way::App(i);
        let public = app.public || gateway;
        let used = if public { self.document.vpc.pubsubnets.len() } else { self.document.vpc.subnets.len() };
        let zones = match &app.azlimit {
            Some(zone) => vec![zone.as_str()],
            None => self.document.vpc.azs.iter().take(if gateway { 1 } else { used }).map(String::as_str).collect(),
        };
        let wish = Wish {
            path: path.clone(),
            ami: app.ami.as_deref(),
            aminame: app.aminame.as_deref(),
            instance_type: &app.instance_type,
            zones,
        };
        let mut ready = self.ready(&wish, &app.role, app.keypair.as_deref(), warnings);
        let user_data = match self.user_data(i) {
            Ok(digest) => digest,
            Err(fault) => {
                match &mut ready {
                    Err(faults) => faults.push(fault),
                    Ok(_) => ready = Err(vec![fault]),
                }
                None
            }
        };
        Launch {
            name: self.names.full(&app.name),
            service: app.svctag.clone(),
            cluster: app.cluster.clone(),
            instance_type: app.instance_type.clone(),
            profile: app.role.clone(),
            key_pair: app.keypair.clone(),
            groups: app.all_groups().into_iter().map(str::to_owned).collect(),
            // A gateway's address is that of its interface.
            public: app.public && !gateway,
            user_data: user_data.or_else(|| gateway.then(|| self.settings(Mode::VpnHub).digest())),
            ready,
        }
    }

    /// The digest of an app's user data; of a reference, of what it holds.
    fn user_data(&self, i: usize) -> Result<Option<Digest>, Fault> {
        let app = &self.document.apps[i];
        match self.data.get(&app.name) {
            None => Ok(None),
            Some(UserData::Text(text)) => Ok(Some(text.digest())),
            Some(UserData::Reference(name)) => match self.seen.references.get(name) {
                Some(digest) => Ok(Some(digest.clone())),
                None => {
                    let path = KeyPath::of("apps").index(i).key("userdata");
                    Err(Fault { path, what: format!("there is no {}", text::quoted(name)) })
                }
            },
        }
    }

    /// Image, profile and key pair, all faults at once. Warns of a type that AWS counts to an earlier generation.
    fn ready(
        &self,
        wish: &Wish,
        profile: &str,
        key_pair: Option<&str>,
        warnings: &mut Vec<Fault>,
    ) -> Result<Choice, Vec<Fault>> {
        let mut ready = self.image(wish);
        let mut missing = Vec::new();
        if !self.seen.profiles.contains(profile) {
            let near = text::nearest(profile, self.seen.profiles.iter().map(String::as_str));
            let near = near.map(|n| format!("; did you mean {}?", text::plain(n))).unwrap_or_default();
            let what = format!("there is no instance profile {profile}{near}");
            missing.push(Fault { path: wish.path.key("role"), what });
        }
        if let Some(key) = key_pair.filter(|key| !self.seen.key_pairs.contains(*key)) {
            let what = format!("there is no key pair {key} in {}", self.seen.region);
            missing.push(Fault { path: wish.path.key("keypair"), what });
        }
        if !missing.is_empty() {
            let mut faults = ready.err().unwrap_or_default();
            faults.extend(missing);
            ready = Err(faults);
        }
        if self.seen.instance_types.get(wish.instance_type).is_some_and(|kind| !kind.current) {
            let what = format!("{} is of a previous generation", wish.instance_type);
            warnings.push(Fault { path: wish.path.key("type"), what });
        }
        ready
    }
}
