//! `crosswan doctor`: asks everybody at once what there is to know about this gateway, and changes nothing. The core judges it.
//!
//! It takes no lock, so a refresh may be at work at the same time: what such a moment shows is over with the next look.

#![allow(clippy::disallowed_methods, reason = "edge: one deadline for everything that is asked")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use nix::unistd::geteuid;
use tokio::time::{Instant, timeout_at};

use crate::{
    files, followed, host, keyring,
    observe::{self, disk, ec2, ike, imds, includes, kernel, live},
    paths::Paths,
    settings, status,
};
use crosswan_core::{
    doctor::{Examined, Found, Lead, Surroundings, hears, to_try},
    error::Result,
    forwarding::{Obstacles, Traffic},
    iptables::Rules,
    model::{AskError, ElasticIp, Identity, Interface, Mode, OwnTags, OwnVpc, Scope},
    report::Report,
    settings::{Flags, Settings},
    system::{Charon, Routing},
};

/// When everything has to have answered. `crosswan doctor` promises ten seconds, of which a busy
/// machine needs some for itself.
const ALL: Duration = Duration::from_secs(8);
/// When the first round has to have answered: what later questions depend on, and what needs nothing else.
const FIRST: Duration = Duration::from_secs(4);
/// How long IMDS is asked, so that its own reason comes before the round's end.
const IMDS: Duration = Duration::from_millis(3_500);

/// How long `ethtool` may take.
const DRIVER: Duration = Duration::from_secs(2);

/// Looks once. `env` is the whole environment, `root` the folder below which the files are. It ends within ten seconds.
pub async fn examine(root: &Path, env: &BTreeMap<String, String>, flags: &Flags, paths: &Paths) -> Examined {
    let now = host::now();
    let (first, all) = (Instant::now() + FIRST, Instant::now() + ALL);
    let settings = found(settings::load(root, env, flags));
    let report: Found<Option<Report>> = found(files::read_json(&paths.status));
    let (imds_time, me, saved, charon, routing) = tokio::join!(
        imds::clock(IMDS),
        by(first, "ask IMDS who this instance is", imds::identity(IMDS)),
        by(first, "run iptables-save", live::saved()),
        by(first, "ask charon", charon(paths)),
        by(first, "ask the kernel for its routes", live::routing()),
    );
    let uplink = found(host::default_route_interface());
    let traffic = traffic(&report, &settings, &me, &uplink);
    let closed = match (report.as_ref().ok().and_then(Option::as_ref), &charon) {
        (Some(report), Ok(charon)) => to_try(report, charon),
        _ => BTreeSet::new(),
    };
    let driver = async { host::driver_counts(uplink.as_ref().ok()?, DRIVER).await };
    let (instance, foreign, driver, tried) =
        tokio::join!(instance(&settings, &me, all), foreign(traffic, &saved, all), driver, ike::probe(&closed));
    let Instance { elsewhere, own, vpc, addresses, around, accounts, allowed } = instance;
    let far_port = settings.as_ref().ok().and_then(|settings| settings.far_port);
    let heard = found(files::read(Path::new("/proc/net/udp")));
    let hears = heard.map(|file| far_port.zip(file).is_some_and(|(port, (text, _))| hears(&text, port)));
    let text = |path: &Path| found(files::read(path)).map(|file| file.map(|(text, _)| text));
    Examined {
        now,
        imds_time,
        root: geteuid().is_root(),
        elsewhere,
        own,
        vpc,
        addresses,
        around,
        accounts,
        state: disk::state(paths).0,
        allowed,
        sysctls: uplink.as_ref().map_err(Clone::clone).and_then(|uplink| found(live::sysctls(uplink))),
        conntrack: kernel::conntrack(),
        driver,
        rules: saved.map(|saved| Rules::parse(&saved)),
        wanted_rules: text(&paths.rules).map(|text| text.map(|text| Rules::parse(&text))),
        foreign,
        routing: routing.map(|look| Lead {
            beside: look.rules_beside().chain(&look.foreign_routes).cloned().collect(),
            own: look.routing,
            interfaces: look.foreign_interfaces,
            mtus: look.mtus,
        }),
        wanted_routing: text(&paths.routing)
            .map(|text| text.map(|text| followed::read(paths).over(Routing::parse(&text)))),
        charon,
        paths: tried,
        unreached: found(includes::unreached(paths)),
        keyring: found(keyring::read(paths)),
        pair: found(status::pair(paths)),
        followed: followed::read(paths),
        hears,
        report,
        failed: found(files::read_json(&paths.failure)),
        settings,
        me,
        uplink,
    }
}

fn found<T>(result: Result<T>) -> Found<T> {
    result.map_err(|e| e.chain())
}

/// What was asked for, or that there was no answer by `deadline`.
async fn by<T>(deadline: Instant, what: &str, asked: impl Future<Output = Result<T>>) -> Found<T> {
    let late = |_| Err(format!("{what}: no answer in time"));
    timeout_at(deadline, asked).await.map_or_else(late, found)
}

