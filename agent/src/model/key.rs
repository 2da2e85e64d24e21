//! Raw public keys, and how a gateway announces its own: the value of its instance's tag.

use std::{collections::BTreeSet, fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{BadName, InstanceId, Successor, Vouch, printable};

/// What precedes the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Characters of a fingerprint that an acknowledgement carries: 48 bits, to tell the keys of one peer apart.
const SHORT: usize = 8;

/// The tag by which an instance announces its key.
pub const KEY_TAG: &str = "crosswan-key";

/// An Ed25519 public key. `Display` and `FromStr`: its SPKI in base64, 60 characters; what a tag and a file hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub const fn new(bytes: [u8; 32]) -> Self {
        PublicKey(bytes)
    }

    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The SubjectPublicKeyInfo in DER.
    fn spki(&self) -> Vec<u8> {
        [&SPKI[..], &self.0].concat()
    }

    /// What an operator compares: `SHA256:` and the base64 of the SPKI's digest, as
    /// `openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64` prints it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD.encode(digest(&SHA256, &self.spki())))
    }

    /// The first characters of the fingerprint's base64: the word of an acknowledgement.
    pub fn short(&self) -> String {
        STANDARD.encode(digest(&SHA256, &self.spki()))[..SHORT].to_owned()
    }

    /// The id by which charon lists the private key that belongs to it: the SHA-1 of the key's bytes, in hex
    /// (KEYID_PUBKEY_SHA1 in libstrongswan).
    pub fn charon_id(&self) -> String {
        digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.0).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// PEM, the form in which VICI takes it as text.
    pub fn pem(&self) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{self}\n-----END PUBLIC KEY-----\n")
    }

    /// Out of [`PublicKey::pem`].
    pub fn from_pem(pem: &str) -> Option<Self> {
        pem.strip_prefix("-----BEGIN PUBLIC KEY-----\n")?.strip_suffix("\n-----END PUBLIC KEY-----\n")?.parse().ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.spki()))
    }
}

impl FromStr for PublicKey {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let key = STANDARD.decode(text).ok().and_then(|der| der.strip_prefix(&SPKI)?.try_into().ok());
        let expected = "an Ed25519 public key (SPKI in base64, 60 characters)";
        key.map(PublicKey).ok_or_else(|| BadName { expected, found: text.to_owned() })
    }
}

as_text!(PublicKey, BadName);

/// What a gateway says of keys, in the tag of its own instance: `KEY [KEY signed:SIGNATURE] [seen:abcdefgh:…]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Announcement {
    /// The key it signs with, and during a rotation the one that is to follow. Never empty, never more than two.
    pub keys: Vec<PublicKey>,
    /// What the first key says to the second.
    pub vouch: Option<Vouch>,
    /// The [short](PublicKey::short) names of peers' next keys that it accepts by now.
    pub seen: BTreeSet<String>,
}

impl Announcement {
    /// EC2's bound on a tag's value, in characters:
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html>.
    const LONGEST: usize = 256;

    /// Announces a key and its successor, with as many of `seen` as fit; the others have their turn when those are done.
    pub fn new(key: PublicKey, next: Option<Successor>, seen: impl IntoIterator<Item = String>) -> Self {
        let keys = [key].into_iter().chain(next.map(|next| next.key)).collect();
        let mut out = Announcement { keys, vouch: next.map(|next| next.vouch), seen: BTreeSet::new() };
        for word in seen {
            out.seen.insert(word.clone());
            if out.to_string().len() > Self::LONGEST {
                out.seen.remove(&word);
                break;
            }
        }
        out
    }

    /// A second key that the first has not signed: then anybody may have written it there.
    pub fn forged(&self) -> Option<&PublicKey> {
        let [key, next] = &self.keys[..] else { return None };
        Some(next).filter(|next| !self.vouch.is_some_and(|vouch| vouch.holds(key, next)))
    }

    /// The gateway accepts this key of its peer.
    pub fn has_seen(&self, key: &PublicKey) -> bool {
        self.seen.contains(&key.short())
    }
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(PublicKey::to_string).collect();
        f.write_str(&keys.join(" "))?;
        self.vouch.iter().try_for_each(|vouch| write!(f, " signed:{vouch}"))?;
        if !self.seen.is_empty() {
            f.write_str(" seen")?;
        }
        self.seen.iter().try_for_each(|word| write!(f, ":{word}"))
    }
}

