//! What a gateway announces by tags of its own instance: its keys, and whose place in a pair is to be whose.
//!
//! | tag | value | says |
//! |---|---|---|
//! | [`KEY_TAG`] | `KEY SIGNATURE` | KEY is this gateway's; signed by KEY |
//! | [`NEXT_KEY_TAG`] | `NEXT SIGNATURE SIGNATURE` | NEXT follows KEY; signed by KEY and by NEXT |
//! | [`TAKES_PLACE_TAG`] | `i-… SIGNATURE` | this newcomer works, and is to take the place of that member of a pair; signed by KEY |
//! | [`MAKES_WAY_TAG`] | `i-… SIGNATURE` | this member of a pair has left its place to that gateway; signed by KEY |
//!
//! A tag is overwritten, never deleted. The second one stays after the change: it shows a peer that has missed the
//! rotation why the new key counts. Each is read and judged alone, so a read that mixes old and new tags adds no key.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    BadName, InstanceId, Mode, OwnInterface, PublicKey, Signature,
    signature::{self, Holder},
};

/// The tag with the key a gateway signs with.
pub const KEY_TAG: &str = "crosswan-key";
/// The tag with the key that is to follow it, or that followed it last.
pub const NEXT_KEY_TAG: &str = "crosswan-next-key";
/// The tag with the gateway for which a member of a pair has made way.
pub const MAKES_WAY_TAG: &str = "crosswan-makes-way-for";
/// The tag with the member of a pair whose place a newcomer asks for.
pub const TAKES_PLACE_TAG: &str = "crosswan-takes-place-of";
/// The value of [`NEXT_KEY_TAG`] where no key follows.
const NOTHING: &str = "none";

/// A key, and the proof that its announcer has the private half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProvenKey {
    /// The announced key.
    pub key: PublicKey,
    /// The key's own signature of a text that names the key and its holder.
    pub proof: Signature,
}

impl ProvenKey {
    /// Whether the signature was made by the key itself, for the gateway of `holder` as the end of a tunnel.
    pub fn belongs_to(&self, holder: &Holder<'_>) -> bool {
        self.is_in(Mode::NatVpn, holder)
    }

    /// Whether the signature was made by the key itself, for the gateway of `holder` in this mode. `vpn-hub` and `nat-vpn` sign alike.
    pub fn is_in(&self, mode: Mode, holder: &Holder<'_>) -> bool {
        self.proof.is_by(&self.key, &signature::possession(&self.key, mode, holder))
    }
}

/// A key that follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Succession {
    /// The key that follows.
    pub next: PublicKey,
    /// The signature by the key before, of a text that names both keys and their holder.
    pub endorsement: Signature,
    /// The next key's signature of the same text.
    pub proof: Signature,
}

impl Succession {
    /// Whether both `key` and the next key have signed that the next one follows `key` as the key of `holder`.
    pub fn follows(&self, key: &PublicKey, holder: &Holder<'_>) -> bool {
        let text = signature::succession(key, &self.next, holder);
        self.endorsement.is_by(key, &text) && self.proof.is_by(&self.next, &text)
    }
}

/// What a gateway says of its place in a pair and of another gateway's: which of the two things, the tag tells and the signature proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlaceClaim {
    /// The other gateway.
    pub other: InstanceId,
    /// The signature of a text that names both.
    pub proof: Signature,
}

impl PlaceClaim {
    /// Whether `key` has signed that the gateway of `holder` has left its place to the other one. It counts as long as that one is there.
    pub fn makes_way(&self, key: &PublicKey, holder: &Holder<'_>) -> bool {
        self.proof.is_by(key, &signature::makes_way(&self.other, holder))
    }

    /// Whether `key` has signed that the gateway of `holder` is to take the other one's place.
    pub fn takes_place(&self, key: &PublicKey, holder: &Holder<'_>) -> bool {
        self.proof.is_by(key, &signature::takes_place(&self.other, holder))
    }
}

