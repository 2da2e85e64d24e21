//! Pre-shared keys: where they come from, which are refused, and that none is ever shown.

use std::{collections::BTreeSet, time::Duration};

use crosswan_core::{
    model::{AskError, Region, Secret, VpcId},
    settings::{HubKeys, InlinePsk, NoPsk, Service, StoreUnasked, StoredPsk},
};

use super::{
    super::psk::{MissingPsk, PreSharedKeys},
    *,
};
const GOOD: &[u8] = b"m4J-0sTq9vLr2XwZ";
const OTHER: &[u8] = b"another fine key: 8d1f";
const PSK: &str = "/etc/crosswan/psk";
const REMEDY: &str = "make one with: openssl rand -base64 32";

fn vpc(n: u8) -> VpcId {
    format!("vpc-0000000{n}").parse().unwrap()
}
fn load(host: &Host, source: &PskSource, credentials: Option<&str>) -> crosswan_core::error::Result<PreSharedKeys> {
    let credentials = credentials.map(|dir| host.root().join(dir));
    let auth =
        AuthSettings { method: AuthMethod::Psk, hub_key: HubKeys::Unnamed, max_key_age: None, psk: source.clone() };
    PreSharedKeys::load(&auth, host.root(), credentials.as_deref())
}
fn refusal(host: &Host, source: &PskSource) -> String {
    let error = load(host, source, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Settings);
    host.line(&error.chain())
}
fn inline(key: &[u8]) -> PskSource {
    PskSource {
        inline: Some(InlinePsk { secret: Secret::new(key), from: "F:4: VPN_PSK".into() }),
        ..Default::default()
    }
}

#[test]
fn the_shared_key_by_precedence() {
    let host = Host::new(&[]);
    let explicit = PskSource { file: Some("/run/key".into()), ..inline(b"inline key: 0123456") };
    let mut got = vec![];
    let mut take = |source: &PskSource, credentials| {
        let keys = load(&host, source, credentials).unwrap();
        let (key, from) = keys.shared().unwrap();
        got.push((key.bytes().to_vec(), host.line(from)));
    };
    take(&inline(GOOD), Some("run/cred"));
    host.write(PSK, b"the default file's key\n", 0o600);
    take(&inline(GOOD), Some("run/cred"));
    // systemd's own permissions are its business.
    host.write("/run/cred/crosswan.psk", b"the credential's key\r\n", 0o440);
    take(&inline(GOOD), Some("run/cred"));
    host.write("/run/key", b"the explicit file's key", 0o400);
    take(&explicit, Some("run/cred"));
    let want = [
        (GOOD, "F:4: VPN_PSK"),
        (b"the default file's key", PSK),
        (b"the credential's key", "/run/cred/crosswan.psk"),
        (b"the explicit file's key", "/run/key"),
    ];
    assert_eq!(got, want.map(|(k, f)| (k.to_vec(), f.to_owned())));
}

