//! Security associations as `list-sas` tells them.

use super::message::{list, number, section, sections, text};
use crosswan_core::{
    swanctl::Tree,
    system::{ChildSa, Sa},
};

/// An IKE_SA out of its section of `list-sas`.
pub(super) fn ike_sa(conn: &str, sa: &Tree) -> Sa {
    let mut children: Vec<ChildSa> =
        section(sa, "child-sas").into_iter().flat_map(sections).map(|(_, c)| child_sa(c)).collect();
    children.sort_by_key(|c| c.id);
    let string = |key| text(sa, key).unwrap_or_default().to_owned();
    let mut tasks = ["tasks-queued", "tasks-active", "tasks-passive"].into_iter().flat_map(|key| list(sa, key));
    Sa {
        conn: conn.to_owned(),
        id: number(sa, "uniqueid").unwrap_or_default(),
        state: string("state"),
        local_host: string("local-host"),
        remote_host: string("remote-host"),
        local_id: string("local-id"),
        remote_id: string("remote-id"),
        initiator: text(sa, "initiator") == Some("yes"),
        established: number(sa, "established"),
        child_pending: tasks.any(|t| t == "CHILD_CREATE" || t == "CHILD_REKEY"),
        children,
    }
}

fn child_sa(child: &Tree) -> ChildSa {
    let string = |key| text(child, key).unwrap_or_default().to_owned();
    let count = |key| number(child, key).unwrap_or_default();
    ChildSa {
        name: string("name"),
        id: number(child, "uniqueid").unwrap_or_default(),
        reqid: number(child, "reqid").unwrap_or_default(),
        state: string("state"),
        local_ts: list(child, "local-ts"),
        remote_ts: list(child, "remote-ts"),
        bytes_in: count("bytes-in"),
        bytes_out: count("bytes-out"),
        packets_in: count("packets-in"),
        packets_out: count("packets-out"),
        installed: number(child, "install-time"),
    }
}