impl fmt::Display for ProvenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.proof)
    }
}

impl fmt::Display for PlaceClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.other, self.proof)
    }
}

impl fmt::Display for Succession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.next, self.endorsement, self.proof)
    }
}

/// Splits a text into exactly `N` words; `shape` says in the error what was expected.
fn words<'t, const N: usize>(text: &'t str, shape: &'static str) -> Result<[&'t str; N], BadName> {
    let words: Vec<&str> = text.split(' ').collect();
    words.try_into().map_err(|_| BadName { expected: shape, found: text.to_owned() })
}

impl FromStr for ProvenKey {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let [key, proof] = words(text, "a public key and its signature")?;
        Ok(ProvenKey { key: key.parse()?, proof: proof.parse()? })
    }
}

impl FromStr for Succession {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let [next, endorsement, proof] = words(text, "a public key and two signatures")?;
        Ok(Succession { next: next.parse()?, endorsement: endorsement.parse()?, proof: proof.parse()? })
    }
}

impl FromStr for PlaceClaim {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let [other, proof] = words(text, "an instance and a signature")?;
        Ok(PlaceClaim { other: other.parse()?, proof: proof.parse()? })
    }
}

as_text!(PlaceClaim, BadName);
as_text!(ProvenKey, BadName);
as_text!(Succession, BadName);

/// One of a gateway's two tags, as EC2 shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tagged<T> {
    /// There is no such tag, or it is empty.
    #[default]
    Absent,
    /// What is wrong with it, in plain text.
    Unreadable(#[serde(deserialize_with = "super::line")] String),
    /// What it says.
    Read(T),
}

impl<T: FromStr<Err = BadName>> Tagged<T> {
    /// Reads the tag's value, if there is such a tag.
    pub fn of(value: Option<&str>) -> Self {
        match value.filter(|text| !text.is_empty() && *text != NOTHING).map(str::parse) {
            None => Tagged::Absent,
            Some(Ok(read)) => Tagged::Read(read),
            Some(Err(bad)) => Tagged::Unreadable(bad.to_string()),
        }
    }
}

impl<T> Tagged<T> {
    /// What it says, if that could be read.
    pub fn read(&self) -> Option<&T> {
        match self {
            Tagged::Read(read) => Some(read),
            _ => None,
        }
    }
}

/// What EC2 shows of a gateway's announcement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyTags {
    /// [`KEY_TAG`].
    pub key: Tagged<ProvenKey>,
    /// [`NEXT_KEY_TAG`].
    #[serde(default)]
    pub next: Tagged<Succession>,
    /// [`MAKES_WAY_TAG`], if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub makes_way: Option<PlaceClaim>,
    /// [`TAKES_PLACE_TAG`], if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_place: Option<PlaceClaim>,
}

impl KeyTags {
    /// Reads the values of the two tags of keys; `None` for a tag that is not there.
    pub fn of(key: Option<&str>, next: Option<&str>) -> Self {
        KeyTags { key: Tagged::of(key), next: Tagged::of(next), ..KeyTags::default() }
    }

    /// The same with the values of [`MAKES_WAY_TAG`] and [`TAKES_PLACE_TAG`].
    pub fn with_claims(self, makes_way: Option<&str>, takes_place: Option<&str>) -> Self {
        let [makes_way, takes_place] = [makes_way, takes_place].map(|tag| tag.and_then(|tag| tag.parse().ok()));
        KeyTags { makes_way, takes_place, ..self }
    }
}

