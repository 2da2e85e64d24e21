//! A transaction against the real charon: one connection fails in every possible way, and the others go on.

use std::{collections::BTreeSet, fs};

use crosswan::{
    observe::{disk, live},
    paths::Paths,
    transact::carry_out,
};
use crosswan_core::{
    model::ConnName,
    outcome::{Outcome, Verdict},
    plan::plan,
    system::{Configuration, Files, System},
};
use crosswan_vici::Vici;

use crate::host::{Host, TIMEOUT};

/// A connection as the template writes it, with a child for each CIDR. charon refuses it if it is not `good`.
fn connection(name: &str, last: u8, cidrs: &str, good: bool) -> String {
    let proposals = if good { "aes256gcm16-prfsha384-x25519" } else { "aes256gcm16-nosuchgroup" };
    let child = |cidr: &str| {
        let child = crosswan_core::model::child_name(&cidr.parse().unwrap());
        format!(
            "            {child} {{\n                local_ts = 10.0.0.0/16\n                remote_ts = {cidr}\n            }}\n"
        )
    };
    let children: String = cidrs.split(' ').map(child).collect();
    format!(
        "    {name} {{\n        version = 2\n        remote_addrs = 192.0.2.{last}\n        proposals = {proposals}\n        \
         local {{\n            auth = psk\n            id = 192.0.2.1\n        }}\n        remote {{\n            auth = psk\n            \
         id = peer-{last}\n        }}\n        children {{\n{children}        }}\n    }}\n"
    )
}

fn files(connections: &[String]) -> Files {
    let name = |text: &String| text.trim_start().split(' ').next().unwrap_or_default().to_owned();
    let secret =
        |text: &String| format!("    ike-{} {{\n        id-1 = x\n        secret = 0x616263\n    }}\n", name(text));
    Files {
        routing: None,
        connections: Some(format!("# {} connections\nconnections {{\n{}}}\n", connections.len(), connections.concat())),
        secrets: Some(format!("secrets {{\n{}}}\n", connections.iter().map(secret).collect::<String>())),
        // No chains are wanted, and none are there: iptables is only read.
        rules: Some("*filter\nCOMMIT\n".into()),
        pair: None,
    }
}

struct Gateway {
    host: Host,
    paths: Paths,
}

impl Gateway {
    /// With these connections loaded.
    async fn with(connections: &[String]) -> Gateway {
        let host = Host::with_charon();
        let paths = Paths { vici: host.socket(), ..Paths::below(&host.dir.path().join("root")) };
        let gateway = Gateway { host, paths };
        let done = gateway.refresh(files(connections)).await;
        assert_eq!(done.verdict, Verdict::Changed, "{done:?}");
        gateway
    }

    async fn current(&self, vici: &mut Vici) -> System {
        let charon = Some(live::charon(vici).await.unwrap());
        System { charon, ..disk::system(&self.paths).unwrap() }
    }

    /// What a refresh does from the plan on.
    async fn refresh(&self, files: Files) -> Outcome {
        let mut vici = Vici::connect(&self.host.socket(), TIMEOUT).await.unwrap();
        let (target, current) = (Configuration::of(files).unwrap(), self.current(&mut vici).await);
        let steps = plan(&target, &current);
        carry_out(&steps, &target, &current, &self.paths, Some(&mut vici)).await
    }

    /// The connections charon has, which are those of the file, with a secret each.
    async fn connections(&self) -> BTreeSet<String> {
        let mut vici = Vici::connect(&self.host.socket(), TIMEOUT).await.unwrap();
        let current = self.current(&mut vici).await;
        let charon = current.charon.unwrap();
        let loaded: BTreeSet<String> = charon.connections.into_keys().collect();
        let in_file: BTreeSet<String> = current.believed.connections.keys().map(ConnName::to_string).collect();
        assert_eq!(loaded, in_file, "the file does not say what is loaded");
        assert_eq!(charon.secrets, loaded.iter().map(|name| format!("ike-{name}")).collect());
        assert!(!self.paths.unfinished.exists() && current.doubt.is_none());
        loaded
    }

    fn file(&self) -> String {
        fs::read_to_string(&self.paths.connections).unwrap()
    }
}

fn failed(done: &Outcome) -> Vec<(&str, bool)> {
    done.failed.iter().map(|(name, failure)| (name.as_str(), failure.restored)).collect()
}

const A: &str = "crosswan-vpc-0000000a";
const B: &str = "crosswan-vpc-0000000b";
const C: &str = "crosswan-vpc-0000000c";
const D: &str = "crosswan-vpc-0000000d";

#[tokio::test]
async fn a_connection_that_charon_refuses_costs_no_other_its_change() {
    let a = connection(A, 10, "10.1.0.0/16", true);
    let gateway =
        Gateway::with(&[a.clone(), connection(B, 11, "10.2.0.0/16", true), connection(C, 12, "10.3.0.0/16", true)])
            .await;
    // One that is changed badly, one that is changed well, one that goes, and two that come, of which one is bad.
    let wanted = [
        connection(A, 20, "10.1.0.0/16", false),
        connection(B, 21, "10.2.0.0/16", true),
        connection(D, 13, "10.4.0.0/16", true),
        connection("crosswan-vpc-0000000e", 14, "10.5.0.0/16", false),
    ];
    let done = gateway.refresh(files(&wanted)).await;
    assert_eq!(done.verdict, Verdict::Partly, "{done:?}");
    assert_eq!(failed(&done), [(A, true), ("crosswan-vpc-0000000e", true)], "{done:?}");
    assert!(done.failed.values().all(|f| f.why.contains("invalid value for: proposals")), "{done:?}");
    assert!(done.problems.is_empty() && done.steps.iter().all(|step| !step.contains("0000000a")), "{done:?}");
    assert_eq!(gateway.connections().await, [A, B, D].map(str::to_owned).into());
    assert!(gateway.file().contains(&a) && gateway.file().contains(&wanted[1]), "{}", gateway.file());

    // The same again finds nothing to do for anybody else, and the old ones stay.
    let done = gateway.refresh(files(&wanted)).await;
    assert_eq!((done.steps.len(), failed(&done).len()), (0, 2), "{done:?}");
    // It may be removed although its change fails.
    let done = gateway.refresh(files(&wanted[1..3])).await;
    assert_eq!(done.verdict, Verdict::Changed, "{done:?}");
    assert_eq!(gateway.connections().await, [B, D].map(str::to_owned).into());
}

