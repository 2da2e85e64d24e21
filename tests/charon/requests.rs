//! What is loaded from a text reads back as that text; refusals and hang-ups are reported as such.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crosswan::{keyring, paths::Paths};
use crosswan_core::{
    error::Kind,
    model::{Secret, Timestamp},
    swanctl::{self, Node, Summary, Tree},
};
use crosswan_vici::{Sas, Vici};

use crate::host::{Host, TIMEOUT};

#[path = "../support/settings_text.rs"]
mod settings_text;

pub const FILE: &str = r#"
# as the template writes it
connections {
  crosswan-vpc-0aaa1111 {
    version = 2
    local_addrs = 10.0.0.10
    remote_addrs = 203.0.113.7
    mobike = no
    encap = yes
    unique = replace
    dpd_delay = 10s
    proposals = aes256gcm16-prfsha384-x25519, aes256gcm16-prfsha384-ecp384
    local {
      auth = psk
      id = 198.51.100.100
    }
    remote {
      auth = psk
      id = vpc-0aaa1111
    }
    children {
      c-10-1-0-0-16 {
        local_ts = 10.0.0.0/8, 172.16.0.0/12, 10.9.0.0/16
        remote_ts = 10.1.0.0/16
        esp_proposals = aes256gcm16-x25519,aes256gcm16-ecp384
        replay_window = 1024
        start_action = none
      }
      c-10-2-0-0-16 {
        local_ts = 10.0.0.0/8
        remote_ts = 10.2.0.1
        start_action = trap
      }
    }
  }
  crosswan-vpc-0bbb2222 {
    version = 2
    remote_addrs = 203.0.113.8
    local {
      auth = pubkey
      id = 198.51.100.100
      pubkeys = 0sMCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=
    }
    remote {
      auth = pubkey
      id = vpc-0bbb2222
      pubkeys = 0sMCowBQYDK2VwAyEAO2onvM62pC1imK0EDYmL2j5HQ6RjCtrbTpmhiIuhqlY=,0sMCowBQYDK2VwAyEAiojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=
    }
    children {
      c-10-3-0-0-16 {
        local_ts = 10.0.0.0/8
        remote_ts = 10.3.0.0/16
      }
    }
  }
  crosswan-own {
    remote_addrs = 127.0.0.1
    children {
      own {
        mode = pass
        start_action = trap
        local_ts = 10.1.0.0/16
        remote_ts = 10.1.0.0/16
      }
      excluded {
        mode = pass
        start_action = trap
        local_ts = 10.1.0.10/32
        remote_ts = 10.9.0.0/16
      }
    }
  }
}
secrets {
  ike-crosswan-vpc-0aaa1111 {
    id-1 = 198.51.100.100
    id-2 = vpc-0aaa1111
    secret = 0sAP/+YWJjZGVmZ2hpamtsbW5vcA==
  }
}
"#;

pub fn file() -> Tree {
    swanctl::parse(FILE).expect("the file parses")
}

async fn vici(host: &Host) -> Vici {
    Vici::connect(&host.socket(), TIMEOUT).await.expect("charon answers")
}

#[tokio::test]
async fn loaded_connections_read_back_as_their_text() {
    let host = Host::with_charon();
    let mut vici = vici(&host).await;
    assert!(vici.version().await.unwrap().starts_with(|c: char| c.is_ascii_digit()));
    assert!(vici.uptime().await.unwrap() < Duration::from_secs(30));

    let conns = swanctl::connections(file());
    for (name, conn) in &conns {
        vici.load_conn(name, conn).await.unwrap();
    }
    let planned: BTreeMap<String, Summary> = conns.iter().map(|(n, c)| (n.clone(), Summary::of(c))).collect();
    assert_eq!(vici.list_conns().await.unwrap(), planned);
    assert!(vici.sas().await.unwrap().is_empty());

    assert!(vici.unload_conn("crosswan-vpc-0aaa1111").await.unwrap());
    assert!(!vici.unload_conn("crosswan-vpc-0aaa1111").await.unwrap(), "a second unload finds nothing");
    let left: Vec<String> = vici.list_conns().await.unwrap().into_keys().collect();
    assert_eq!(left, ["crosswan-own", "crosswan-vpc-0bbb2222"]);
}

/// swanctl reads the same text: charon ends up with the same connections.
#[tokio::test]
async fn swanctl_reads_our_text_as_we_do() {
    let host = Host::with_charon();
    let mut vici = vici(&host).await;
    for (name, conn) in &swanctl::connections(file()) {
        vici.load_conn(name, conn).await.unwrap();
    }
    let ours = vici.list_conns().await.unwrap();
    let path = host.dir.path().join("swanctl.conf");
    // Through a writer that has quotes and escapes the template never writes.
    std::fs::write(&path, settings_text::write(&file())).unwrap();
    let uri = format!("unix://{}", host.socket().display());
    for name in ours.keys() {
        vici.unload_conn(name).await.unwrap();
    }
    let out = tokio::process::Command::new("swanctl")
        .args(["--load-all", "--noprompt", "--uri", &uri, "--file"])
        .arg(&path)
        .output()
        .await
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(vici.list_conns().await.unwrap(), ours);
    assert_eq!(vici.shared_ids().await.unwrap().into_iter().collect::<Vec<_>>(), ["ike-crosswan-vpc-0aaa1111"]);
}

