//! What the loop of a pair does not wait for: the other member's kernel, and EC2. Each task sends back what came of it.

use std::{collections::BTreeMap, io::ErrorKind, sync::Arc, time::Duration};

use futures_util::future::join_all;
use ipnet::Ipv4Net;
use tokio::{net::TcpStream, sync::mpsc::UnboundedSender, time::timeout};

use crate::observe::ec2::{self, Clients};
use crosswan_core::{
    decide::{Needs, TakeRoute},
    model::{RouteTable, RouteTableId},
    pair::Members,
    settings::Tag,
};

/// How long the other member's kernel has to answer. The decision does not wait for this.
const KERNEL: Duration = Duration::from_secs(1);
/// How long a look at the routes or a move may take.
const EC2: Duration = Duration::from_secs(8);

/// What came of a task.
pub(super) enum Back {
    /// The other member's kernel has answered.
    Answer,
    /// The managed tables, or why EC2 could not be asked.
    Routes(Result<BTreeMap<RouteTableId, RouteTable>, String>),
    /// Each table whose default route was to move, or why that does not read back.
    Moved(Vec<Result<RouteTableId, String>>),
}

/// TCP to a port where nobody listens: a living kernel refuses that at once, whatever its processes do. It needs no right, and no kernel
/// limits how often it does so, as it does with ICMP.
pub(super) fn ask_kernel(members: &Members, back: &UnboundedSender<Back>) {
    let (to, back) = ((members.other.address, members.port), back.clone());
    tokio::spawn(async move {
        match timeout(KERNEL, TcpStream::connect(to)).await {
            Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused => drop(back.send(Back::Answer)),
            Ok(Ok(_)) => drop(back.send(Back::Answer)),
            _ => {}
        }
    });
}

/// Asks EC2 for the managed tables.
pub(super) fn look_at_routes(clients: &Arc<Clients>, members: &Members, tag: &Tag, back: &UnboundedSender<Back>) {
    let (clients, me, tag, back) = (clients.clone(), members.me.clone(), tag.clone(), back.clone());
    tokio::spawn(async move {
        let found = ec2::tables_of(&clients, &me, &tag, EC2).await.map_err(|why| why.to_string());
        let _ = back.send(Back::Routes(found));
    });
}

/// Leads each default route that leads to the other member here, all at once, and reads each back.
pub(super) fn take_over(
    clients: &Arc<Clients>,
    members: &Members,
    tables: &BTreeMap<RouteTableId, RouteTable>,
    back: &UnboundedSender<Back>,
) {
    let was = format!("it led to {}, which is dead", members.other.instance);
    let take = |table| TakeRoute {
        table,
        to: Ipv4Net::default(),
        interface: members.me.interface.clone(),
        exists: true,
        needs: Needs::Rules,
        was: was.clone(),
    };
    let takes: Vec<TakeRoute> = members.takes(tables).into_iter().map(take).collect();
    let (clients, region, back) = (clients.clone(), members.me.region.clone(), back.clone());
    tokio::spawn(async move {
        let all = takes.iter().map(|take| async {
            let taken = ec2::take_route(&clients, &region, take, EC2).await;
            taken.map(|()| take.table.clone()).map_err(|why| format!("{}: {why}", take.table))
        });
        let _ = back.send(Back::Moved(join_all(all).await));
    });
}
