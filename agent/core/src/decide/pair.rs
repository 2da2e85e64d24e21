//! Which other gateway of the own mode and VPC is the second member of the pair.
//!
//! EC2 and the keys that it shows decide; where EC2 does not answer, the members of the last pass stay. A gateway's key says its mode: the
//! tags of `nat-hub` and `nat-vpn` are the same. Which two of more than two gateways are the pair, `third` says.

use super::third::{self, Standing, Waiter};
use crate::{
    model::{Holder, InstanceId, Member, Mode, OwnInterface, OwnVpc, PublicKey, VpcId},
    observed::Observed,
    pair::{Me, Members, Newcomer, Other},
    settings::{Pairing, Settings},
};

/// The members.
///
/// # Errors
/// There is no pair; with a line for the report where two gateways could be one.
pub(super) fn members(settings: &Settings, observed: &Observed) -> Result<Members, Option<String>> {
    let pairing @ Pairing { port, asked, .. } = settings.pair.ok_or(None)?;
    let (Some(Ok(vpc)), Some(own)) = (&observed.vpc, observed.own_interface()) else {
        let last = observed.system.files.pair.as_deref().and_then(Members::parse);
        let last = last.filter(|last| last.me.instance == observed.me.instance);
        let last =
            last.ok_or_else(|| (asked && settings.mode == Mode::NatHub && observed.tags.is_none()).then(no_role))?;
        return Ok(Members { port, destinations: settings.destinations(), ..last });
    };
    let vpc_id = &observed.me.vpc;
    let stranger = |(instance, member): &(&InstanceId, &Member)| other_mode(settings.mode, vpc_id, instance, member);
    let (standing, waiting) = standing(settings, observed, vpc, own);
    let (instance, other) = match standing {
        Standing::With(instance, member) => (instance, member),
        Standing::Alone => {
            let stranger = vpc.members.iter().flatten().find_map(|other| Some((other.0, stranger(&other)?)));
            let why = |(instance, mode): (&InstanceId, Mode)| {
                format!("no pair with {instance}: it is a {mode} by its key, and this gateway a {}", settings.mode)
            };
            return Err(stranger.filter(|_| asked).map(why));
        }
        Standing::Waits(waits) => return Err(Some(waits.to_string())),
    };
    let keys = keys(settings.mode, vpc_id, instance, other);
    if keys.is_empty() {
        return Err(Some(format!(
            "no pair with {instance} yet: its tag crosswan-key announces no key of its own; look at crosswan status there"
        )));
    }
    Ok(Members {
        me: me(observed, own),
        other: Other { instance: instance.clone(), interface: other.interface.clone(), address: other.address, keys },
        port,
        destinations: settings.destinations(),
        asked_by: asked_by(pairing, observed, &waiting),
        waiting: waiting.iter().filter(|waiter| waiter.is_next).map(|waiter| waiter.instance.clone()).collect(),
    })
}

/// The gateway that asks this one for its place, if it is the next one that waits, and settings let it. One at a time: two members that
/// hand over have nobody to hand over to.
fn asked_by(pairing: Pairing, observed: &Observed, waiting: &[Waiter<'_>]) -> Option<Newcomer> {
    let next = waiting.iter().find(|waiter| waiter.is_next).filter(|_| pairing.newcomer_replaces)?;
    let asks = next.asks.as_ref() == Some(&observed.me.instance);
    Some(Newcomer { instance: next.instance.clone(), address: next.address.filter(|_| asks)? })
}

/// This gateway, as the members' file has it.
pub(super) fn me(observed: &Observed, own: &OwnInterface) -> Me {
    let me = &observed.me;
    Me {
        instance: me.instance.clone(),
        interface: own.id.clone(),
        subnet: own.subnet.clone(),
        vpc: me.vpc.clone(),
        region: me.region.clone(),
        address: me.private,
    }
}

/// Where this gateway stands among those of this VPC that are of its mode, or may be, as they have not announced a key yet; and those that
/// wait beside the pair.
pub(super) fn standing<'a>(
    settings: &Settings,
    observed: &'a Observed,
    vpc: &'a OwnVpc,
    own: &'a OwnInterface,
) -> (Standing<'a>, Vec<Waiter<'a>>) {
    let is_other = |(instance, member): &(&InstanceId, &Member)| {
        other_mode(settings.mode, &observed.me.vpc, instance, member).is_none()
    };
    third::standing(settings, observed, vpc, own, vpc.members.iter().flatten().filter(is_other))
}

