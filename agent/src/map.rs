//! `crosswan map`: what `status` sees and what the last refresh refused, as a [`Map`].

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::{
    files,
    paths::Paths,
    status::{self, Status, TunnelStatus},
};
use crosswan_core::{
    error::{Error, Result},
    map::{Group, Is, Map, Own, Peer},
    model::{ConnName, Scope, Timestamp},
    report::{Report, TunnelReport},
    traffic::{Count, Traffic},
};

/// What came from each address, and went to it.
type Carried = BTreeMap<Ipv4Addr, (Count, Count)>;
/// An account by its name, and a region.
type Place = (Option<String>, Option<String>);

/// Looks once.
///
/// # Errors
/// `Kind::Observe` if no refresh has reported since boot: then nothing is known of the network.
pub async fn look(paths: &Paths) -> Result<Map> {
    let status = status::look(paths).await;
    let traffic = files::read_json(&paths.traffic).ok().flatten();
    of(&status, traffic.as_ref())
        .ok_or_else(|| Error::observe("draw the network: no refresh has reported since boot; run crosswan refresh"))
}

/// The map of one look; `None` without a report. What could not be asked is shown as unknown.
pub fn of(status: &Status, traffic: Option<&Traffic>) -> Option<Map> {
    let report = status.last_refresh.as_ref()?;
    let me = &report.me;
    let group = |(account, region): Place| Group { account, region, failed: None, peers: vec![] };
    let regions = report.regions.iter().map(|(scope, answer)| {
        let place = (name(report, scope), Some(scope.region.to_string()));
        (place.clone(), Group { failed: answer.failed.clone(), ..group(place) })
    });
    let mut groups: BTreeMap<Place, Group> = regions.collect();
    let carried = traffic.map(Traffic::by_address);
    let tunnels = status.tunnels.iter().map(|tunnel| {
        let reported = report.tunnels.get(&tunnel.connection);
        let account = reported.and_then(|t| t.account.as_ref()).map(ToString::to_string);
        let region = reported.and_then(|t| t.region.as_ref()).map(ToString::to_string);
        ((account, region), peer(tunnel, reported, carried.as_ref()))
    });
    let mut all: Vec<_> = tunnels.chain(refused(report)).collect();
    all.sort_by(|(_, a), (_, b)| {
        (a.is == Is::Refused, &a.vpc, &a.gateway).cmp(&(b.is == Is::Refused, &b.vpc, &b.gateway))
    });
    for (place, peer) in all {
        groups.entry(place.clone()).or_insert_with(|| group(place)).peers.push(peer);
    }
    let own = Own {
        mode: report.mode.to_string(),
        vpc: me.vpc.to_string(),
        instance: me.instance.to_string(),
        region: me.region.to_string(),
        address: me.public.map(|address| address.to_string()),
        cidrs: me.cidrs.iter().map(ToString::to_string).collect(),
    };
    let at = Timestamp(i64::try_from(status.now).unwrap_or_default());
    Some(Map { at, own, groups: groups.into_values().collect() })
}

/// What settings call another account, or else its number.
fn name(report: &Report, scope: &Scope) -> Option<String> {
    let named = report.regions.get(scope).and_then(|answer| answer.account.as_ref()).map(ToString::to_string);
    named.or_else(|| scope.account.as_ref().map(ToString::to_string))
}

fn peer(tunnel: &TunnelStatus, reported: Option<&TunnelReport>, carried: Option<&Carried>) -> Peer {
    let name: Option<ConnName> = tunnel.connection.parse().ok();
    let named = name.as_ref().and_then(ConnName::gateway);
    let loaded: Option<Ipv4Addr> = tunnel.remote.as_ref().and_then(|remote| remote.parse().ok());
    let remote = reported.map(|t| t.remote).or(loaded);
    let cidrs = match reported {
        Some(tunnel) => tunnel.remote_cidrs.iter().map(ToString::to_string).collect(),
        None => tunnel.children.iter().flat_map(|child| child.remote.iter().cloned()).collect(),
    };
    Peer {
        vpc: reported.and_then(|t| t.vpc.as_ref()).or(named.as_ref().map(|(vpc, _)| vpc)).map(ToString::to_string),
        gateway: name.as_ref().and_then(ConnName::far_gateway),
        cidrs,
        is: match tunnel.up {
            _ if tunnel.stands_by => Is::StandsBy,
            None => Is::Unknown,
            Some(true) => Is::Up,
            Some(false) => Is::Down,
        },
        segment: reported.and_then(|t| t.segment.as_ref()).map(ToString::to_string),
        reason: None,
        established: tunnel.established,
        bytes: carried.zip(remote).map(|(carried, remote)| {
            let (received, sent) = carried.get(&remote).copied().unwrap_or_default();
            (received.bytes, sent.bytes)
        }),
    }
}

fn refused(report: &Report) -> impl Iterator<Item = (Place, Peer)> {
    report.refused.iter().map(|refusal| {
        let peer = Peer {
            vpc: refusal.vpc.as_ref().map(ToString::to_string),
            gateway: refusal.instance.as_ref().map(ToString::to_string),
            cidrs: refusal.cidr.iter().map(ToString::to_string).collect(),
            is: Is::Refused,
            segment: None,
            reason: Some(refusal.reason.clone()),
            established: None,
            bytes: None,
        };
        ((name(report, &refusal.region), Some(refusal.region.region.to_string())), peer)
    })
}