/// What is wrong with an announcement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAnnouncement {
    #[error(transparent)]
    Key(#[from] BadName),
    #[error("expected one key, or two during a rotation, found {0}")]
    Count(usize),
    #[error("expected seen: and words of {SHORT} characters, found {}", printable(.0))]
    Seen(String),
}

impl FromStr for Announcement {
    type Err = BadAnnouncement;
    fn from_str(text: &str) -> Result<Self, BadAnnouncement> {
        let mut out = Announcement::default();
        for word in text.split_ascii_whitespace() {
            if let Some(signature) = word.strip_prefix("signed:") {
                out.vouch = Some(signature.parse()?);
                continue;
            }
            let Some(words) = word.strip_prefix("seen:") else {
                out.keys.push(word.parse()?);
                continue;
            };
            let fits =
                |w: &str| w.len() == SHORT && w.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
            match words.split(':').find(|w| !fits(w)) {
                Some(bad) => return Err(BadAnnouncement::Seen(bad.into())),
                None => out.seen.extend(words.split(':').map(str::to_owned)),
            }
        }
        out.keys.dedup();
        if (1..=2).contains(&out.keys.len()) { Ok(out) } else { Err(BadAnnouncement::Count(out.keys.len())) }
    }
}

as_text!(Announcement, BadAnnouncement);

/// What EC2 shows of a gateway's announcement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyTag {
    /// It has no such tag: it uses a pre-shared key, or has not come so far.
    #[default]
    Absent,
    /// What is wrong with it, in plain text.
    Unreadable(#[serde(deserialize_with = "super::line")] String),
    Announced(Announcement),
}

impl KeyTag {
    /// From the tag's value.
    pub fn of(value: Option<&str>) -> Self {
        match value.map(str::parse) {
            None => KeyTag::Absent,
            Some(Ok(announcement)) => KeyTag::Announced(announcement),
            Some(Err(bad)) => KeyTag::Unreadable(bad.to_string()),
        }
    }

    pub fn announced(&self) -> Option<&Announcement> {
        match self {
            KeyTag::Announced(announcement) => Some(announcement),
            _ => None,
        }
    }
}

/// The keys a peer is known by, and the instance that announced them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// `None` if only a file of ours remembers them.
    pub instance: Option<InstanceId>,
    pub keys: Vec<PublicKey>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> PublicKey {
        PublicKey::new([n; 32])
    }

    #[test]
    fn a_key_is_what_openssl_says_it_is() {
        // openssl genpkey -algorithm ed25519 | openssl pkey -pubout -outform DER | base64, and its digest.
        let text = "MCowBQYDK2VwAyEAAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        assert_eq!((key(1).to_string().as_str(), text.len()), (text, 60));
        assert_eq!(text.parse(), Ok(key(1)));
        assert_eq!(PublicKey::from_pem(&key(1).pem()), Some(key(1)));
        assert!(key(1).fingerprint().starts_with(&format!("SHA256:{}", key(1).short())));
        let rsa = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAK";
        for bad in ["", "x", rsa, &text[..59], &format!("{text} "), &text.replace('=', "")] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_announcement_reads_back_and_fits_a_tag() {
        let next = Successor { key: key(2), vouch: Vouch::new([255; 64]) };
        for (next, seen) in [(None, 0), (Some(next), 0), (None, 3), (Some(next), 4), (Some(next), 30), (None, 30)] {
            let words = (0..seen).map(|n| key(100 + n).short());
            let said = Announcement::new(key(1), next, words);
            assert!(said.to_string().len() <= 256 && said.keys.len() == 1 + usize::from(next.is_some()), "{said}");
            assert!(said.seen.len() == usize::from(seen) || said.to_string().len() > 240, "{said}");
            assert_eq!(said.to_string().parse(), Ok(said));
        }
    }

    #[test]
    fn a_bad_announcement_is_told_in_plain_text() {
        let one = key(1);
        let three = format!("{one} {} {}", key(2), key(3));
        for bad in [
            "",
            "nonsense",
            "seen:abcdefgh",
            &three,
            &format!("{one} seen:short"),
            &format!("{one} {one} signed:x"),
            &format!("{one} \u{1b}[2J"),
        ] {
            let KeyTag::Unreadable(why) = KeyTag::of(Some(bad)) else { panic!("{bad:?}") };
            assert!(why.bytes().all(|b| (b' '..=b'~').contains(&b)) && why.starts_with("expected "), "{why}");
        }
        assert_eq!(KeyTag::of(None), KeyTag::Absent);
    }
}