fn no_role() -> String {
    "no pair: this gateway may not look at its VPC, where it would find the other one; give it the role of docs/iam/nat-hub.json".into()
}

/// The mode by its key, if that is another one than `own`. Hubs have a tag of their own, and sign as a `nat-vpn` does.
fn other_mode(own: Mode, vpc: &VpcId, instance: &InstanceId, member: &Member) -> Option<Mode> {
    let (key, holder) = (member.tags.key.read()?, Holder { vpc, instance });
    let own = if own == Mode::VpnHub { Mode::NatVpn } else { own };
    [Mode::NatHub, Mode::NatVpn].into_iter().find(|mode| *mode != own && key.is_in(*mode, &holder))
}

/// The key of its tag, and the one that follows it: each with the proof that this instance, in this mode, has it.
fn keys(mode: Mode, vpc: &VpcId, instance: &InstanceId, member: &Member) -> Vec<PublicKey> {
    let holder = Holder { vpc, instance };
    let key = member.tags.key.read().filter(|key| key.is_in(mode, &holder)).map(|key| key.key);
    let next = member.tags.next.read().filter(|next| key.is_some_and(|key| next.follows(&key, &holder)));
    key.into_iter().chain(next.map(|next| next.next)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            AskError, Identity, KeyTags, OwnTags, Timestamp,
            private_key::tests::{holder, key_pair},
        },
        system::Files,
    };

    const PAIRED: &str = "mode = 'nat-vpn'\nprivate_net = ['10.0.0.0/8']\nregions = ['us-west-2']\npair.enabled = true";
    const NAT_HUB: &str = "mode = 'nat-hub'\nprivate_net = ['10.0.0.0/8']\npair.enabled = true";

    /// This is gateway 1, and gateway `n` is another of its mode and VPC, which announces the key of gateway `signs`.
    fn with(toml: &str, others: &[(u32, u32)]) -> (Settings, Observed) {
        let mode = Settings::of_toml(toml).mode;
        with_modes(toml, &others.iter().map(|(n, signs)| (*n, *signs, mode)).collect::<Vec<_>>())
    }

    fn with_modes(toml: &str, others: &[(u32, u32, Mode)]) -> (Settings, Observed) {
        let settings = Settings::of_toml(toml);
        let (vpc, instance) = holder(1);
        let me = Identity {
            instance,
            region: "us-west-2".parse().unwrap(),
            vpc: vpc.clone(),
            cidrs: ["10.1.0.0/16".parse().unwrap()].into(),
            private: [10, 1, 0, 4].into(),
            public: None,
        };
        let mut observed = Observed::new(&settings, me, "ens5".parse().unwrap(), Timestamp(1000));
        let interface = Some(OwnInterface {
            id: "eni-00000001".parse().unwrap(),
            subnet: "subnet-00000001".parse().unwrap(),
            launched: Timestamp(1),
        });
        observed.tags = Some(Ok(OwnTags { interface, ..OwnTags::default() }));
        let member = |(n, signs, mode): &(u32, u32, Mode)| {
            let (id, signed_for) = (holder(*n).1, holder(*signs).1);
            let key = key_pair(2).proven_in(*mode, &Holder { vpc: &vpc, instance: &signed_for }).unwrap().to_string();
            let (address, interface) = ([10, 1, 0, 5].into(), "eni-00000002".parse().unwrap());
            (id, Member { address, interface, zone: None, launched: Timestamp(1), tags: KeyTags::of(Some(&key), None) })
        };
        let members = settings.pair.map(|_| others.iter().map(member).collect());
        observed.vpc = Some(Ok(OwnVpc { members, ..OwnVpc::default() }));
        (settings, observed)
    }

    fn of(toml: &str, others: &[(u32, u32)]) -> Result<Members, Option<String>> {
        let (settings, observed) = with(toml, others);
        members(&settings, &observed)
    }

    #[test]
    fn two_are_a_pair_by_the_key_that_the_other_one_proves() {
        let pair = of(PAIRED, &[(2, 2)]).unwrap();
        assert_eq!(
            (&pair.other.instance, &pair.other.keys[..], pair.port),
            (&holder(2).1, &[key_pair(2).public][..], 4795)
        );
        assert_eq!(Members::parse(&pair.text()), Some(pair));
        assert_eq!(of(PAIRED, &[]), Err(None), "one alone is nothing to talk about");
        assert!(of(PAIRED, &[(2, 3)]).unwrap_err().unwrap().contains("announces no key of its own"));
        for off in ["false", "true\nauth.method = 'psk'"] {
            let toml = PAIRED.replace("true", off);
            assert_eq!(of(&toml, &[(2, 2)]), Err(None), "{off}");
        }
    }

    #[test]
    fn only_gateways_of_one_mode_are_a_pair_and_another_one_beside_them_ends_none() {
        assert_eq!(of(NAT_HUB, &[(2, 2)]).unwrap().other.keys, [key_pair(2).public]);
        let (hub, client) = (Mode::NatHub, Mode::NatVpn);
        for (own, mode, other, as_other) in [(NAT_HUB, hub, client, "a nat-vpn"), (PAIRED, client, hub, "a nat-hub")] {
            let of = |others: &[(u32, u32, Mode)]| {
                let (settings, observed) = with_modes(own, others);
                members(&settings, &observed)
            };
            let why = of(&[(2, 2, other)]).unwrap_err().unwrap();
            assert!(why.contains(&format!("no pair with {}: it is {as_other}", holder(2).1)), "{why}");
            assert_eq!(of(&[(2, 2, other), (3, 3, mode)]).unwrap().other.instance, holder(3).1);
            let why = of(&[(2, 2, mode), (3, 3, mode), (4, 4, other)]).unwrap_err().unwrap();
            assert!(why.contains("waits beside them"), "three of the mode: {why}");
        }
    }

    #[test]
    fn a_nat_hub_without_a_role_is_told_what_a_pair_needs_only_where_settings_ask_for_one() {
        for (toml, told) in
            [(NAT_HUB.to_owned(), true), (NAT_HUB.replace("true", "false"), false), (PAIRED.into(), false)]
        {
            let (settings, mut observed) = with(&toml, &[]);
            (observed.tags, observed.vpc) = (None, None);
            let why = members(&settings, &observed).unwrap_err();
            assert_eq!(why.is_some_and(|why| why.contains("docs/iam/nat-hub.json")), told, "{toml}");
            observed.tags = Some(Err(AskError::TimedOut { after: std::time::Duration::from_secs(1) }));
            assert_eq!(members(&settings, &observed), Err(None), "what could not be asked is said elsewhere");
        }
    }

    #[test]
    fn where_ec2_does_not_answer_the_members_of_the_last_pass_stay() {
        let text = of(PAIRED, &[(2, 2)]).unwrap().text();
        let (settings, mut observed) = with(&format!("{PAIRED}\npair.port = 5000"), &[]);
        observed.vpc = Some(Err(AskError::NoCredentialSource));
        assert_eq!(members(&settings, &observed), Err(None));
        observed.system.files = Files { pair: Some(text.clone()), ..Files::default() };
        let kept = members(&settings, &observed).unwrap();
        assert_eq!((kept.other.instance, kept.port), (holder(2).1, 5000));
        // A file that came with an image is another gateway's.
        observed.me.instance = holder(7).1;
        assert_eq!(members(&settings, &observed), Err(None));
    }
}
