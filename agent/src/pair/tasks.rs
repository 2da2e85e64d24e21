//! What the loop of a pair does not wait for: the other member's kernel, and EC2. Each task sends back what came of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    path::Path,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use crate::{
    handover::{self, MakeWay, Order},
    host,
    observe::ec2::{self, Clients},
    paths::Paths,
};
use crosswan_core::{
    decide::{Needs, TakeRoute},
    error::Error,
    model::{ConnName, Holder, InstanceId, PrivateKey, RouteTable, RouteTableId, TAKES_PLACE_TAG},
    pair::{Me, Members, Notices},
    settings::Tag,
    system::{ChildSa, Sa},
};
use crosswan_vici::Vici;

/// How long an answer of the other member's kernel may come after its time. The decision does not wait for this.
const KERNEL: Duration = Duration::from_secs(1);
/// How long a look at the routes or a move may take.
const EC2: Duration = Duration::from_secs(8);
/// How long charon has to list its SAs.
const CHARON: Duration = Duration::from_secs(5);

/// How long a handover may take that nobody has ordered.
const HANDS_OVER: Duration = Duration::from_mins(5);

/// What came of a task.
pub(super) enum Back {
    /// The other member's kernel has answered.
    Answer,
    /// It was asked then, and has not answered in time.
    Silent(u64),
    /// When EC2 was asked for the managed tables, and these, or why it could not be asked.
    Routes(u64, Result<BTreeMap<RouteTableId, RouteTable>, String>),
    /// Most far ends know of so many takeovers, and these follow this gateway or not.
    Far { known: u32, follows: bool },
    /// To how many parties tunnels of this gateway are up, and how long charon took to say so.
    Tunnels(u16, Duration),
    /// Each route that was to move, or why it does not read back.
    Moved(Vec<Result<String, String>>),
    /// What EC2 tells of this instance's end.
    Notices(Notices),
    /// Whether all hubs that charon knows have authenticated this gateway, and how long charon took to say so.
    Authenticated(bool, Duration),
    /// EC2 shows that this gateway asks for a member's place, or why not.
    AskedForPlace(Result<(), String>),
    /// This member has made way, or has not, which it has said.
    MadeWay,
}

/// Asks the other member's kernel. The wait begins when the packet leaves, and ends with a look for the answer: however late this process runs, it calls no kernel silent
/// whose answer is there.
pub(super) fn ask_kernel(asked: u64, wait: Duration, members: &Members, back: &UnboundedSender<Back>) {
    let (to, back) = ((members.other.address, members.port), back.clone());
    tokio::spawn(async move {
        let mut answer = pin!(host::kernel_answers(to.into()));
        let told = match timeout(wait, &mut answer).await {
            Ok(answered) => answered,
            Err(_) => {
                let _ = back.send(Back::Silent(asked));
                timeout(KERNEL, answer).await.ok().flatten().filter(|answered| *answered)
            }
        };
        match told {
            Some(true) => drop(back.send(Back::Answer)),
            Some(false) => drop(back.send(Back::Silent(asked))),
            None => {}
        }
    });
}

/// Asks charon to how many parties tunnels are up; to `known` of them, they were. One that does not answer in time has none that could be
/// taken for granted.
pub(super) fn ask_charon(vici: &Path, known: u16, back: &UnboundedSender<Back>) {
    let (vici, back) = (vici.to_owned(), back.clone());
    tokio::spawn(async move {
        let began = Instant::now();
        let asked = async { Vici::connect(&vici, CHARON).await?.all_sas(|sas| parties(sas) >= known).await };
        let sas = timeout(CHARON, asked).await.ok().and_then(Result::ok).unwrap_or_default();
        let _ = back.send(Back::Tunnels(parties(&sas), began.elapsed()));
    });
}

/// Asks charon whether each party whose connection is loaded has authenticated this gateway, and it them.
pub(super) fn ask_who_authenticated(vici: &Path, back: &UnboundedSender<Back>) {
    let (vici, back) = (vici.to_owned(), back.clone());
    tokio::spawn(async move {
        let began = Instant::now();
        let asked = async {
            let mut vici = Vici::connect(&vici, CHARON).await?;
            let loaded: Vec<ConnName> = vici.list_conns().await?.keys().filter_map(|name| name.parse().ok()).collect();
            let is_complete = |sas: &[Sa]| {
                let up = sas.iter().filter(|sa| sa.is_authenticated()).filter_map(|sa| sa.conn.parse().ok());
                let up: Vec<ConnName> = up.collect();
                loaded.iter().all(|name| up.iter().any(|up| up.party() == name.party()))
            };
            let sas = vici.all_sas(&is_complete).await?;
            Ok::<_, Error>(!loaded.is_empty() && is_complete(&sas))
        };
        let authenticated = timeout(CHARON, asked).await.ok().and_then(Result::ok).unwrap_or_default();
        let _ = back.send(Back::Authenticated(authenticated, began.elapsed()));
    });
}