#[tokio::test]
async fn what_works_goes_only_when_what_replaces_it_is_loaded() {
    let (old, new) = (format!("{A}-i-0000000a"), format!("{A}-i-0000000b"));
    let works = connection(&old, 10, "10.1.0.0/16", true);
    let gateway = Gateway::with(&[works.clone(), connection(B, 11, "10.2.0.0/16", true)]).await;
    let done = gateway.refresh(files(&[connection(&new, 20, "10.1.0.0/16", false)])).await;
    assert_eq!(failed(&done), [(old.as_str(), true), (new.as_str(), true)], "{done:?}");
    assert_eq!(gateway.connections().await, [old.clone()].into(), "the other VPC's removal is its own");
    assert!(gateway.file().contains(&works), "{}", gateway.file());
    let done = gateway.refresh(files(&[connection(&new, 20, "10.1.0.0/16", true)])).await;
    assert_eq!(done.verdict, Verdict::Changed, "{done:?}");
    assert_eq!(gateway.connections().await, [new].into());
}

#[tokio::test]
async fn a_cidr_that_a_peer_lost_goes_although_the_rest_of_its_change_fails() {
    let gateway = Gateway::with(&[connection(A, 10, "10.1.0.0/16 10.101.0.0/16", true)]).await;
    let wanted = [connection(A, 20, "10.1.0.0/16", false), connection(B, 11, "10.101.0.0/16", true)];
    let done = gateway.refresh(files(&wanted)).await;
    assert_eq!(failed(&done), [(A, true)], "{done:?}");
    assert_eq!(gateway.connections().await, [A, B].map(str::to_owned).into());
    assert!(gateway.file().contains(&connection(A, 10, "10.1.0.0/16", true)), "{}", gateway.file());
    let mut vici = Vici::connect(&gateway.host.socket(), TIMEOUT).await.unwrap();
    let loaded = gateway.current(&mut vici).await.charon.unwrap().connections;
    assert!(loaded[A].children.keys().eq(["c-10-1-0-0-16"]), "{loaded:?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_takes_everything_back() {
    let before = [connection(A, 10, "10.1.0.0/16", true), connection(B, 11, "10.2.0.0/16", true)];
    let gateway = Gateway::with(&before).await;
    let file = gateway.file();
    let mut wanted = files(&[connection(A, 20, "10.1.0.0/16", true), connection(C, 12, "10.3.0.0/16", false)]);
    wanted.rules = Some("# changed\n*filter\nCOMMIT\n".into());
    // Where the temporary file would be: the rules' is the last that is written.
    let blocked = gateway.paths.rules.with_file_name(".iptables.rules.new");
    fs::create_dir_all(&blocked).unwrap();
    let done = gateway.refresh(wanted).await;
    assert_eq!(done.verdict, Verdict::RolledBack, "{done:?}");
    assert!(done.problems.concat().contains("iptables.rules") && !done.is_in_force(), "{done:?}");
    assert_eq!(gateway.connections().await, [A, B].map(str::to_owned).into());
    assert_eq!(gateway.file(), file);
}

#[tokio::test]
async fn a_charon_that_answers_nothing_leaves_its_files_and_a_marker() {
    let before = [connection(A, 10, "10.1.0.0/16", true)];
    let gateway = Gateway::with(&before).await;
    let file = gateway.file();
    let mut vici = Vici::connect(&gateway.host.socket(), std::time::Duration::from_secs(1)).await.unwrap();
    let wanted = [connection(A, 20, "10.1.0.0/16", true), connection(B, 11, "10.2.0.0/16", true)];
    let (target, current) = (Configuration::of(files(&wanted)).unwrap(), gateway.current(&mut vici).await);
    gateway.host.freeze();
    let done = carry_out(&plan(&target, &current), &target, &current, &gateway.paths, Some(&mut vici)).await;
    gateway.host.thaw();
    assert_eq!(done.verdict, Verdict::Partly, "{done:?}");
    assert_eq!(failed(&done), [(A, false), (B, false)], "{done:?}");
    assert!(done.problems.concat().contains("no answer in 1 s") && done.steps.is_empty(), "{done:?}");
    assert!(!done.keys_in_use && gateway.file() == file && gateway.paths.unfinished.exists());
    // charon may have loaded it or not: the next pass loads it in any case.
    let done = gateway.refresh(files(&wanted)).await;
    assert_eq!((done.verdict, done.failed.len()), (Verdict::Changed, 0), "{done:?}");
    assert!(done.steps.iter().any(|step| step.starts_with(&format!("load connection {A} "))), "{done:?}");
    assert_eq!(gateway.connections().await, [A, B].map(str::to_owned).into());
}
