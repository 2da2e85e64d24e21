//! The requests with values of crosswan-core.

use std::time::Duration;

use crosswan_core::{
    error::{Kind, Result},
    model::Secret,
    swanctl::{Shared, parse},
    system::Sa,
};
use crosswan_vici::{Message, Packet, Sas, Vici};

use crate::charon::{Charon, play};

/// What is asked with a charon that answers every request with `answer`, after one event of `told`; and what charon was
/// asked.
async fn ask<T>(
    answer: &Message,
    told: Option<Message>,
    request: impl AsyncFnOnce(&mut Vici) -> Result<T>,
) -> (Result<T>, Message) {
    let asked = std::cell::RefCell::new(Message::new());
    let charon = async |mut charon: Charon| {
        let mut event = None;
        while let Some(packet) = charon.hear().await {
            match packet {
                Packet::Register(name) => {
                    event = Some(name);
                    charon.say(Packet::Confirm).await;
                }
                Packet::Request { message, .. } => {
                    asked.replace(message);
                    if let (Some(name), Some(message)) = (&event, &told) {
                        charon.say(Packet::Event { name: name.clone(), message: message.clone() }).await;
                    }
                    charon.say(Packet::Response(answer.clone())).await;
                }
                _ => charon.say(Packet::Confirm).await,
            }
        }
    };
    let outcome =
        play(charon, async |socket| request(&mut Vici::connect(socket, Duration::from_secs(5)).await.unwrap()).await);
    (outcome.await, asked.into_inner())
}

fn no(errmsg: &str) -> Message {
    Message::new().with("success", "no").with("errmsg", errmsg)
}

fn yes() -> Message {
    Message::new().with("success", "yes")
}

/// charon's answer to `list-sas`: an IKE_SA of this connection and id.
fn listed(conn: &str, id: &str, state: &str) -> Message {
    Message::new().with_section(conn, Message::new().with("uniqueid", id).with("state", state))
}

#[tokio::test]
async fn an_sa_that_charon_works_on_in_one_look_is_seen_in_another() {
    let [a, b, c] = [("a", "1"), ("b", "2"), ("c", "3")].map(|(conn, id)| listed(conn, id, "ESTABLISHED"));
    let going = listed("d", "4", "DELETING");
    let looks: [&[Message]; 3] = [&[a.clone(), going], &[b], &[a, c]];
    let total = std::cell::Cell::new(0);
    let charon = async |mut charon: Charon| {
        let mut looks = looks.iter();
        while let Some(packet) = charon.hear().await {
            match packet {
                Packet::Request { command, .. } if command == "stats" => {
                    let sas = Message::new().with("total", total.get().to_string());
                    charon.say(Packet::Response(Message::new().with_section("ikesas", sas))).await;
                }
                Packet::Request { .. } => {
                    for message in *looks.next().expect("there are at most three looks") {
                        charon.say(Packet::Event { name: "list-sa".into(), message: message.clone() }).await;
                    }
                    charon.say(Packet::Response(Message::new())).await;
                }
                _ => charon.say(Packet::Confirm).await,
            }
        }
    };
    for (wanted, has, ids) in [(2, 9, &[1, 4][..]), (3, 9, &[1, 2, 3]), (9, 9, &[1, 2, 3]), (9, 2, &[1, 4])] {
        total.set(has);
        let client = async |socket: &std::path::Path| {
            let mut vici = Vici::connect(socket, Duration::from_secs(5)).await.unwrap();
            vici.all_sas(|sas| sas.len() >= wanted).await
        };
        let mut seen: Vec<u32> = play(charon, client).await.unwrap().iter().map(|sa| sa.id).collect();
        seen.sort_unstable();
        assert_eq!(seen, ids, "until there are {wanted}, where charon has {has}");
    }
}

