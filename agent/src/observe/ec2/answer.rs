//! EC2's answer in the model's types: an instance that fits becomes a gateway, and any other becomes a refusal with its reason.
//! Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use aws_sdk_ec2::types::{Instance, InstanceStateName, Tag, Vpc, VpcCidrBlockStateCode};
use ipnet::Ipv4Net;

use crosswan_core::model::{
    Gateway, InstanceId, KEY_TAG, KeyTags, MAKES_WAY_TAG, NEXT_KEY_TAG, Refusal, RegionView, Scope, SegmentTag,
    TAKES_PLACE_TAG, Timestamp, VpcId, plain, printable, vpc_cidr,
};

/// What a region has shown so far, page by page. An instance that pages repeat is kept once, as last seen.
pub(super) struct Collected<'a> {
    scope: &'a Scope,
    gateways: BTreeMap<InstanceId, Gateway>,
    unusable: BTreeSet<Refusal>,
    stopped: BTreeSet<InstanceId>,
    deleted: BTreeSet<VpcId>,
}

impl<'a> Collected<'a> {
    pub(super) fn new(scope: &'a Scope) -> Self {
        Collected {
            scope,
            gateways: BTreeMap::new(),
            unusable: BTreeSet::new(),
            stopped: BTreeSet::new(),
            deleted: BTreeSet::new(),
        }
    }

    /// The VPCs that hold a gateway.
    pub(super) fn vpcs(&self) -> BTreeSet<VpcId> {
        self.gateways.values().map(|g| g.vpc.clone()).collect()
    }

    /// Adds one instance of the answer. One that is not running in spite of the filter, because it stopped meanwhile, is left out.
    pub(super) fn add(&mut self, instance: &Instance) {
        if instance.state.as_ref().and_then(|s| s.name.as_ref()).is_some_and(|s| *s != InstanceStateName::Running) {
            return;
        }
        match gateway(self.scope, instance) {
            Ok(gateway) => {
                self.gateways.insert(gateway.instance.clone(), gateway);
            }
            Err(reason) => {
                let id = |s: &Option<String>| s.as_deref().and_then(|s| s.parse().ok());
                let vpc = instance.vpc_id.as_deref().and_then(|v| v.parse().ok());
                self.refuse(vpc, id(&instance.instance_id), reason);
            }
        }
    }

    /// Those of the `known` instances that the answer does not show.
    pub(super) fn missing<'k>(&self, known: &'k BTreeSet<InstanceId>) -> Vec<&'k InstanceId> {
        let shown = |id: &InstanceId| {
            self.gateways.contains_key(id) || self.unusable.iter().any(|refusal| refusal.instance.as_ref() == Some(id))
        };
        known.iter().filter(|id| !shown(id)).collect()
    }

    /// Notes the state of an instance that was asked for by its id. Only an explicit state counts: an instance that is not shown at
    /// all stays unknown.
    pub(super) fn note_state(&mut self, instance: &Instance) {
        let state = instance.state.as_ref().and_then(|s| s.name.as_ref());
        let id = instance.instance_id.as_deref().and_then(|id| id.parse().ok());
        let ended = |s: &InstanceStateName| !matches!(s, InstanceStateName::Running | InstanceStateName::Pending);
        self.stopped.extend(id.filter(|_| state.is_some_and(ended)));
    }

    /// Notes which of the `known` VPCs a whole answer did not show.
    pub(super) fn note_deleted(&mut self, known: &BTreeSet<VpcId>, shown: &[Vpc]) {
        let shown: BTreeSet<&str> = shown.iter().filter_map(|vpc| vpc.vpc_id.as_deref()).collect();
        self.deleted = known.iter().filter(|vpc| !shown.contains(vpc.as_str())).cloned().collect();
    }

    /// Gives each gateway its VPC's CIDRs, and its segment by the tag with this key if there are segments. A gateway is unusable if its
    /// VPC is missing from the answer, or if one of its CIDRs cannot be read: tunnelling part of a VPC would look like success.
    pub(super) fn set_vpcs(&mut self, vpcs: &[Vpc], segment_tag: Option<&str>) {
        let known: BTreeMap<&str, &Vpc> = vpcs.iter().filter_map(|v| Some((v.vpc_id.as_deref()?, v))).collect();
        for (id, mut gateway) in std::mem::take(&mut self.gateways) {
            let found = known.get(gateway.vpc.as_str()).ok_or("DescribeVpcs did not return its VPC".to_owned());
            let shown = |vpc: &&Vpc| Ok((cidrs(vpc)?, segment_tag.map(|key| segment(vpc, key))));
            match found.and_then(|vpc| foreign(vpc, self.scope).map_or_else(|| shown(vpc), Err)) {
                Ok((cidrs, segment)) => {
                    (gateway.cidrs, gateway.segment) = (cidrs, segment);
                    self.gateways.insert(id, gateway);
                }
                Err(reason) => self.refuse(Some(gateway.vpc), Some(id), reason),
            }
        }
    }

    pub(super) fn into_view(self) -> RegionView {
        RegionView {
            gateways: self.gateways.into_values().collect(),
            unusable: self.unusable.into_iter().collect(),
            stopped: self.stopped,
            deleted: self.deleted,
        }
    }

    fn refuse(&mut self, vpc: Option<VpcId>, instance: Option<InstanceId>, reason: String) {
        self.unusable.insert(Refusal { region: self.scope.clone(), vpc, instance, cidr: None, reason });
    }
}