/// What EC2 shows of this gateway's own instance: the values of its tags, and what the same answer says about its
/// interface. Tags are foreign text, as anyone with permission to write tags may have written them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnTags {
    /// [`KEY_TAG`]; `None` if there is no such tag.
    pub key: Option<String>,
    /// [`NEXT_KEY_TAG`]; `None` if there is no such tag.
    pub next: Option<String>,
    /// [`MAKES_WAY_TAG`]; `None` if there is no such tag.
    pub makes_way: Option<String>,
    /// [`TAKES_PLACE_TAG`]; `None` if there is no such tag.
    pub takes_place: Option<String>,
    /// Whether EC2 drops the packets that the instance's first interface forwards; `None` if the answer does not say.
    pub source_dest_check: Option<bool>,
    /// The instance's first interface; `None` if the answer does not say all of it.
    pub interface: Option<OwnInterface>,
}

impl OwnTags {
    /// The value of one of these tags; `None` if there is no such tag.
    pub fn get(&self, tag: &str) -> Option<&str> {
        let value = match tag {
            KEY_TAG => &self.key,
            NEXT_KEY_TAG => &self.next,
            TAKES_PLACE_TAG => &self.takes_place,
            _ => &self.makes_way,
        };
        value.as_deref()
    }

    /// The same, understood.
    pub fn tags(&self) -> KeyTags {
        let keys = KeyTags::of(self.key.as_deref(), self.next.as_deref());
        keys.with_claims(self.makes_way.as_deref(), self.takes_place.as_deref())
    }
}

/// What a gateway's own two tags should say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// The key that the gateway signs with, for [`KEY_TAG`].
    pub key: ProvenKey,
    /// The key that follows, during a rotation.
    pub next: Option<Succession>,
}

