//! One pass through the stages. The only module that knows their order.

mod conclude;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::UdpSocket,
    time::Duration,
};

use conclude::{conclude, leads_to, remembered, settle, without_charon};
use nix::fcntl::Flock;
use serde::Serialize;
use tracing::{debug, info, warn};

use crate::{
    files, host,
    observe::{disk, ec2, imds, includes, kernel, live, resolver, store},
    own::Own,
    paths::Paths,
    settings::Keys,
    transact::{Done, carry_out},
    vici::Vici,
};
use crosswan_core::{
    decide::{Contacts, Decision, KeyAnswer, Seen, decide, disabled, recover},
    error::{Context, Error, Kind, Result},
    forwarding::Traffic,
    iptables::Rules,
    model::{Answers, Identity, Mode, Region, Secret, VpcId, printable},
    plan::{Step, plan},
    render::{Capabilities, render},
    report::{Failure, Outcome, Report},
    settings::{AuthMethod, Settings},
    state::State,
    system::{Configuration, Files, System},
};

/// How long a pass waits for another one to end.
const PATIENCE_LOCK: Duration = Duration::from_secs(30);
/// How long IMDS may take to answer everything.
const PATIENCE_IMDS: Duration = Duration::from_secs(10);

/// What was asked of this pass.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Stop after the plan.
    pub dry_run: bool,
    /// Let more peers go than `removal.hold_above`.
    pub force: bool,
    /// Make the next key now, whatever the age of the current one.
    pub rotate: bool,
    /// The fingerprints of keys that are right though their VPCs' gateways are not known by them.
    pub accept: BTreeMap<VpcId, String>,
}

/// Runs one pass. The report says what came of it, failed applies included; `Err` is for passes that could not decide.
pub async fn refresh(settings: &Settings, keys: &Keys, paths: &Paths, options: Options) -> Result<Report> {
    let _lock = files::lock(&paths.lock, PATIENCE_LOCK)?;
    let pass = prepare(settings, keys, paths, &options).await?;
    let Pass { decision, before, files, mut current, mut charon, own, ec2, mut report, lock } = pass;
    // The template's text is the one truth: what is compared and loaded is parsed from it; the text on
    // disk was already.
    current.believed.keys = own.wanted();
    current.believed.rules.unknown_as(&current.rules);
    let mut parsed;
    let target = match &current.believed {
        on_disk if on_disk.files == files => on_disk,
        _ => {
            parsed = Configuration { keys: own.wanted(), ..Configuration::of(files)? };
            parsed.rules.unknown_as(&current.rules);
            &parsed
        }
    };
    let steps = plan(target, &current);
    debug!(stage = "plan", "done");
    report.steps.extend(steps.iter().map(Step::to_string));
    if options.dry_run {
        report.steps.extend(own.announcing());
        report.outcome = Outcome::Planned;
        return Ok(report);
    }
    // Nothing to do was read from the system just now: that is the verification.
    let done = match steps.is_empty() {
        true => Done::nothing(&current, paths),
        false => carry_out(&steps, target, &current, paths, charon.as_mut()).await,
    };
    let settled = settle(&own, &done, paths, charon.as_mut()).await;
    // Nothing from here on asks charon or changes it: `keep` may look, however long EC2 takes.
    drop((charon, lock));
    report.removed.retain(|vpc| done.failed.keys().all(|name| !leads_to(name, vpc)));
    let state = match &current.charon {
        Some(_) => remembered(decision.state, &decision.tunnels, &before, &done.failed),
        None => {
            report.removed.clear();
            without_charon(decision.state, &before)
        }
    };
    let in_force = done.is_in_force();
    if done.outcome == Outcome::Partly {
        report.steps = done.steps;
    }
    report.outcome = done.outcome;
    report.failed = done.failed.into_iter().map(|(name, failure)| (name.to_string(), failure)).collect();
    report.problems.extend(done.problems);
    if in_force {
        conclude(&own, &state, settled, paths, &mut report, async |report| {
            own.announce(&ec2, settings.ec2.timeout, report).await;
        })
        .await;
    }
    // The report is published whatever failed; if that is what fails, whoever called has it on standard output.
    if let Err(e) = publish(&report, paths) {
        warn!(problem = %e.chain(), "the report was not published");
        report.problems.push(e.chain());
    }
    debug!(stage = "report", "done");
    Ok(report)
}

/// `crosswan render`: the files of a pass, without the pass. Changes nothing.
pub async fn files(settings: &Settings, keys: &Keys, paths: &Paths) -> Result<(Files, Report)> {
    let pass = prepare(settings, keys, paths, &Options { dry_run: true, ..Options::default() }).await?;
    Ok((pass.files, pass.report))
}

/// Everything up to the plan.
struct Pass {
    decision: Decision,
    /// What was remembered before.
    before: State,
    files: Files,
    current: System,
    charon: Option<Vici>,
    own: Own,
    ec2: ec2::Session,
    report: Report,
    /// Keeps `crosswan keep` away from the look at charon to the verification.
    lock: Flock<File>,
}

