//! Checks of charon, of this gateway's keys, and of each peer.

use std::collections::BTreeMap;

use super::{
    examined::Examined,
    verdict::{Matter, Verdict, failure, few, of_problem, unasked, warning},
};
use crate::{
    model::ConnName,
    render::Capabilities,
    report::TunnelReport,
    settings::AuthMethod,
    system::{Charon, ChildSa, Sa},
    text::plural,
};

/// A CHILD_SA that has sent for this many seconds should have received something.
const LONG_ENOUGH: u64 = 60;

/// Nothing here is looked at on a gateway without tunnels.
pub(super) fn with_tunnels(x: &Examined) -> Result<(), Matter> {
    match x.mode() {
        None => Err(Matter::Blocked("settings")),
        Some(mode) if !mode.has_ipsec() => Err(Matter::Absent(format!("a {mode} has no tunnels"))),
        Some(_) => Ok(()),
    }
}

pub(super) fn charon(x: &Examined) -> Verdict {
    with_tunnels(x)?;
    let charon = x.charon.as_ref();
    let charon = charon.map_err(|why| unasked(why, "charon answers", "systemctl restart strongswan"))?;
    Ok(format!("{} with {}", charon.version, plural(charon.connections.len(), "connection")))
}

/// The key exchanges that every connection proposes: charon refuses a connection for one that it does not know.
const KEY_EXCHANGES: [&str; 2] = ["CURVE_25519", "ECP_384"];

pub(super) fn algorithms(x: &Examined) -> Verdict {
    with_tunnels(x)?;
    let known = &x.charon.as_ref().map_err(|_| Matter::Blocked("charon"))?.key_exchanges;
    let missing: Vec<&str> = KEY_EXCHANGES.into_iter().filter(|name| !known.contains(*name)).collect();
    if !missing.is_empty() {
        let remedy = "apt-get install libstrongswan-standard-plugins && systemctl restart strongswan";
        return Err(failure(format!("charon lacks {}", few(&missing)), KEY_EXCHANGES.join(" and "), remedy));
    }
    let hybrid = if Capabilities::of(known).ml_kem { ", and the hybrid with ML-KEM" } else { "" };
    Ok(format!("{}{hybrid}", KEY_EXCHANGES.join(" and ")))
}

pub(super) fn swanctl_include(x: &Examined) -> Verdict {
    with_tunnels(x)?;
    let wanted = "swanctl.conf includes crosswan's files";
    match x.unreached.as_ref().map_err(|why| unasked(why, wanted, "ls -l /etc/swanctl"))? {
        None => Ok(wanted.into()),
        Some(problem) => Err(of_problem(problem, wanted)),
    }
}

/// Nothing about keys is looked at where this gateway has none: with pre-shared keys only, and on a `nat-hub` that is to be alone.
fn with_keys(x: &Examined) -> Result<(), Matter> {
    match &x.settings {
        Ok(_) if x.needs_key() => Ok(()),
        Ok(settings) if settings.has_key() => Err(Matter::Absent("alone this gateway needs no key".into())),
        Ok(settings) if settings.auth.method == AuthMethod::Psk => {
            with_tunnels(x).and(Err(Matter::Absent("auth.method is psk".into())))
        }
        _ => with_tunnels(x).and(Err(Matter::Blocked("settings"))),
    }
}

pub(super) fn key_file(x: &Examined) -> Verdict {
    with_keys(x)?;
    let wanted = "this instance's own key, which only root may read";
    let file = "/etc/swanctl/private/crosswan.pem";
    let ring =
        x.keyring.as_ref().map_err(|why| unasked(why, wanted, "crosswan refresh, once it is restored or removed"))?;
    // Its peers know the key that is gone, and refuse another one of the same instance.
    let known = x.last_report().filter(|report| report.mode.has_ipsec()).and_then(|report| {
        Some(format!(
            "restore {file}; or: crosswan refresh here, and on each peer: crosswan refresh --accept-key {}=FINGERPRINT",
            report.key.as_ref().map(|_| &report.me.vpc)?
        ))
    });
    let remedy = || known.unwrap_or_else(|| "crosswan refresh".into());
    let ring = ring.as_ref().ok_or_else(|| failure(format!("no {file}"), wanted, remedy()))?;
    if let Ok(me) = &x.me
        && ring.current.instance != me.instance
    {
        let found = format!("the key of {}, from an image or a moved disk", ring.current.instance);
        return Err(failure(found, wanted, "crosswan refresh"));
    }
    if ring.keys().any(|key| !key.guarded) {
        let remedy = format!("chmod 600 {file}; if they may have read it: crosswan rotate-key");
        return Err(failure("other users can read or change the key", wanted, remedy));
    }
    Ok(ring.current.public.fingerprint())
}

pub(super) fn key_loaded(x: &Examined) -> Verdict {
    with_tunnels(x)?;
    with_keys(x)?;
    let charon = x.charon.as_ref().map_err(|_| Matter::Blocked("charon"))?;
    let ring = x.keyring.as_ref().ok().and_then(Option::as_ref).ok_or(Matter::Blocked("key-file"))?;
    if charon.keys.contains(&ring.current.public.charon_id()) {
        return Ok("charon signs with it".into());
    }
    Err(failure("charon has not loaded this gateway's key", "charon signs with it", "crosswan refresh"))
}

pub(super) fn key_tag(x: &Examined) -> Verdict {
    with_keys(x)?;
    super::cloud::key_tag(x)
}

