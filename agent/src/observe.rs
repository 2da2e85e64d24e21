//! The first stage: asks IMDS, EC2, the stores of pre-shared keys, the disk, charon and iptables. "Could not ask" is never "nothing
//! there".

pub mod disk;
pub mod ec2;
pub mod ike;
pub mod imds;
pub mod includes;
pub mod kernel;
pub mod live;
pub mod organization;
mod psks;
pub mod resolver;
pub mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::UdpSocket,
    time::Duration,
};

use nix::fcntl::Flock;
use tracing::{debug, info};

use crate::{
    files::{self, Hold},
    host,
    keyring::{self, Ready},
    paths::Paths,
    settings::PreSharedKeys,
};
use crosswan_core::{
    decide::Request,
    error::{Error, Result},
    iptables::Rules,
    model::{Answers, AskError, Holder, Identity, Mode, OwnKeys, Scope, printable},
    observed::Observed,
    settings::Settings,
    state::State,
    system::{Routing, System},
};
use crosswan_vici::Vici;

/// How long a pass waits for `crosswan keep` to finish a look.
const PATIENCE_LOCK: Duration = Duration::from_secs(30);
/// How long a gateway without a key asks EC2 about its own instance.
const PATIENCE_OWN: Duration = Duration::from_secs(5);
/// How long IMDS may take to answer everything.
const PATIENCE_IMDS: Duration = Duration::from_secs(10);

/// What a pass holds open from its look at charon to its end.
pub struct Handles {
    /// The connection to charon; `None` if this mode does not need charon, or if it does not answer.
    pub charon: Option<Vici>,
    /// The lock that keeps `crosswan keep` and `crosswan watch` away from the look at charon to the verification.
    pub lock: Flock<File>,
    /// The AWS clients of this pass.
    pub ec2: ec2::Clients,
    /// The bound on one region's answer.
    pub timeout: Duration,
}