/// observe -> decide -> render.
async fn prepare(settings: &Settings, keys: &Keys, paths: &Paths, options: &Options) -> Result<Pass> {
    let now = host::now();
    let (state, state_note) = disk::state(paths);
    let (me, imds_failed) = identity(&state).await?;
    let state = state.for_vpc(&me.vpc);
    let uplink = host::default_route_interface()?;
    debug!(stage = "observe IMDS", "done");
    let ec2 = ec2::Session::default().making_way(settings.mode == Mode::NatVpn);
    let mut own = Own::ready(settings, paths, &me, now, options)?;
    let (mut answers, ()) = tokio::join!(ask_ec2(&ec2, settings, &state), own.look(&ec2, settings.ec2.timeout));
    debug!(stage = "observe EC2", "done");
    let sorted_out = disabled::sort_out(&mut answers, &state, settings.removal.spacing, now);
    let (keys, keys_unasked) = fetch_keys(&ec2, settings, keys, &me, &answers, &state).await;
    let lock = files::lock(&paths.charon_lock, PATIENCE_LOCK)?;
    let mut current = disk::current(paths)?;
    let (charon, charon_failed) = ask_charon(settings.mode, paths, &mut current).await;
    // NAT and guard alone wait for a firewall that cannot be asked.
    let (saved, rules_failed) = match live::saved().await {
        Ok(saved) => (Some(saved), None),
        Err(e) => (None, Some(format!("{}; NAT and guard were left as they are", e.chain()))),
    };
    current.rules = saved.as_deref().map_or_else(Rules::unreadable, Rules::parse);
    let state = match &current.charon {
        Some(charon) => recover(state, &answers, &me, charon, &current.peer_keys),
        _ => state,
    };
    let contacts = current.charon.as_ref().map(|charon| Contacts::of(&charon.sas)).unwrap_or_default();
    let loaded = current.charon.iter().flat_map(|charon| charon.connections.keys()).filter_map(|n| n.parse().ok());
    let loaded = loaded.collect();
    debug!(stage = "observe", "done");

    let in_use = keys_in_use(&current);
    let key = |vpc: &VpcId| match keys.for_peer(vpc) {
        Ok(key) => KeyAnswer { key: Some(key), problem: None },
        Err(problem) => KeyAnswer { key: in_use.get(vpc).cloned(), problem: Some(problem) },
    };
    let seen = Seen {
        me: &me,
        answers: &answers,
        state: &state,
        now,
        uplink: &uplink,
        keys: &key,
        own: own.keys(),
        contacts: &contacts,
        loaded: &loaded,
        pinned: &current.peer_keys,
        accept: &options.accept,
    };
    let elsewhere = if me.public.is_none() { imds::public_elsewhere(PATIENCE_IMDS).await } else { None };
    let mut decision = decide(settings, &seen, options.force).map_err(|e| match &elsewhere {
        Some(where_it_is) => e.because(where_it_is.clone()),
        None => e,
    })?;
    decision.state.disabled = sorted_out.refused;
    own.presence = decision.presence.clone();
    debug!(stage = "decide", "done");
    let capabilities = current.charon.as_ref().map(|c| Capabilities::of(&c.key_exchanges)).unwrap_or_default();
    let files = render(settings.mode, &decision, capabilities)?;
    debug!(stage = "render", "done");

    let mut report = Report::new(now, settings.mode, &me, &answers, &decision);
    report.unasked.extend(imds_failed.into_iter().chain(keys_unasked).chain(charon_failed).chain(rules_failed));
    report.unasked.extend(saved.iter().flat_map(|_| current.rules.closed()).map(|table| {
        format!(
            "table ip {table} of nft holds rules that iptables cannot read, so nothing of crosswan's was added there or read \
             back: move them to a table of another name, then nft delete table ip {table}"
        )
    }));
    let traffic = Traffic::of(settings.mode, &decision.nat, &uplink);
    let (found, not_asked) = live::forwarding(&traffic, saved.as_deref().unwrap_or_default()).await;
    report.stopped.extend(found.stopped);
    report.notes.extend(found.notes);
    report.unasked.extend(not_asked);
    report.traffic = Some(traffic);
    if settings.mode.has_ipsec() {
        report.stopped.extend(includes::unreached(paths)?);
    }
    report.notes.extend(kernel::notes(settings.masquerade));
    let needs_psk = settings.mode.has_ipsec() && settings.auth.method == AuthMethod::Psk;
    report.waiting_for = keys.missing().filter(|_| needs_psk).map(str::to_owned);
    own.report(&mut report);
    report.notes.extend(
        sorted_out.notes.into_iter().chain(elsewhere).chain(resolver::hint(report.unasked.iter(), &decision.nat)),
    );
    report.notes.extend(
        settings.warnings.iter().cloned().chain(state_note).chain(current.doubt.clone()).chain(keys.warnings.clone()),
    );
    Ok(Pass { decision, before: state, files, current, charon, own, ec2, report, lock })
}