#[test]
fn a_key_that_anybody_knows_is_refused() {
    let known = format!("a well-known default pre-shared key; {REMEDY}");
    let control = format!("a pre-shared key with control characters or more than one line; {REMEDY}");
    let blank =
        |where_: &str| format!("a pre-shared key with blank space {where_} it; remove that, also at the other end");
    let mark = "a pre-shared key after a byte order mark (BOM); save it without one, as plain text";
    let utf16 = "a pre-shared key in UTF-16; save it as plain text, in ASCII or UTF-8";
    let table: Vec<(&[u8], String)> = vec![
        // What an editor or a paste leaves, which two ends hardly leave alike.
        (b"\xef\xbb\xbfm4J-0sTq9vLr2XwZ", mark.into()),
        (b"\xef\xbb\xbfm4J-0sTq9vLr2XwZ\r\n", mark.into()),
        (b"\xff\xfem\x004\x00J\x00-\x000\x00s\x00T\x00q\x009\x00", utf16.into()),
        (b" m4J-0sTq9vLr2XwZ", blank("before")),
        (b"m4J-0sTq9vLr2XwZ ", blank("after")),
        (b"m4J-0sTq9vLr2XwZ \n", blank("after")),
        (b"m4J-0sTq9vLr2XwZ\t\r\n", blank("after")),
        (b"m4J-0sTq9vLr2XwZ\n\n", blank("after")),
        ("m4J-0sTq9vLr2XwZ\u{a0}".as_bytes(), blank("after")),
        ("\u{200b}m4J-0sTq9vLr2XwZ\n".as_bytes(), blank("before")),
        (b"    \n", format!("an empty pre-shared key; {REMEDY}")),
        (b"", format!("an empty pre-shared key; {REMEDY}")),
        (b"\n", format!("an empty pre-shared key; {REMEDY}")),
        (b"m4J-0sTq9vLr2Xw", format!("a pre-shared key of 15 bytes, fewer than 16; {REMEDY}")),
        (b"m4J-0sTq9vLr2Xw\n", format!("a pre-shared key of 15 bytes, fewer than 16; {REMEDY}")),
        (b"m4J-0sTq9vL\0r2XwZ", control.clone()),
        (b"m4J-0sTq9vLr2XwZ\nm4J-0sTq9vLr2XwZ\n", control.clone()),
        (b"m4J-0sTq9vLr2XwZ\x7f", control),
        (b"xxxxxxxxxxxxxxxxxxxx", format!("a pre-shared key with only 1 different character; {REMEDY}")),
        (b"abcabcabcabcabcabcabc", format!("a pre-shared key with only 3 different characters; {REMEDY}")),
        (b"If I only had a secret to share", known.clone()),
        (b"this is a TERRIBLE place to keep a secret!\n", known.clone()),
        (b"STUPID UNSAFE DEFAULT", known.clone()),
        (b"ChangeMe-ChangeMe-ChangeMe", known.clone()),
        (b"change-me-please-now", known.clone()),
        (b"Password123456789", known.clone()),
        (b"secret-secret-secret", known.clone()),
        (b"0123456789abcdef", known.clone()),
        (b"your key here, please", known),
    ];
    for (key, want) in table {
        let host = Host::new(&[]);
        host.write(PSK, key, 0o600);
        assert_eq!(refusal(&host, &PskSource::default()), format!("{PSK}: {want}"), "for {key:?}");
        if !key.ends_with(b"\n") {
            assert_eq!(refusal(&Host::new(&[]), &inline(key)), format!("F:4: VPN_PSK: {want}"));
        }
    }
    for fine in [GOOD, OTHER, "Schlüssel für Anna".as_bytes(), b"\xff\xfe\xfd\xfc78s1kQ-09m2v"] {
        assert!(load(&Host::new(&[]), &inline(fine), None).is_ok(), "{fine:?}");
    }
}

#[test]
fn a_key_file_that_others_may_use_is_refused() {
    for mode in [0o640, 0o604, 0o620, 0o610, 0o666] {
        let host = Host::new(&[]);
        host.write(PSK, GOOD, mode);
        let want = format!("{PSK}: other users may use this key (mode {mode:04o}); chmod 600 {PSK}");
        assert_eq!(refusal(&host, &PskSource::default()), want);
    }
    // Needs root, as the gateway has it; the ring says so by failing.
    let host = Host::new(&[]);
    host.write(PSK, GOOD, 0o600);
    std::os::unix::fs::chown(host.root().join("etc/crosswan/psk"), Some(65534), None).expect("this test needs root");
    let want = format!("{PSK}: expected root as its owner, found uid 65534; chown root {PSK}");
    assert_eq!(refusal(&host, &PskSource::default()), want);

    let host = Host::new(&[("/etc/crosswan/psk/x", "")]);
    assert_eq!(refusal(&host, &PskSource::default()), format!("{PSK}: cannot be read: not a regular file"));
}

/// A file, a folder's file, a systemd credential, `VPN_PSK` and a store in AWS: the same text is good or bad in all of them.
#[test]
fn the_same_text_is_the_same_key_in_every_source() {
    let texts: [&[u8]; 8] = [
        GOOD,
        b"m4J-0sTq9vLr2XwZ\n",
        b"m4J-0sTq9vLr2XwZ\r\n",
        b"m4J-0sTq9vLr2XwZ ",
        b" m4J-0sTq9vLr2XwZ\n",
        b"\xef\xbb\xbfm4J-0sTq9vLr2XwZ\n",
        b"m4J-0sTq9vLr2XwZ\n\n",
        b"m4J-0sTq9vLr2Xw",
    ];
    for text in texts {
        let bytes = |key: &Secret| key.bytes().to_vec();
        let at = |path: &str, credentials| {
            let host = Host::new(&[]);
            host.write(path, text, 0o600);
            load(&host, &PskSource::default(), credentials).ok()?.for_peer(&vpc(1)).ok().map(|key| bytes(&key))
        };
        let stored = StoredPsk { service: Service::Secret, name: "psk".into(), region: None };
        let file = at(PSK, None);
        assert!(file.as_deref().is_none_or(|key| key == GOOD), "{text:?}");
        assert_eq!(at("/etc/crosswan/psk.d/vpc-00000001", None), file, "{text:?}");
        assert_eq!(at("/run/cred/crosswan.psk", Some("run/cred")), file, "{text:?}");
        assert_eq!(stored.check("psk", text).ok().map(|key| bytes(&key)), file, "{text:?}");
        if !text.ends_with(b"\n") {
            let line = load(&Host::new(&[]), &inline(text), None);
            assert_eq!(line.ok().and_then(|keys| keys.for_peer(&vpc(1)).ok()).map(|key| bytes(&key)), file, "{text:?}");
        }
    }
}

