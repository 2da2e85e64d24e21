//! VICI's messages as values of crosswan-core, and back.

use std::{borrow::Cow, time::Duration};

use crosswan_core::{
    swanctl::{Node, Tree},
    system::{ChildSa, Sa},
};

use crate::message::{Message, Value};

impl From<&Tree> for Message {
    fn from(tree: &Tree) -> Message {
        tree.iter().fold(Message::new(), |message, (key, node)| match node {
            Node::Value(value) => message.with(key, value),
            Node::List(items) => message.with_list(key, items),
            Node::Section(section) => message.with_section(key, section.into()),
        })
    }
}

/// A message as a settings tree.
pub(crate) fn tree(message: &Message) -> Tree {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let node = |value: &Value| match value {
        Value::Bytes(bytes) => Node::Value(text(bytes)),
        Value::List(items) => Node::List(items.iter().map(text).collect()),
        Value::Section(section) => Node::Section(tree(section)),
    };
    message.iter().map(|(key, value)| (key.to_owned(), node(value))).collect()
}

/// An IKE_SA from its section of `list-sas`.
pub(crate) fn ike_sa(conn: &str, sa: &Message) -> Sa {
    let sections = sa.section("child-sas").into_iter().flat_map(Message::sections);
    let mut children: Vec<ChildSa> = sections.map(|(_, child)| child_sa(child)).collect();
    children.sort_by_key(|child| child.id);
    let mut tasks = ["tasks-queued", "tasks-active", "tasks-passive"].into_iter().flat_map(|key| sa.list(key));
    Sa {
        conn: conn.to_owned(),
        id: sa.number("uniqueid").unwrap_or_default(),
        state: string(sa, "state"),
        local_host: string(sa, "local-host"),
        remote_host: string(sa, "remote-host"),
        local_id: string(sa, "local-id"),
        remote_id: string(sa, "remote-id"),
        initiator: sa.text("initiator").is_some_and(|initiator| initiator == "yes"),
        established: sa.number("established"),
        child_pending: tasks.any(|task| task == "CHILD_CREATE" || task == "CHILD_REKEY"),
        children,
    }
}

fn child_sa(child: &Message) -> ChildSa {
    let count = |key| child.number(key).unwrap_or_default();
    ChildSa {
        name: string(child, "name"),
        id: child.number("uniqueid").unwrap_or_default(),
        state: string(child, "state"),
        if_id: child.text("if-id-in").and_then(|hex| u32::from_str_radix(&hex, 16).ok()),
        local_ts: child.list("local-ts").map(Cow::into_owned).collect(),
        remote_ts: child.list("remote-ts").map(Cow::into_owned).collect(),
        bytes_in: count("bytes-in"),
        bytes_out: count("bytes-out"),
        installed: child.number("install-time"),
    }
}

fn string(message: &Message, key: &str) -> String {
    message.text(key).unwrap_or_default().into_owned()
}

/// A timeout in VICI's form: milliseconds, or -1 for not waiting at all. It is never 0, which waits forever.
pub(crate) fn millis(wait: Option<Duration>) -> String {
    wait.map_or("-1".into(), |wait| wait.as_millis().clamp(1, i32::MAX as u128).to_string())
}

/// Reads charon's format `%V`: "24 seconds", "3 minutes", …, in one unit, rounded down.
pub(crate) fn ago(text: &str) -> Option<Duration> {
    let (count, unit) = text.split_once(' ')?;
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_never_forever() {
        assert_eq!(millis(None), "-1");
        assert_eq!(millis(Some(Duration::ZERO)), "1", "0 would wait without end");
        assert_eq!(millis(Some(Duration::from_secs(10))), "10000");
        assert_eq!(millis(Some(Duration::MAX)), "2147483647");
    }

    #[test]
    fn charons_uptime_is_understood() {
        let cases = [
            ("1 second", 1),
            ("24 seconds", 24),
            ("119 seconds", 119),
            ("3 minutes", 180),
            ("2 hours", 7_200),
            ("2 days", 172_800),
        ];
        for (text, seconds) in cases {
            assert_eq!(ago(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "soon", "x seconds", "1 fortnight", "-1 seconds", "18446744073709551615 days"] {
            assert_eq!(ago(text), None, "{text}");
        }
    }
}
