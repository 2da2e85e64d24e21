//! What this gateway's own tags should say, and what is wrong with those that EC2 shows.

use super::{
    rotation::{Presence, present},
    trust::fingerprints,
};
use crate::{
    model::{Holder, KEY_TAG, KeyTags, OwnTags, PublicKey, Tagged},
    observed::Observed,
    settings::Settings,
};

/// The tags that do not say what they should, with the values that they should have. If EC2 could not be asked, that is all of
/// them: they are written again.
pub(super) fn announce(presence: Option<&Presence>, observed: &Observed) -> Vec<(&'static str, String)> {
    let nothing = OwnTags::default();
    let there = observed.tags.as_ref().and_then(|tags| tags.as_ref().ok()).unwrap_or(&nothing);
    presence.map(|p| p.announce.missing_from(there.key.as_deref(), there.next.as_deref())).unwrap_or_default()
}

/// What a `nat-hub` announces: nothing before EC2 has shown its own instance, as it may have no role, and nothing again where its role does
/// not permit that and nobody is there who would read it. Its next key takes over a pass after it was announced, so that the others of its
/// VPC can have read it.
pub(super) fn of_nat_hub(settings: &Settings, observed: &Observed) -> Option<Presence> {
    if observed.may_not_announce && !settings.needs_key() && !observed.has_company() {
        return None;
    }
    let (own, Some(Ok(tags))) = (observed.own.as_ref()?, &observed.tags) else { return None };
    let next = KeyTags::of(None, tags.next.as_deref()).next;
    let shown = next.read().is_some_and(|succession| Some(succession.next) == own.next_key());
    let members = observed.vpc.iter().flatten().flat_map(|vpc| &vpc.members).flatten();
    Some(present(own, members.map(|(instance, _)| (instance.to_string(), shown))))
}

/// A note about a key tag that this gateway cannot have written, if there is one.
pub(super) fn tampered(settings: &Settings, observed: &Observed) -> Option<String> {
    let (Some(Ok(tags)), Some(keys)) = (&observed.tags, &observed.own) else { return None };
    let instance = &observed.me.instance;
    let me = Holder { vpc: &observed.me.vpc, instance };
    let KeyTags { key, next, .. } = tags.tags();
    let own: Vec<PublicKey> = [keys.current.key].into_iter().chain(keys.next_key()).collect();
    // After a next key has taken over and its announcement has failed, it follows a key that is gone from this disk.
    let before = |key: &PublicKey| next.read().is_some_and(|s| own.contains(&s.next) && s.follows(key, &me));
    let found = match key {
        Tagged::Absent => return None,
        Tagged::Read(shown) if shown.is_in(settings.mode, &me) && (own.contains(&shown.key) || before(&shown.key)) => {
            return None;
        }
        Tagged::Read(shown) => format!("announces {}", fingerprints(&[shown.key])),
        Tagged::Unreadable(bad) => format!("is unreadable ({bad})"),
    };
    Some(format!(
        "tag {KEY_TAG} of {instance} {found}, but this gateway's key is {}: unless its key file was removed, somebody else \
         wrote the tag; it is replaced",
        fingerprints(&own)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Identity, Keyring, Mode, OwnKeys, OwnVpc, Timestamp,
        private_key::tests::{holder, key_pair},
    };

    const NAT_HUB: &str = "mode = 'nat-hub'\nprivate_net = ['10.0.0.0/8']\npair.enabled = true";

    /// A nat-hub with key 1, and with key 2 to follow it.
    fn rotating() -> Observed {
        let (vpc, instance) = holder(1);
        let ring = Keyring { current: key_pair(1), next: Some(key_pair(2)) };
        let own = OwnKeys::of(&ring, Mode::NatHub, &Holder { vpc: &vpc, instance: &instance });
        let me = Identity {
            instance,
            region: "us-west-2".parse().unwrap(),
            vpc,
            cidrs: ["10.0.0.0/16".parse().unwrap()].into(),
            private: [10, 0, 0, 4].into(),
            public: None,
        };
        let settings = Settings::of_toml(NAT_HUB);
        Observed {
            own,
            tags: Some(Ok(OwnTags::default())),
            ..Observed::new(&settings, me, "ens5".parse().unwrap(), Timestamp(1000))
        }
    }

    #[test]
    fn a_nat_hub_announces_nothing_before_ec2_has_shown_its_instance_and_is_the_writer_of_its_own_tag() {
        let mut observed = rotating();
        let presence = of_nat_hub(&Settings::of_toml(NAT_HUB), &observed).unwrap();
        let told = announce(Some(&presence), &observed);
        assert_eq!(told.first().map(|(tag, _)| *tag), Some(KEY_TAG));
        observed.tags = Some(Ok(OwnTags { key: Some(told[0].1.clone()), ..OwnTags::default() }));
        assert_eq!(tampered(&Settings::of_toml(NAT_HUB), &observed), None);
        let client = Settings::of_toml("mode = 'nat-vpn'\nprivate_net = ['10.0.0.0/8']\nregions = ['us-west-2']");
        assert!(tampered(&client, &observed).is_some(), "no key of a tunnel");
        observed.tags = None;
        assert_eq!(of_nat_hub(&Settings::of_toml(NAT_HUB), &observed), None);
    }

    #[test]
    fn what_the_role_refuses_is_not_tried_again_for_a_gateway_that_is_alone_by_no_order() {
        let mut observed = rotating();
        observed.may_not_announce = true;
        let [asked, not] = [NAT_HUB, NAT_HUB.strip_suffix("\npair.enabled = true").unwrap()].map(Settings::of_toml);
        assert!(of_nat_hub(&asked, &observed).is_some());
        assert_eq!(of_nat_hub(&not, &observed), None);
        let company = [(holder(7).1, member())].into();
        observed.vpc = Some(Ok(OwnVpc { members: Some(company), ..OwnVpc::default() }));
        assert!(of_nat_hub(&not, &observed).is_some());
        (observed.vpc, observed.may_not_announce) = (None, false);
        assert!(of_nat_hub(&not, &observed).is_some());
    }

    fn member() -> crate::model::Member {
        crate::model::Member {
            address: [10, 0, 0, 5].into(),
            interface: "eni-00000007".parse().unwrap(),
            zone: None,
            launched: Timestamp(1),
            tags: KeyTags::default(),
        }
    }

    #[test]
    fn a_nat_hub_s_next_key_takes_over_once_the_other_one_can_have_read_it() {
        let mut observed = rotating();
        assert!(of_nat_hub(&Settings::of_toml(NAT_HUB), &observed).unwrap().promote, "alone it waits for nobody");
        let members = [(holder(7).1, member())];
        observed.vpc = Some(Ok(OwnVpc { members: Some(members.into()), ..OwnVpc::default() }));
        let presence = of_nat_hub(&Settings::of_toml(NAT_HUB), &observed).unwrap();
        assert_eq!((presence.promote, presence.waiting), (false, [holder(7).1.to_string()].into()));
        let next = presence.announce.next.unwrap().to_string();
        observed.tags = Some(Ok(OwnTags { next: Some(next), ..OwnTags::default() }));
        assert!(of_nat_hub(&Settings::of_toml(NAT_HUB), &observed).unwrap().promote);
    }
}
