//! The two tags of a gateway, and what `trust` makes of them.
//!
//! The input holds the two values, each on a line, and above them a line that says which keys the gateway is known by. Where
//! the values name one of the first key pairs, its signatures can be put in by name: a fuzzer cannot sign.

use crosswan_core::{
    decide::trust::{Case, Objection, trust},
    model::{Gateway, Holder, KeyTags, ProvenKey, PublicKey, Succession, Tagged},
};

use crate::{fake, oracle};

/// Key pairs that the input can name.
const PAIRS: u8 = 4;

pub fn target(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (known, key, succession) = (next(), next(), next());
    let (gateway, other) = (fake::gateway(1), fake::gateway(2));
    let known: Vec<PublicKey> = known.bytes().take(2).map(|byte| public(byte % PAIRS, &gateway)).collect();
    let value = |text: &str| (!text.is_empty()).then(|| filled(text, &gateway, &other));
    let tags = KeyTags::of(value(key).as_deref(), value(succession).as_deref());
    round_trip(&tags.key, value(key));
    round_trip(&tags.next, value(succession));

    let gateway = Gateway { tags, ..gateway };
    // The second gateway shows what the first one says, word for word, or is known by the key that the first one claims.
    let copy = Gateway { tags: gateway.tags.clone(), ..other.clone() };
    let known_to_other = [public(3, &other)];
    let cases = [
        (gateway.instance.clone(), Case { gateway: &gateway, known: &known, accept: None }),
        (copy.instance.clone(), Case { gateway: &copy, known: &known_to_other, accept: None }),
    ];
    let found = trust(&cases.into());
    for (claimed, known) in [(&gateway, &known[..]), (&copy, &known_to_other)] {
        let trust = &found[&claimed.instance];
        match &trust.objection {
            Some(Objection::Kept(why) | Objection::Refused(why)) => oracle::line(why),
            None => {}
        }
        assert!(trust.keys.len() <= 2, "a gateway has a key and one that follows");
        assert!(known.is_empty() || trust.keys.iter().any(|key| is_known(key, known, claimed)), "a known key was lost");
        for key in trust.keys.iter().filter(|key| !known.contains(key)) {
            assert!(is_signed(key, claimed), "{key} counts for {} without a signature", claimed.instance);
        }
    }
    let [first, second] = [&gateway, &copy].map(|claimed| &found[&claimed.instance].keys);
    assert!(
        first.iter().all(|key| !second.contains(key)) || known.iter().any(|key| known_to_other.contains(key)),
        "one key counts for two gateways"
    );
}

/// The key, or one that follows it.
fn is_known(key: &PublicKey, known: &[PublicKey], gateway: &Gateway) -> bool {
    let follows = |known: &PublicKey| {
        gateway.tags.next.read().is_some_and(|next| next.next == *key && next.follows(known, &gateway.holder()))
    };
    known.contains(key) || known.iter().any(follows)
}

/// Its holder has signed that it is the key of this gateway.
fn is_signed(key: &PublicKey, gateway: &Gateway) -> bool {
    let holder = gateway.holder();
    let proven = gateway.tags.key.read().filter(|proven| proven.belongs_to(&holder));
    let current = gateway.tags.key.read().map(|proven| proven.key);
    let follows = |next: &Succession| next.next == *key && current.is_some_and(|key| next.follows(&key, &holder));
    proven.is_some_and(|proven| proven.key == *key) || gateway.tags.next.read().is_some_and(follows)
}

/// What could be read prints as it was written, and what could not is described in a line.
fn round_trip<T: ToString>(tagged: &Tagged<T>, written: Option<String>) {
    match tagged {
        Tagged::Absent => assert!(written.is_none_or(|text| text.is_empty() || text == "none")),
        Tagged::Unreadable(why) => oracle::line(why),
        Tagged::Read(read) => assert_eq!(Some(read.to_string()), written),
    }
}

fn public(n: u8, gateway: &Gateway) -> PublicKey {
    fake::key_pair(n, &gateway.instance).public
}

/// The text with `@1` replaced by what key pair 1 announces alone, `@12` by what it and pair 2 announce for a change, and
/// `!` in place of `@` for the same about the other gateway.
fn filled(text: &str, gateway: &Gateway, other: &Gateway) -> String {
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let about = match c {
            '@' => gateway.holder(),
            '!' => other.holder(),
            c => {
                out.push(c);
                continue;
            }
        };
        let mut number = || rest.next_if(char::is_ascii_digit).map(|digit| digit as u8 % PAIRS);
        match (number(), number()) {
            (Some(key), Some(next)) => out.push_str(&succession(key, next, about).to_string()),
            (key, _) => out.push_str(&proven(key.unwrap_or_default(), about).to_string()),
        }
    }
    out
}

fn proven(n: u8, holder: Holder) -> ProvenKey {
    fake::key_pair(n, holder.instance).proven(&holder).unwrap()
}

fn succession(n: u8, next: u8, holder: Holder) -> Succession {
    let (key, next) = (fake::key_pair(n, holder.instance), fake::key_pair(next, holder.instance));
    key.succeeded_by(&next, &holder).unwrap()
}