#[tokio::test]
async fn an_answer_is_yes_or_the_reason() {
    let load = async |vici: &mut Vici| vici.load_conn("x", &parse("version = 2").unwrap()).await;
    ask(&yes(), None, load).await.0.unwrap();
    let refused = ask(&no("bad\nnews"), None, load).await.0.unwrap_err();
    assert_eq!(refused.chain(), r#"load connection "x": bad\nnews"#, "no control character reaches a log line");
    assert_eq!(refused.kind(), Kind::Apply);
    let silent = ask(&Message::new(), None, load).await.0.unwrap_err();
    assert_eq!(silent.chain(), r#"load connection "x": charon gave no reason"#, "no answer is not a yes");

    let unload = async |vici: &mut Vici| vici.unload_conn("x").await;
    assert!(ask(&yes(), None, unload).await.0.unwrap());
    assert!(!ask(&no("unload: connection 'x' not found"), None, unload).await.0.unwrap());
    assert_eq!(ask(&no("out of memory"), None, unload).await.0.unwrap_err().kind(), Kind::Apply);

    let terminate = async |vici: &mut Vici| vici.terminate(Sas::Ike(7), false, None).await;
    let refused = ask(&no("terminating SA failed"), None, terminate).await.0.unwrap_err();
    assert_eq!(refused.chain(), "terminate IKE_SA 7: terminating SA failed");
    let force = async |vici: &mut Vici| vici.terminate(Sas::Ike(7), true, None).await;
    assert!(ask(&no("terminating SA failed"), None, force).await.0.unwrap());
    assert!(!ask(&no("none").with("matches", "0"), None, force).await.0.unwrap());
}

#[tokio::test]
async fn an_answer_without_what_was_asked_for_is_no_answer() {
    let (version, _) = ask(&Message::new(), None, async |vici| vici.version().await).await;
    let error = version.unwrap_err();
    assert_eq!(error.kind(), Kind::Observe);
    assert!(
        error.chain().ends_with("for version: charon's answer does not belong to this command"),
        "{}",
        error.chain()
    );
    let odd = Message::new().with_section("uptime", Message::new().with("running", "a while"));
    assert_eq!(ask(&odd, None, async |vici| vici.uptime().await).await.0.unwrap_err().kind(), Kind::Observe);
}

#[tokio::test]
async fn a_key_of_any_bytes_reaches_charon_as_it_is() {
    let shared = Shared { secret: Secret::new([0, 255, b'a']), owners: vec!["hub".into(), "vpc-0aaa1111".into()] };
    let (loaded, asked) = ask(&yes(), None, async |vici| vici.load_shared("ike-x", &shared).await).await;
    loaded.unwrap();
    let expected = Message::new().with("id", "ike-x").with("type", "IKE").with("data", [0, 255, b'a']);
    assert_eq!(asked, expected.with_list("owners", ["hub", "vpc-0aaa1111"]));
}

#[tokio::test]
async fn every_request_that_waits_says_how_long() {
    let wait = Some(Duration::from_secs(2));
    for (waits, timeout) in [(None, "-1"), (wait, "2000"), (Some(Duration::ZERO), "1")] {
        let (_, asked) = ask(&yes(), None, async |vici| vici.initiate("x", Some("c"), waits).await).await;
        assert_eq!((asked.text("timeout").unwrap(), asked.text("child").unwrap()), (timeout.into(), "c".into()));
        let (_, asked) = ask(&yes(), None, async |vici| vici.terminate(Sas::Child(9), true, waits).await).await;
        assert_eq!((asked.text("timeout").unwrap(), asked.text("child-id").unwrap()), (timeout.into(), "9".into()));
        assert_eq!(asked.text("force").unwrap(), "yes");
    }
}

#[tokio::test]
async fn an_sa_is_read_as_list_sas_writes_it() {
    let sa = parse(
        "uniqueid = 7\n state = ESTABLISHED\n local-host = 10.0.0.10\n remote-host = 203.0.113.7\n initiator = yes
         remote-id = vpc-0aaa1111\n established = 61
         child-sas {
           c-10 { name = c\n uniqueid = 10\n reqid = 2\n state = REKEYED\n }
           c-9 { name = c\n uniqueid = 9\n reqid = 2\n state = INSTALLED\n bytes-in = 84\n bytes-out = 3\n install-time = 60\n }
         }",
    );
    let sa = Message::from(&sa.unwrap());
    let read = async |sa: Message| -> Sa {
        let told = Message::new().with_section("crosswan-x", sa);
        let (sas, asked) = ask(&Message::new(), Some(told), async |vici| vici.sas().await).await;
        assert_eq!(asked, Message::new().with("noblock", "yes"));
        let [sa] = <[Sa; 1]>::try_from(sas.unwrap()).unwrap();
        sa
    };
    let known = read(sa.clone()).await;
    assert_eq!((known.conn.as_str(), known.id, known.established), ("crosswan-x", 7, Some(61)));
    assert_eq!((known.local_host.as_str(), known.remote_host.as_str()), ("10.0.0.10", "203.0.113.7"));
    assert!(known.remote_id == "vpc-0aaa1111" && known.initiator && !known.child_pending);
    assert_eq!(known.children.iter().map(|c| (c.id, c.is_up())).collect::<Vec<_>>(), [(9, true), (10, false)]);
    let child = &known.children[0];
    assert_eq!((child.bytes_in, child.bytes_out, child.installed), (84, 3, Some(60)));
    for (key, task, pending) in [
        ("tasks-queued", "CHILD_CREATE", true),
        ("tasks-active", "CHILD_REKEY", true),
        ("tasks-passive", "CHILD_CREATE", true),
        ("tasks-active", "IKE_DPD", false),
    ] {
        assert_eq!(read(sa.clone().with_list(key, [task])).await.child_pending, pending, "{task}");
    }
    let odd = sa.with("remote-id", b"\xffid");
    assert_eq!(read(odd).await.remote_id, "\u{fffd}id", "a peer's odd identity hides no SA");
}