/// Has EC2 show that this gateway is to take the place of `member`.
pub(super) fn ask_for_place(
    clients: &Arc<Clients>,
    me: &Me,
    key: &PrivateKey,
    member: &InstanceId,
    back: &UnboundedSender<Back>,
) {
    let claim = key.takes_place(member.clone(), &Holder { vpc: &me.vpc, instance: &me.instance });
    let (clients, me, back) = (clients.clone(), me.clone(), back.clone());
    tokio::spawn(async move {
        let written = match claim {
            Some(claim) => {
                let tags = [(TAKES_PLACE_TAG, claim.to_string())];
                ec2::announce(&clients, &me.region, &me.instance, &tags, EC2).await.map_err(|why| why.to_string())
            }
            None => Err("its key cannot be read".into()),
        };
        let _ = back.send(Back::AskedForPlace(written));
    });
}

/// Hands over and makes way, as `crosswan handover --make-way` does by order.
pub(super) fn make_way(make_way: MakeWay, why: String, tag: Tag, paths: Paths, back: &UnboundedSender<Back>) {
    let back = back.clone();
    tokio::spawn(async move {
        // This loop must not sleep: beats are due.
        let order = Order { why: &why, timeout: HANDS_OVER, make_way: Some(make_way), patience: Duration::ZERO };
        match handover::run(&tag, &paths, order, pending::<()>(), |line| info!("making way: {}", line.trim())).await {
            Ok(done) => warn!("{done}"),
            Err(e) => warn!(reason = %e.chain(), "this member stays one"),
        }
        let _ = back.send(Back::MadeWay);
    });
}

/// To how many parties these tunnels are up; the other hub of a pair is none of them.
fn parties(sas: &[Sa]) -> u16 {
    let up = |sa: &&Sa| sa.is_authenticated() && sa.children.iter().any(ChildSa::is_up);
    let names: Vec<ConnName> = sas.iter().filter(up).filter_map(|sa| sa.conn.parse().ok()).collect();
    let far = names.iter().filter(|name| name.other_hub().is_none());
    let parties: BTreeSet<&str> = far.map(ConnName::party).collect();
    u16::try_from(parties.len()).unwrap_or(u16::MAX)
}

/// Asks EC2 for the managed tables, at `now`.
pub(super) fn look_at_routes(now: u64, clients: &Arc<Clients>, me: &Me, tag: &Tag, back: &UnboundedSender<Back>) {
    let (clients, me, tag, back) = (clients.clone(), me.clone(), tag.clone(), back.clone());
    tokio::spawn(async move {
        let found = ec2::tables_of(&clients, &me, &tag, EC2).await.map_err(|why| why.to_string());
        let _ = back.send(Back::Routes(now, found));
    });
}

/// Leads each route that leads to the other member here, all at once, and reads each back; those to the private network only with `private`.
pub(super) fn take_over(
    clients: &Arc<Clients>,
    members: &Members,
    tables: &BTreeMap<RouteTableId, RouteTable>,
    private: bool,
    back: &UnboundedSender<Back>,
) {
    let was = format!("it led to {}", members.other.instance);
    let take = |(table, to)| TakeRoute {
        table,
        to,
        interface: members.me.interface.clone(),
        exists: true,
        needs: Needs::Rules,
        was: was.clone(),
    };
    let takes: Vec<TakeRoute> = members.takes(tables, private).into_iter().map(take).collect();
    let (clients, region, back) = (clients.clone(), members.me.region.clone(), back.clone());
    tokio::spawn(async move {
        let all = takes.iter().map(|take| async {
            let taken = ec2::take_route(&clients, &region, take, EC2).await;
            let route = format!("{} of {}", take.to, take.table);
            taken.map(|()| route.clone()).map_err(|why| format!("{route}: {why}"))
        });
        let _ = back.send(Back::Moved(join_all(all).await));
    });
}