#[test]
fn a_peer_has_its_own_key_or_the_shared_one() {
    let host = Host::new(&[]);
    host.write(PSK, GOOD, 0o600);
    host.write("/etc/crosswan/psk.d/vpc-00000001", OTHER, 0o600);
    host.write("/etc/crosswan/psk.d/vpc-00000002", b"short", 0o600);
    host.write("/etc/crosswan/psk.d/vpc-00000003", OTHER, 0o644);
    host.write("/etc/crosswan/psk.d/vpc-0000000A\n", OTHER, 0o600);
    host.write("/etc/crosswan/psk.d/.vpc-00000001.swp", OTHER, 0o600);
    let keys = load(&host, &PskSource::default(), None).unwrap();
    assert_eq!(keys.for_peer(&vpc(1)).unwrap().bytes(), OTHER);
    let bad = |n: u8| host.line(&keys.for_peer(&vpc(n)).unwrap_err());
    assert_eq!(
        bad(2),
        format!("/etc/crosswan/psk.d/vpc-00000002: a pre-shared key of 5 bytes, fewer than 16; {REMEDY}")
    );
    let file = "/etc/crosswan/psk.d/vpc-00000003";
    assert_eq!(bad(3), format!("{file}: other users may use this key (mode 0644); chmod 600 {file}"));
    assert_eq!(keys.for_peer(&vpc(4)).unwrap().bytes(), GOOD);
    let warnings: Vec<String> = keys.warnings.iter().map(|w| host.line(w)).collect();
    let want = "/etc/crosswan/psk.d: not a peer's key: expected a VPC id such as vpc-0a1b2c3d as the file's name, found \
                \"vpc-0000000A\\n\"";
    assert_eq!(warnings, [want]);
    for key in ["m4J", "another fine", "109, 52"] {
        assert!(!format!("{keys:?}").contains(key), "Debug shows a key");
    }

    fs::remove_file(host.root().join("etc/crosswan/psk")).unwrap();
    let keys = load(&host, &PskSource::default(), None).unwrap();
    assert!(keys.shared().is_none());
    assert_eq!(
        host.line(&keys.for_peer(&vpc(4)).unwrap_err()),
        "no pre-shared key: neither /etc/crosswan/psk.d/vpc-00000004 nor a shared key exists"
    );
}

#[test]
fn no_key_at_all_can_be_told_apart() {
    let missing = |source: &PskSource, credentials: Option<&str>| {
        let host = Host::new(&[]);
        let error = load(&host, source, credentials).unwrap_err();
        assert!(MissingPsk::is(&error) && error.kind() == Kind::Settings);
        host.line(&error.chain())
    };
    let remedy = format!("and found no such file; {REMEDY} > FILE && chmod 600 FILE");
    let default = PskSource::default();
    let file = PskSource { file: Some("/run/key".into()), ..inline(GOOD) };
    let dir = PskSource { dir: Some("/run/psk.d".into()), ..inline(GOOD) };
    let find = "find the pre-shared key: looked for";
    assert_eq!(
        missing(&default, Some("run/cred")),
        format!("{find} /run/cred/crosswan.psk, /etc/crosswan/psk, /etc/crosswan/psk.d/<VPC id>, {remedy}")
    );
    // A place that was named is meant: nothing else takes its place.
    assert_eq!(missing(&file, None), format!("{find} /run/key, {remedy}"));
    assert_eq!(missing(&dir, None), format!("{find} /run/psk.d, {remedy}"));

    let host = Host::new(&[(PSK, "short")]);
    assert!(!MissingPsk::is(&load(&host, &default, None).unwrap_err()), "a bad key is not a missing one");
}