#[tokio::test]
async fn secrets_come_and_go_by_id() {
    let host = Host::with_charon();
    let mut vici = vici(&host).await;
    for (id, shared) in &swanctl::secrets(&file()).unwrap() {
        vici.load_shared(id, shared).await.unwrap();
    }
    assert_eq!(vici.shared_ids().await.unwrap().into_iter().collect::<Vec<_>>(), ["ike-crosswan-vpc-0aaa1111"]);
    vici.unload_shared("ike-crosswan-vpc-0aaa1111").await.unwrap();
    assert!(vici.shared_ids().await.unwrap().is_empty());
}

/// Through VICI and through swanctl, which finds our file where it looks for private keys.
#[tokio::test]
async fn private_keys_come_and_go_by_the_id_that_their_public_half_has() {
    let host = Host::with_charon();
    let mut vici = vici(&host).await;
    let paths = Paths::below(host.dir.path());
    let (ring, _) = keyring::ensure(&paths, &"i-0000000a".parse().unwrap(), Timestamp(1), |_| false).unwrap();
    let id = ring.current.public.charon_id();
    vici.load_key(&ring.current.text).await.unwrap();
    vici.load_key(&ring.current.text).await.unwrap();
    assert_eq!(vici.key_ids().await.unwrap(), [id.clone()].into());
    assert!(vici.unload_key(&id).await.unwrap() && !vici.unload_key(&id).await.unwrap());
    assert!(vici.key_ids().await.unwrap().is_empty());

    let out = tokio::process::Command::new("swanctl")
        .args(["--load-creds", "--noprompt", "--uri", &format!("unix://{}", host.socket().display())])
        .env("SWANCTL_DIR", host.dir.path().join("etc/swanctl"))
        .output()
        .await
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    assert_eq!(vici.key_ids().await.unwrap(), [id].into());

    let refused = vici.load_key(&Secret::new("no key")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Apply);
}

#[tokio::test]
async fn charons_refusal_is_told_and_the_connection_goes_on() {
    let host = Host::with_charon();
    let mut vici = vici(&host).await;
    let text = FILE.replace("aes256gcm16-prfsha384-x25519,", "aes256gcm16-nosuchgroup,");
    let conns = swanctl::connections(swanctl::parse(&text).unwrap());
    let refused = vici.load_conn("crosswan-vpc-0aaa1111", &conns["crosswan-vpc-0aaa1111"]).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Apply);
    assert!(refused.chain().contains("invalid value for: proposals"), "{}", refused.chain());

    let unknown = vici.initiate("crosswan-vpc-0bbb", Some("c-10-1-0-0-16"), None).await.unwrap_err();
    assert!(unknown.chain().contains("not found"), "{}", unknown.chain());
    let wait = Some(Duration::from_secs(1));
    for target in [Sas::OfConnection("crosswan-vpc-0bbb"), Sas::Ike(77), Sas::Child(77)] {
        assert!(!vici.terminate(target, true, wait).await.unwrap(), "{target:?}");
    }
    vici.version().await.expect("a refusal does not end the connection");
}

#[tokio::test]
async fn a_charon_that_dies_ends_the_request_at_once() {
    let mut host = Host::with_charon();
    let mut vici = vici(&host).await;
    host.freeze();
    let start = Instant::now();
    let (answer, ()) = tokio::join!(vici.version(), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        host.kill();
    });
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), Kind::Observe);
    assert!(error.chain().contains("charon closed the connection"), "{}", error.chain());
    assert!(start.elapsed() < TIMEOUT, "took {:?}", start.elapsed());
    assert!(vici.version().await.is_err(), "a broken connection stays broken");
}

#[tokio::test]
async fn a_charon_that_says_nothing_is_given_up() {
    let host = Host::with_charon();
    let mut vici = Vici::connect(&host.socket(), Duration::from_millis(300)).await.unwrap();
    host.freeze();
    let start = Instant::now();
    let error = vici.list_conns().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Observe);
    assert!(start.elapsed() < TIMEOUT, "took {:?}", start.elapsed());
    host.thaw();
    assert!(vici.version().await.is_err(), "a late answer must not be taken for the next one's");
}

#[tokio::test]
async fn without_charon_the_error_says_so() {
    let host = Host::new();
    let Err(error) = Vici::connect(&host.socket(), TIMEOUT).await else { panic!("nobody listens") };
    assert!(error.to_string().contains("is strongswan running?"), "{error}");
}