/// Who am I: IMDS, or the last good pass if IMDS fails and this host still has that pass's address.
async fn identity(state: &State) -> Result<(Identity, Option<String>)> {
    let failed = match imds::identity(PATIENCE_IMDS).await {
        Ok(me) => return Ok((me, None)),
        Err(e) => e,
    };
    match &state.identity {
        // Binding proves that the address is ours; a state that came with an image does not pass.
        Some(me) if UdpSocket::bind((me.private, 0)).is_ok() => {
            let what = format!("{}; going on as {} of the last good pass", failed.chain(), me.instance);
            Ok((me.clone(), Some(what)))
        }
        _ => Err(failed),
    }
}

/// EC2's answers, as far as the mode needs any.
async fn ask_ec2(session: &ec2::Session, settings: &Settings, state: &State) -> Answers {
    let (tag, with_cidrs) = match settings.mode {
        Mode::VpnHub => (&settings.gateway_tag, true),
        Mode::NatVpn if !settings.regions.is_empty() => (&settings.hub_tag, false),
        Mode::NatVpn | Mode::NatHub => return Answers::new(),
    };
    info!(regions = settings.regions.len(), tag = %printable(&tag.value), "asking EC2");
    let query = ec2::Query {
        regions: settings.regions.clone(),
        tag: tag.clone(),
        environment: settings.environment_tag.clone(),
        with_cidrs,
        known: known(state),
    };
    ec2::ask(session, &query, settings.ec2.timeout).await
}

/// The peers to ask for by their ids.
fn known(state: &State) -> BTreeMap<Region, ec2::Known> {
    let mut known: BTreeMap<Region, ec2::Known> = BTreeMap::new();
    for (vpc, peer) in &state.peers {
        let known = known.entry(peer.gateway.region.clone()).or_default();
        known.vpcs.insert(vpc.clone());
        known.instances.insert(peer.gateway.instance.clone());
    }
    known
}

/// The keys, with those that lie in AWS; and what of these could not be asked for.
async fn fetch_keys(
    session: &ec2::Session,
    settings: &Settings,
    keys: &Keys,
    me: &Identity,
    answers: &Answers,
    state: &State,
) -> (Keys, BTreeSet<String>) {
    let is_hub = settings.mode == Mode::VpnHub;
    // On the hub all that may get a tunnel in this pass, those of a silent region by its last good answer.
    let clients: BTreeSet<VpcId> = if is_hub {
        let views = answers.values().flatten().chain(state.regions.values().map(|last| &last.view));
        let vpcs = views.flat_map(|view| &view.gateways).map(|g| &g.vpc).chain(state.peers.keys());
        vpcs.filter(|vpc| **vpc != me.vpc).cloned().collect()
    } else {
        BTreeSet::from([me.vpc.clone()])
    };
    let Some((stored, names)) = keys.to_fetch(&clients) else { return (keys.clone(), BTreeSet::new()) };
    info!(place = %stored, names = names.len(), "fetching keys");
    let fetched = store::fetch(session, stored, &names, &me.region, settings.ec2.timeout).await;
    debug!(stage = "observe keys", "done");
    keys.with(fetched, !is_hub)
}

/// Looks at charon, where this mode needs it or files say that an earlier one did; and why there was no answer if there
/// should be one. One that hangs is as good as none: NAT does not wait for it.
async fn ask_charon(mode: Mode, paths: &Paths, current: &mut System) -> (Option<Vici>, Option<String>) {
    let (patience, needed) = match (mode.has_ipsec(), &current.files.connections) {
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
            current.charon = Some(charon);
            (Some(vici), None)
        }
        Err(e) if needed => (None, Some(format!("{}; its tunnels were left as they are", e.chain()))),
        Err(_) => (None, None),
    }
}

/// The keys of the secrets file, by client VPC: a peer whose configured key became unusable keeps the one in use.
fn keys_in_use(current: &System) -> BTreeMap<VpcId, Secret> {
    let owned = current.believed.secrets.values().flat_map(|s| s.owners.iter().map(|o| (o, &s.secret)));
    let of_spoke = |owner: &str| owner.split_once('/')?.0.parse().ok();
    owned.filter_map(|(owner, secret)| Some((of_spoke(owner)?, secret.clone()))).collect()
}

/// report: where `crosswan status` and monitoring find it.
fn publish(report: &Report, paths: &Paths) -> Result<()> {
    files::write_atomic(&paths.status, &json(report)?, 0o644)?;
    files::remove(&paths.failure)
}

/// Leaves a pass that came to no report where `status` finds it: the last report alone would tell of better times.
pub fn record_failure(error: &Error, paths: &Paths) {
    let failure = Failure { at: host::now(), exit_code: error.kind().exit_code(), error: error.chain() };
    let written = json(&failure).and_then(|json| files::write_atomic(&paths.failure, &json, 0o644));
    if let Err(e) = written {
        warn!(reason = %e.chain(), "the failure could not be recorded");
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).context(|| Error::new(Kind::Other, "encode as JSON"))
}