#[test]
fn a_key_in_aws_takes_the_place_of_the_shared_file() {
    let stored = |name: &str| StoredPsk { service: Service::Parameter, name: name.into(), region: None };
    let load = |name: &str| {
        let host = Host::new(&[]);
        host.write(PSK, GOOD, 0o600);
        host.write("/etc/crosswan/psk.d/vpc-00000001", OTHER, 0o600);
        load(&host, &PskSource { stored: Some(stored(name)), ..inline(GOOD) }, None).unwrap()
    };
    let vpcs = BTreeSet::from([vpc(1), vpc(2), vpc(3), vpc(4), vpc(5)]);
    let refused = |why: &str| Err(NoPsk::Refused(why.into()));
    let region: Region = "eu-west-1".parse().unwrap();
    let late = |name: &str| StoreUnasked {
        stored: stored(name),
        region: region.clone(),
        why: AskError::TimedOut { after: Duration::from_secs(60) },
    };
    let unasked = |name: &str| Err(NoPsk::Unasked(Box::new(late(name))));

    // One for all; a peer's own file counts before it, the file of the shared key does not count.
    let keys = load("/psk");
    assert_eq!(keys.to_fetch(&vpcs), Some((&stored("/psk"), ["/psk".to_owned()].into())));
    assert_eq!(keys.for_peer(&vpc(1)).unwrap().bytes(), OTHER);
    assert_eq!(keys.for_peer(&vpc(2)).unwrap_err(), "parameter /psk was not asked for");
    let (there, none) = keys.with([("/psk".into(), Ok(Secret::new(GOOD)))].into(), false);
    assert_eq!((there.for_peer(&vpc(2)).unwrap().bytes(), there.missing(), none.len()), (GOOD, None, 0));
    assert_eq!(there.for_peer(&vpc(1)).unwrap().bytes(), OTHER);
    let (gone, none) = keys.with([("/psk".into(), refused("no such"))].into(), false);
    assert_eq!(
        (gone.for_peer(&vpc(2)).unwrap_err().as_str(), gone.missing(), none.len()),
        ("no such", Some("no such"), 0)
    );
    let (silent, lines) = keys.with([("/psk".into(), unasked("/psk"))].into(), false);
    let why = "parameter /psk in eu-west-1: timed out after 60s";
    assert_eq!((silent.for_peer(&vpc(2)).unwrap_err().as_str(), silent.missing()), (why, None));
    assert_eq!(lines, [late("/psk")]);

    // One per peer: only those are asked for that have no file, and a bad one is that peer's alone.
    let keys = load("/psk/{vpc}");
    let name = |n: u8| format!("/psk/{}", vpc(n));
    assert_eq!(keys.to_fetch(&vpcs).unwrap().1, [name(2), name(3), name(4), name(5)].into());
    let fetched = [
        (name(2), Ok(Secret::new(GOOD))),
        (name(3), refused("no such")),
        (name(4), unasked("/psk/{vpc}")),
        (name(5), unasked("/psk/{vpc}")),
    ];
    let (hub, lines) = keys.with(fetched.clone().into(), false);
    assert_eq!((hub.for_peer(&vpc(2)).unwrap().bytes(), hub.missing()), (GOOD, None));
    assert_eq!(hub.for_peer(&vpc(3)).unwrap_err(), "no such");
    assert_eq!(lines, [late("/psk/{vpc}")], "said once");
    // A spoke without its own has none at all.
    assert_eq!(keys.with([fetched[1].clone()].into(), true).0.missing(), Some("no such"));
    assert!(!format!("{hub:?}").contains("m4J"), "Debug shows a key");
}

#[test]
fn what_is_fetched_is_held_to_the_rules_of_a_file() {
    let stored = StoredPsk { service: Service::Secret, name: "psk".into(), region: None };
    assert_eq!(stored.check("psk", b"m4J-0sTq9vLr2XwZ\n").unwrap().bytes(), GOOD);
    let short = format!("secret psk: a pre-shared key of 3 bytes, fewer than 16; {REMEDY}");
    assert_eq!(stored.check("psk", b"m4J").unwrap_err(), NoPsk::Refused(short));
    let blank = "secret psk: a pre-shared key with blank space after it; remove that, also at the other end";
    assert_eq!(stored.check("psk", b"m4J-0sTq9vLr2XwZ \n").unwrap_err(), NoPsk::Refused(blank.into()));
    let known = format!("secret psk: a well-known default pre-shared key; {REMEDY}");
    assert_eq!(stored.check("psk", b"change-me-please-now").unwrap_err(), NoPsk::Refused(known));
}