/// Finds out everything on which a pass decides. Unless this is a dry run, it makes this gateway's key if there is none, because
/// nothing can be decided without a key. It changes nothing else.
///
/// # Errors
/// Something is unknown that no pass can do without: who this gateway is, its default route, or the managed files.
pub async fn observe(
    settings: &Settings,
    keys: &PreSharedKeys,
    paths: &Paths,
    request: &Request,
) -> Result<(Observed, Handles)> {
    let now = host::now();
    let (state, state_note) = disk::state(paths);
    let (me, imds_failed) = identity(&state).await?;
    let elsewhere = if me.public.is_none() { imds::public_elsewhere(PATIENCE_IMDS).await } else { None };
    let mut observed = Observed {
        state: state.for_vpc(&me.vpc),
        elsewhere,
        heard: disk::heard(paths, now),
        may_not_announce: files::read(&paths.may_not_announce)?.is_some(),
        unasked: imds_failed.into_iter().collect(),
        ..Observed::new(settings, me, host::default_route_interface()?, now)
    };
    debug!(stage = "observe IMDS", "done");

    let ec2 = ec2::Clients::default().accepting_throttles(settings.mode == Mode::NatVpn);
    let Ready { ring, notes, problem } = keyring::ready(settings, paths, &observed.me, now, request)?;
    observed.problems.extend(problem);
    let own = async {
        let Observed { me, unasked, .. } = &observed;
        let needed = ring.is_some() && settings.mode.has_ipsec() || settings.address.is_some();
        let patience = match needed {
            true => settings.ec2.timeout,
            // It has nothing else to ask, perhaps no role to ask with, and NAT does not wait for it.
            false if unasked.is_empty() => settings.ec2.timeout.min(PATIENCE_OWN),
            false => return (None, None),
        };
        let about = ec2::Tags::of(settings);
        let (tags, vpc) = ec2::own_place(&ec2, me, &about, patience).await;
        // Without tunnels by key or an address it can do without the right to ask, and not without an answer that it may have: on the boot
        // of a slow machine EC2 can be late, and its check would stay on for an hour.
        (Some(tags).filter(|tags| needed || !tags.as_ref().is_err_and(AskError::is_about_rights)), vpc)
    };
    let addresses = async {
        let wanted = settings.address.as_ref()?;
        Some(ec2::addresses(&ec2, &observed.me.region, wanted, settings.ec2.timeout).await)
    };
    let segment = async {
        let key = &settings.segments.as_ref()?.tag;
        Some(ec2::own_segment(&ec2, &observed.me, key, settings.ec2.timeout).await)
    };
    let (answers, (tags, vpc), addresses, segment) =
        tokio::join!(ask_ec2(&ec2, settings, &observed.state, &observed.me), own, addresses, segment);
    (observed.answers, observed.tags, observed.vpc, observed.addresses) = (answers, tags, vpc, addresses);
    observed.segment = segment;
    let me = Holder { vpc: &observed.me.vpc, instance: &observed.me.instance };
    observed.own = ring.as_ref().and_then(|ring| OwnKeys::of(ring, settings.mode, &me));
    debug!(stage = "observe EC2", "done");

    let stored = psks::fetch(&ec2, settings, keys, &observed).await;
    let lock = files::lock(&paths.charon_lock, Hold::Alone, PATIENCE_LOCK, "crosswan keep or crosswan watch")?;
    observed.system = disk::system(paths)?;
    observed.system.routing = look_at_routing(settings.mode, &mut observed.notes).await?;
    let (charon, charon_failed) = ask_charon(settings.mode, paths, &mut observed.system).await;
    observed.psks = stored.by_client(settings, &observed);
    observed.unasked.extend(stored.unasked.iter().map(ToString::to_string).chain(charon_failed));
    look_at_firewall(&mut observed).await;
    if settings.mode.has_ipsec() {
        observed.stopped.extend(includes::unreached(paths)?.map(|problem| problem.to_string()));
    }
    let silent = observed.answers.values().filter_map(|answer| answer.as_ref().err());
    let silent = silent.chain(observed.tags.iter().filter_map(|tags| tags.as_ref().err()));
    let silent = silent.chain(stored.unasked.iter().map(|unasked| &unasked.why));
    let unresolved = resolver::hint(silent, &settings.nat(&observed.me, &observed.uplink));
    observed.notes.extend(kernel::notes(settings.masquerade).into_iter().chain(notes));
    observed.notes.extend(observed.elsewhere.iter().cloned().chain(unresolved).chain(state_note));
    observed.notes.extend(observed.system.doubt.iter().cloned().chain(stored.keys.warnings));
    Ok((observed, Handles { charon, lock, ec2, timeout: settings.ec2.timeout }))
}

/// Who this gateway is, from IMDS, or from the last good pass if IMDS fails and this host still has that pass's address. Also returns
/// IMDS's failure for the report.
async fn identity(state: &State) -> Result<(Identity, Option<String>)> {
    let failed = match imds::identity(PATIENCE_IMDS).await {
        Ok(me) => return Ok((me, None)),
        Err(e) => e,
    };
    match &state.identity {
        // The bind proves that this host has the address; it fails for a state that came with an image.
        Some(me) if UdpSocket::bind((me.private, 0)).is_ok() => {
            let what = format!("{}; going on as {} of the last good pass", failed.chain(), me.instance);
            Ok((me.clone(), Some(what)))
        }
        _ => Err(failed),
    }
}

/// EC2's answers, if the mode needs any.
async fn ask_ec2(clients: &ec2::Clients, settings: &Settings, state: &State, me: &Identity) -> Answers {
    let Some(query) = query(settings, me, known(state)) else { return Answers::new() };
    info!(regions = settings.regions.len(), accounts = settings.accounts.len(), tag = %printable(&query.tag.value), "asking EC2");
    ec2::ask(clients, &query, settings.ec2.timeout).await
}

/// What is to be asked of EC2; `None` if the mode needs nothing.
fn query(settings: &Settings, me: &Identity, known: BTreeMap<Scope, ec2::Known>) -> Option<ec2::Query> {
    let (tag, with_cidrs) = match settings.mode {
        Mode::VpnHub => (&settings.gateway_tag, true),
        Mode::NatVpn if settings.asks() => (&settings.hub_tag, false),
        Mode::NatVpn | Mode::NatHub => return None,
    };
    Some(ec2::Query {
        regions: settings.regions.clone(),
        accounts: settings.accounts.clone(),
        home: (me.region.clone(), me.instance.clone()),
        tag: tag.clone(),
        environment: settings.environment_tag.clone(),
        with_cidrs,
        segment_tag: settings.segments.as_ref().map(|segments| segments.tag.clone()),
        known,
    })
}