fn gateway(scope: &Scope, i: &Instance) -> Result<Gateway, String> {
    fn given<'v>(what: &str, value: &'v Option<String>) -> Result<&'v str, String> {
        value.as_deref().ok_or_else(|| format!("EC2 shows no {what} for it"))
    }
    let address = |what: &str, found: &str| {
        found.parse::<Ipv4Addr>().map_err(|_| format!("its {what} is not an IPv4 address: {}", printable(found)))
    };
    i.state.as_ref().and_then(|s| s.name.as_ref()).ok_or("EC2 shows no state for it")?;
    Ok(Gateway {
        instance: given("id", &i.instance_id)?.parse().map_err(|e| format!("its instance id is not valid: {e}"))?,
        region: scope.region.clone(),
        account: scope.account.clone(),
        vpc: given("VPC", &i.vpc_id)?.parse().map_err(|e| format!("its VPC id is not valid: {e}"))?,
        public: i.public_ip_address.as_deref().map(|found| address("public address", found)).transpose()?,
        address: i.private_ip_address.as_deref().and_then(|found| found.parse().ok()),
        launched: launched(i).ok_or("EC2 shows no launch time for it")?,
        cidrs: BTreeSet::new(),
        segment: None,
        tags: key_tags(i),
    })
}

/// When an instance was launched, if the answer says it.
pub(super) fn launched(instance: &Instance) -> Option<Timestamp> {
    instance.launch_time.map(|at| Timestamp(at.secs()))
}

/// What an instance announces.
pub(super) fn key_tags(instance: &Instance) -> KeyTags {
    let keys = KeyTags::of(tag(instance, KEY_TAG), tag(instance, NEXT_KEY_TAG));
    keys.with_claims(tag(instance, MAKES_WAY_TAG), tag(instance, TAKES_PLACE_TAG))
}

/// The value of an instance's tag, if it has that tag.
pub(super) fn tag<'i>(instance: &'i Instance, key: &str) -> Option<&'i str> {
    value(instance.tags(), key)
}

fn value<'t>(tags: &'t [Tag], key: &str) -> Option<&'t str> {
    tags.iter().find(|tag| tag.key() == Some(key)).map(|tag| tag.value().unwrap_or_default())
}

/// What the tag with this key says of a VPC's segment.
pub(super) fn segment(vpc: &Vpc, key: &str) -> SegmentTag {
    SegmentTag::of(value(vpc.tags(), key))
}

/// Why a gateway of a VPC that another account has shared with this one does not count: its administrator could take the owner's place.
/// What the own account shows counts as before there were accounts.
fn foreign(vpc: &Vpc, scope: &Scope) -> Option<String> {
    let (account, owner) = (scope.account.as_ref()?, vpc.owner_id()?);
    (owner != account.as_str())
        .then(|| format!("its VPC belongs to account {}, which alone may bring it", plain(owner)))
}

/// The CIDRs of a VPC in state `associated`, the primary one among them.
fn cidrs(vpc: &Vpc) -> Result<BTreeSet<Ipv4Net>, String> {
    let set = vpc.cidr_block_association_set.as_deref().ok_or("EC2 shows no CIDRs for its VPC")?;
    let associated = set.iter().filter(|association| {
        association.cidr_block_state.as_ref().and_then(|s| s.state.as_ref()) == Some(&VpcCidrBlockStateCode::Associated)
    });
    let cidrs = associated
        .map(|association| {
            let found = association.cidr_block.as_deref().unwrap_or_default();
            vpc_cidr(found).ok_or_else(|| format!("its VPC has an invalid CIDR: {}", printable(found)))
        })
        .collect::<Result<BTreeSet<_>, _>>()?;
    if cidrs.is_empty() { Err("its VPC has no associated CIDR".into()) } else { Ok(cidrs) }
}