/// The peers by what their connections have in common: a VPC's id, or `hub`.
fn parties(x: &Examined) -> BTreeMap<String, Vec<(&String, &TunnelReport)>> {
    let mut parties = BTreeMap::<String, Vec<_>>::new();
    for (name, tunnel) in x.last_report().iter().flat_map(|report| &report.tunnels) {
        if let Ok(parsed) = name.parse::<ConnName>() {
            parties.entry(format!("peer-{}", parsed.party())).or_default().push((name, tunnel));
        }
    }
    parties
}

/// A verdict for each peer of the last refresh, by its id.
pub(super) fn peers(x: &Examined) -> Vec<(String, Verdict)> {
    let all = |verdict| vec![("peer-<vpc>".to_owned(), verdict)];
    if let Err(matter) = with_tunnels(x) {
        return all(Err(matter));
    }
    let Some(report) = x.last_report() else { return all(Err(Matter::Blocked("last-refresh"))) };
    let parties = parties(x);
    if parties.is_empty() && x.awaits_address() {
        return all(Err(Matter::Blocked("elastic-ip")));
    }
    if parties.is_empty() {
        let why = report.awaited.iter().cloned().chain(report.refused.iter().map(ToString::to_string)).next();
        let why = why.unwrap_or_else(|| "no gateway was found".into());
        return all(Err(warning(format!("no tunnel: {why}"), "a peer", "crosswan refresh")));
    }
    let judged = |(id, tunnels): (String, Vec<(&String, &TunnelReport)>)| {
        let charon = x.charon.as_ref().map_err(|_| Matter::Blocked("charon"));
        let verdict = charon.and_then(|charon| Ok(peer(x, charon, &tunnels)? + &standing_by(charon, &tunnels)));
        // While nobody is reached by the other hub only, nothing is lost without the tunnel to it.
        let spare = |(name, tunnel): &(&String, &TunnelReport)| is_across(name) && tunnel.stands_by;
        let verdict = match verdict {
            Err(Matter::Failure(trouble)) if tunnels.iter().all(spare) => Err(Matter::Warning(trouble)),
            verdict => verdict,
        };
        (id, verdict)
    };
    parties.into_iter().map(judged).collect()
}

/// The tunnels that stand by, for the end of a line. One that is down harms nobody as long as the one in use is up.
fn standing_by(charon: &Charon, tunnels: &[(&String, &TunnelReport)]) -> String {
    let is_up =
        |name: &str| charon.sas.iter().filter(|sa| sa.conn == name).flat_map(|sa| &sa.children).any(ChildSa::is_up);
    let beside = tunnels.iter().filter(|(_, tunnel)| tunnel.stands_by);
    let shown = |(name, tunnel): &(&String, &TunnelReport)| {
        format!("; {} stands by, {}", tunnel.remote, if is_up(name) { "up" } else { "DOWN" })
    };
    beside.map(shown).collect()
}

fn is_across(name: &str) -> bool {
    name.parse().is_ok_and(|name: ConnName| name.other_hub().is_some())
}

/// Judges the tunnel of a peer that is in use.
pub(super) fn peer(x: &Examined, charon: &Charon, tunnels: &[(&String, &TunnelReport)]) -> Verdict {
    let used = tunnels.iter().find(|(_, tunnel)| !tunnel.stands_by).or(tunnels.first());
    let (name, tunnel) = used.ok_or_else(|| Matter::Absent("no tunnel".into()))?;
    let remote = tunnel.remote;
    let wanted = format!("a tunnel to {remote} that is up");
    let Some(connection) = charon.connections.get(*name) else {
        return Err(failure(format!("charon has not loaded {name}"), wanted, "crosswan refresh"));
    };
    let sas: Vec<&Sa> = charon.sas.iter().filter(|sa| sa.conn == **name).collect();
    let live: Vec<&ChildSa> = sas.iter().flat_map(|sa| &sa.children).filter(|child| child.is_up()).collect();
    let missing: Vec<&String> =
        connection.children.keys().filter(|name| live.iter().all(|c| c.name != **name)).collect();
    if !sas.iter().any(|sa| sa.is_authenticated()) {
        if x.is_closed(remote) {
            return Err(Matter::Blocked("peer-path"));
        }
        let state = if sas.iter().any(|sa| sa.is_connecting()) { "it does not answer" } else { "there is none" };
        let remedy = format!("swanctl --initiate --ike {name}, which says why there is none");
        return Err(failure(format!("no IKE_SA with {remote}: {state}"), wanted, remedy));
    }
    if let Some(first) = missing.first() {
        let names = few(&missing);
        let remedy = format!("swanctl --initiate --child {first} --ike {name}");
        return Err(failure(format!("no CHILD_SA for {names}"), wanted, remedy));
    }
    let sum = |of: fn(&ChildSa) -> u64| live.iter().map(|child| of(child)).fold(0, u64::saturating_add);
    let (bytes_in, bytes_out) = (sum(|child| child.bytes_in), sum(|child| child.bytes_out));
    let since = live.iter().filter_map(|child| child.installed).max().unwrap_or(0);
    let counts = format!("{bytes_in} B in, {bytes_out} B out");
    // What one hub sends across comes back by another way.
    if bytes_out > 0 && bytes_in == 0 && since >= LONG_ENOUGH && !is_across(name) {
        let remedy = "crosswan doctor on the other gateway; look at its hosts' security groups and route tables";
        return Err(warning(format!("up to {remote}, and nothing comes back: {counts}"), "bytes both ways", remedy));
    }
    Ok(format!("up to {remote}, {}, {counts}", plural(connection.children.len(), "network")))
}
