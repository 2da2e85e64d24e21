//! An Ed25519 key pair of this gateway, in the text of its file.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::{
    Holder, InstanceId, Mode, PlaceClaim, ProvenKey, PublicKey, Secret, Signature, Succession, Timestamp, signature,
};

/// The bytes before the 32 bytes of the seed in PKCS#8 (RFC 8410, section 7), in the form without the public key,
/// which every strongSwan reads.
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// One key pair. `Debug` shows no more of it than its [`PublicKey`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateKey {
    /// The public half.
    pub public: PublicKey,
    /// The file's text: PEM below a line with the instance and the time.
    pub text: Secret,
    /// The instance that it was made for.
    pub instance: InstanceId,
    /// When it was made: `auth.max_key_age` counts from here.
    pub made: Timestamp,
    /// Whether nobody but root can read its file.
    pub guarded: bool,
}

/// This gateway's private keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// The key that this gateway signs with.
    pub current: PrivateKey,
    /// The key that is to follow; `None` outside a rotation.
    pub next: Option<PrivateKey>,
}

impl Keyring {
    /// The current key, then the next one if there is one.
    pub fn keys(&self) -> impl Iterator<Item = &PrivateKey> {
        [&self.current].into_iter().chain(&self.next)
    }
}

impl PrivateKey {
    /// The key pair that belongs to a seed (RFC 8032, section 5.1.5), with the text of its file.
    pub fn from_seed(seed: &[u8; 32], instance: &InstanceId, made: Timestamp) -> Option<Self> {
        let whose =
            format!("# The private key of {instance}, made by crosswan at {}. It never leaves this instance.", made.0);
        let pem = STANDARD.encode([&PKCS8[..], seed].concat());
        PrivateKey::parse(&format!("{whose}\n{BEGIN}\n{pem}\n{END}\n"))
    }

    /// Signs a text of [`signature`]; `None` if the key's own text cannot be read.
    pub(crate) fn sign(&self, text: &str) -> Option<Signature> {
        let file = std::str::from_utf8(self.text.bytes()).ok()?;
        let signature = pair(file.lines().nth(2)?)?.sign(text.as_bytes());
        Some(Signature::new(signature.as_ref().try_into().ok()?))
    }

    /// The public half with the proof that `holder`, the end of a tunnel, has the private one. `None` if the text cannot be read.
    pub fn proven(&self, holder: &Holder<'_>) -> Option<ProvenKey> {
        self.proven_in(Mode::NatVpn, holder)
    }

    /// The same of a gateway in this mode.
    pub fn proven_in(&self, mode: Mode, holder: &Holder<'_>) -> Option<ProvenKey> {
        let proof = self.sign(&signature::possession(&self.public, mode, holder))?;
        Some(ProvenKey { key: self.public, proof })
    }

    /// The statement, signed by both keys, that `next` follows this one as the key of `holder`. `None` if a text cannot be read.
    pub fn succeeded_by(&self, next: &PrivateKey, holder: &Holder<'_>) -> Option<Succession> {
        let text = signature::succession(&self.public, &next.public, holder);
        Some(Succession { next: next.public, endorsement: self.sign(&text)?, proof: next.sign(&text)? })
    }

    /// The statement that the gateway of `holder`, which has this key, has left its place to `heir`. `None` if the text cannot be read.
    pub fn makes_way(&self, heir: InstanceId, holder: &Holder<'_>) -> Option<PlaceClaim> {
        let proof = self.sign(&signature::makes_way(&heir, holder))?;
        Some(PlaceClaim { other: heir, proof })
    }

    /// The statement that the gateway of `holder`, which has this key, is to take the place of `member`. `None` if the text cannot be read.
    pub fn takes_place(&self, member: InstanceId, holder: &Holder<'_>) -> Option<PlaceClaim> {
        let proof = self.sign(&signature::takes_place(&member, holder))?;
        Some(PlaceClaim { other: member, proof })
    }

    /// Reads the text of its file; `None` if it is not as [`PrivateKey::from_seed`] writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let whose = lines.next()?.strip_prefix("# The private key of ")?;
        let (instance, rest) = whose.split_once(", made by crosswan at ")?;
        let made = Timestamp(rest.split_once('.')?.0.parse().ok()?);
        let (BEGIN, pem, END) = (lines.next()?, lines.next()?, lines.next()?) else { return None };
        let public = PublicKey::new(pair(pem)?.public_key().as_ref().try_into().ok()?);
        Some(PrivateKey { public, text: Secret::new(text), instance: instance.parse().ok()?, guarded: true, made })
    }
}

/// Reads the one line of base64 in the PEM.
fn pair(pem: &str) -> Option<Ed25519KeyPair> {
    let der = STANDARD.decode(pem).ok()?;
    Ed25519KeyPair::from_seed_unchecked(der.strip_prefix(&PKCS8)?).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::VpcId;

    /// Gateway `n`: its VPC and its instance.
    pub(crate) fn holder(n: u32) -> (VpcId, InstanceId) {
        (format!("vpc-{n:08x}").parse().unwrap(), id(n))
    }

    /// Key pair `n`, always the same.
    pub(crate) fn key_pair(n: u8) -> PrivateKey {
        PrivateKey::from_seed(&[n; 32], &id(n.into()), Timestamp(0)).unwrap()
    }

    fn id(n: u32) -> InstanceId {
        format!("i-{n:08x}").parse().unwrap()
    }

    #[test]
    fn a_private_key_shows_in_no_debug_output() {
        let key = key_pair(1);
        let seed = std::str::from_utf8(key.text.bytes()).unwrap().lines().nth(2).unwrap();
        assert!(!format!("{key:?}").contains(seed));
    }
}