impl Announcement {
    /// The tags to write so that EC2 shows this announcement, given the values that it shows now; empty if nothing differs.
    /// Outside a rotation the second tag may still name this key as the next one; any other value is overwritten.
    pub fn missing_from(&self, key: Option<&str>, next: Option<&str>) -> Vec<(&'static str, String)> {
        let wanted_key = self.key.to_string();
        let past = || match Tagged::<Succession>::of(next) {
            Tagged::Absent => true,
            Tagged::Read(succession) => succession.next == self.key.key,
            Tagged::Unreadable(_) => false,
        };
        let wanted_next = match self.next {
            Some(succession) => Some(succession.to_string()),
            None if past() => None,
            None => Some(NOTHING.to_owned()),
        };
        let mut out = Vec::new();
        out.extend((key != Some(&wanted_key)).then_some((KEY_TAG, wanted_key)));
        out.extend(wanted_next.filter(|wanted| next != Some(wanted)).map(|wanted| (NEXT_KEY_TAG, wanted)));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::private_key::tests::{holder, key_pair};

    /// EC2's bound on a tag's value, in characters:
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html>.
    const LONGEST: usize = 256;

    #[test]
    fn statements_read_back_fit_a_tag_and_hold_for_their_gateway_only() {
        let (vpc, instance) = holder(1);
        let (vpc2, instance2) = holder(2);
        let me = Holder { vpc: &vpc, instance: &instance };
        let (one, two) = (key_pair(1), key_pair(2));
        let (proven, succession) = (one.proven(&me).unwrap(), one.succeeded_by(&two, &me).unwrap());
        assert_eq!(proven.to_string().parse(), Ok(proven));
        assert_eq!(succession.to_string().parse(), Ok(succession));
        assert!(proven.to_string().len() <= LONGEST && succession.to_string().len() <= LONGEST);
        assert!(proven.belongs_to(&me) && succession.follows(&one.public, &me));
        // A nat-hub's key looks the same in its tag, and is none for a tunnel.
        let of_nat_hub = one.proven_in(Mode::NatHub, &me).unwrap();
        assert!(of_nat_hub.is_in(Mode::NatHub, &me) && !of_nat_hub.belongs_to(&me) && !proven.is_in(Mode::NatHub, &me));
        assert_eq!(of_nat_hub.to_string().parse(), Ok(of_nat_hub));
        for other in [Holder { vpc: &vpc2, instance: &instance }, Holder { vpc: &vpc, instance: &instance2 }] {
            assert!(!proven.belongs_to(&other) && !succession.follows(&one.public, &other));
        }
        assert!(!succession.follows(&two.public, &me), "another key before it");
        let stolen = ProvenKey { key: two.public, ..proven };
        assert!(!stolen.belongs_to(&me), "a key signed by another");
        let unproven = Succession { proof: succession.endorsement, ..succession };
        assert!(!unproven.follows(&one.public, &me), "the next key has not signed");

        let left = one.makes_way(instance2.clone(), &me).unwrap();
        let asks = one.takes_place(instance2.clone(), &me).unwrap();
        type Is = fn(&PlaceClaim, &PublicKey, &Holder<'_>) -> bool;
        for (claim, is, is_not) in [
            (&left, PlaceClaim::makes_way as Is, PlaceClaim::takes_place as Is),
            (&asks, PlaceClaim::takes_place, PlaceClaim::makes_way),
        ] {
            assert!(is(claim, &one.public, &me) && claim.to_string().len() <= LONGEST);
            assert!(!is_not(claim, &one.public, &me), "the value of the other tag");
            assert!(!is(claim, &one.public, &Holder { vpc: &vpc, instance: &instance2 }), "of another one");
            assert!(!is(claim, &two.public, &me), "another key says so");
            assert!(
                !is(&PlaceClaim { other: instance.clone(), ..claim.clone() }, &one.public, &me),
                "of another's place"
            );
        }
        let read = KeyTags::default().with_claims(Some(&left.to_string()), Some(&asks.to_string()));
        assert_eq!((read.makes_way, read.takes_place), (Some(left), Some(asks)));
        assert_eq!(KeyTags::default().with_claims(Some(instance2.as_str()), Some("")), KeyTags::default());
    }

    #[test]
    fn a_bad_tag_is_described_in_plain_text() {
        let (vpc, instance) = holder(1);
        let good = key_pair(1).proven(&Holder { vpc: &vpc, instance: &instance }).unwrap().to_string();
        for bad in [
            "nonsense",
            "two words",
            &good[..146],
            &format!("{good} {good}"),
            &format!(" {good}"),
            &good.replace(' ', "  "),
            &format!("{good}\u{1b}[2J"),
        ] {
            let Tagged::<ProvenKey>::Unreadable(why) = Tagged::of(Some(bad)) else { panic!("{bad:?}") };
            assert!(
                why.bytes().all(|b| (b' '..=b'~').contains(&b) || b >= 0x80) && why.starts_with("expected "),
                "{why}"
            );
            assert!(!why.contains('\u{1b}'), "{why}");
        }
        for nothing in [None, Some(""), Some("none")] {
            assert_eq!(Tagged::<Succession>::of(nothing), Tagged::Absent);
        }
    }

    #[test]
    fn tags_are_written_only_where_they_differ() {
        let (vpc, instance) = holder(1);
        let me = Holder { vpc: &vpc, instance: &instance };
        let (one, two) = (key_pair(1), key_pair(2));
        let said = Announcement { key: one.proven(&me).unwrap(), next: None };
        let (key, past) = (said.key.to_string(), two.succeeded_by(&one, &me).unwrap().to_string());
        assert_eq!(said.missing_from(None, None), [(KEY_TAG, key.clone())]);
        for fine in [None, Some("none"), Some(past.as_str())] {
            assert_eq!(said.missing_from(Some(&key), fine), []);
        }
        assert_eq!(said.missing_from(Some(&key), Some("garbage")), [(NEXT_KEY_TAG, "none".to_owned())]);
        let next = one.succeeded_by(&two, &me).unwrap();
        let rotating = Announcement { next: Some(next), ..said };
        assert_eq!(rotating.missing_from(Some(&key), Some(&past)), [(NEXT_KEY_TAG, next.to_string())]);
        assert_eq!(rotating.missing_from(Some(&key), Some(&next.to_string())), []);
        assert_eq!(said.missing_from(Some(&key), Some(&next.to_string())), [(NEXT_KEY_TAG, "none".to_owned())]);
    }
}