/// What a pass asks of further accounts; `None` if there are none.
pub fn of_accounts(settings: &Settings, me: &Identity) -> Option<ec2::Query> {
    let query = query(settings, me, BTreeMap::new()).filter(|query| !query.accounts.is_empty())?;
    Some(ec2::Query { regions: BTreeSet::new(), ..query })
}

/// The peers that are asked for by their ids.
fn known(state: &State) -> BTreeMap<Scope, ec2::Known> {
    let mut known: BTreeMap<Scope, ec2::Known> = BTreeMap::new();
    for (vpc, peer) in &state.peers {
        let known = known.entry(peer.gateway.scope()).or_default();
        known.vpcs.insert(vpc.clone());
        known.instances.insert(peer.gateway.instance.clone());
    }
    known
}

/// Looks at charon, if this mode needs it or files say that an earlier mode did. Returns the connection, and the reason if there is no
/// answer where there should be one. NAT does not wait for a charon that hangs.
async fn ask_charon(mode: Mode, paths: &Paths, system: &mut System) -> (Option<Vici>, Option<String>) {
    let (patience, needed) = match (mode.has_ipsec(), &system.files.connections) {
        (true, _) => (live::PATIENCE, true),
        (false, Some(_)) => (Duration::ZERO, false),
        (false, None) => return (None, None),
    };
    let asked = async {
        let mut vici = live::connect(&paths.vici, patience).await?;
        let charon = live::charon(&mut vici).await?;
        Ok::<_, Error>((vici, charon))
    };
    match asked.await {
        Ok((vici, charon)) => {
            system.charon = Some(charon);
            (Some(vici), None)
        }
        Err(e) if needed => (None, Some(format!("{}; its tunnels were left as they are", e.chain()))),
        Err(_) => (None, None),
    }
}

/// Looks at the own interfaces, rules and routes. Adds to `notes` what others have put beside them.
///
/// # Errors
/// The kernel does not answer, or an interface of another program could be mistaken for one of crosswan's.
async fn look_at_routing(mode: Mode, notes: &mut Vec<String>) -> Result<Routing> {
    let look = live::routing().await?;
    if let (true, Some(foreign)) = (mode.has_ipsec(), look.foreign_interfaces.first()) {
        return Err(Error::observe(format!(
            "there is {foreign}, which crosswan has not made: the guard would let packets pass in the clear there. Delete it (ip \
             link delete) or give it another name and if_id; crosswan's are cw1 and cw2, with if_id 1 and 2"
        )));
    }
    let beside =
        |what: &str, line: &String| format!("{what} of another program may lead packets past the tunnels: {line}");
    notes.extend(look.rules_beside().map(|line| beside("a policy rule", line)));
    notes.extend(look.foreign_routes.iter().map(|line| beside("a route", line)));
    Ok(look.routing)
}

/// Looks at the own rules, and at what other programs' rules do to the traffic that this gateway forwards. If the firewall cannot be
/// asked, only NAT and guard wait.
async fn look_at_firewall(observed: &mut Observed) {
    let saved = live::saved().await;
    let rules = saved.as_deref().map_or_else(|_| Rules::unreadable(), Rules::parse);
    observed.system.believed.rules.unknown_as(&rules);
    observed.system.rules = rules;
    let closed = observed.system.rules.closed().iter().filter(|_| saved.is_ok()).map(|table| {
        format!(
            "table ip {table} of nft holds rules that iptables cannot read, so nothing of crosswan's was added there or read \
             back: move them to a table of another name, then nft delete table ip {table}"
        )
    });
    observed.unasked.extend(closed);
    let saved = saved.unwrap_or_else(|e| {
        observed.unasked.push(format!("{}; NAT and guard were left as they are", e.chain()));
        String::new()
    });
    let (found, not_asked) = live::forwarding(&observed.traffic, &saved).await;
    observed.stopped.extend(found.stopped.iter().map(ToString::to_string));
    observed.notes.extend(found.notes);
    observed.unasked.extend(not_asked);
}