async fn charon(paths: &Paths) -> Result<Charon> {
    live::charon(&mut live::connect(&paths.vici, Duration::ZERO).await?).await
}

/// What AWS says about this instance.
#[derive(Default)]
struct Instance {
    /// Where else it has a public address.
    elsewhere: Option<String>,
    /// What EC2 shows of it.
    own: Option<std::result::Result<OwnTags, AskError>>,
    /// What EC2 shows of its VPC.
    vpc: Option<std::result::Result<OwnVpc, AskError>>,
    /// The Elastic IPs that settings ask for.
    addresses: Option<std::result::Result<Vec<ElasticIp>, AskError>>,
    /// What EC2 shows around its interface.
    around: Option<Surroundings>,
    /// How many gateways each further account shows.
    accounts: BTreeMap<Scope, std::result::Result<usize, AskError>>,
    /// What EC2 would let it do.
    allowed: BTreeMap<&'static str, std::result::Result<(), AskError>>,
}

/// Asks about this instance, until `deadline`.
async fn instance(settings: &Found<Settings>, me: &Found<Identity>, deadline: Instant) -> Instance {
    let Ok(me) = me else { return Instance::default() };
    let left = || deadline.saturating_duration_since(Instant::now());
    let spoke = settings.as_ref().is_ok_and(|settings| settings.mode == Mode::NatVpn);
    let clients = ec2::Clients::default().accepting_throttles(spoke);
    let elsewhere = async { if me.public.is_none() { imds::public_elsewhere(left()).await } else { None } };
    // An account that does not answer takes no time from the rest.
    let accounts = async {
        let Some(query) = settings.as_ref().ok().and_then(|settings| observe::of_accounts(settings, me)) else {
            return BTreeMap::new();
        };
        let answers = ec2::ask(&clients, &query, left()).await.into_iter();
        answers.map(|(scope, answer)| (scope, answer.map(|view| view.gateways.len()))).collect()
    };
    // Without an answer to this, there is none to the others.
    let instance = async {
        let own = ec2::own_tags(&clients, &me.region, &me.instance, left()).await;
        let Ok(tags) = &own else { return Instance { own: Some(own), ..Instance::default() } };
        let vpc = async {
            let (settings, interface) = (settings.as_ref().ok()?, tags.interface.as_ref()?);
            let tags = ec2::Tags::of(settings);
            Some(tokio::join!(
                ec2::own_vpc(&clients, me, interface, &tags, left()),
                ec2::surroundings(&clients, me, interface, tags.tables, left())
            ))
        };
        let addresses = async {
            let wanted = settings.as_ref().ok()?.address.as_ref()?;
            Some(ec2::addresses(&clients, &me.region, wanted, left()).await)
        };
        let (vpc, addresses) = tokio::join!(vpc, addresses);
        let (vpc, around) = vpc.unzip();
        // What the role may do depends on the table or address.
        let table = vpc.iter().flatten().flat_map(|vpc| vpc.tables.keys()).next();
        let address = addresses.iter().flatten().flatten().next();
        let about = ec2::Subjects {
            instance: &me.instance,
            route: table.zip(tags.interface.as_ref().map(|interface| &interface.id)),
            address: address.map(|address| &address.allocation),
        };
        let allowed = ec2::permissions(&clients, &me.region, about, left()).await;
        Instance { own: Some(own), vpc, addresses, around, allowed, ..Instance::default() }
    };
    let (elsewhere, instance, accounts) = tokio::join!(elsewhere, instance, accounts);
    Instance { elsewhere, accounts, ..instance }
}

/// What this gateway should forward: as the last refresh decided, or as one would decide now.
fn traffic(
    report: &Found<Option<Report>>,
    settings: &Found<Settings>,
    me: &Found<Identity>,
    uplink: &Found<Interface>,
) -> Option<Traffic> {
    let decided = report.as_ref().ok().and_then(|report| report.as_ref()?.traffic.clone());
    let (settings, me, uplink) = (settings.as_ref().ok(), me.as_ref().ok(), uplink.as_ref().ok());
    decided.or_else(|| Some(Traffic::of(settings?.mode, &settings?.nat(me?, uplink?), uplink?)))
}

/// What other programs' rules do to this `traffic`, where iptables printed what it has `saved`.
async fn foreign(traffic: Option<Traffic>, saved: &Found<String>, deadline: Instant) -> Option<Found<Obstacles>> {
    let (traffic, saved) = match (traffic?, saved) {
        (traffic, Ok(saved)) => (traffic, saved),
        (_, Err(why)) => return Some(Err(why.clone())),
    };
    let asked = async { Ok(live::foreign(&traffic, saved).await) };
    Some(by(deadline, "read the rules of other programs", asked).await.and_then(|(found, unasked)| {
        // What certainly stops packets is said, even if there may be more.
        if found.stopped.is_empty() && !unasked.is_empty() { Err(unasked.join("; ")) } else { Ok(found) }
    }))
}
