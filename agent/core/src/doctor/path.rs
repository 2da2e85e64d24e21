//! Whether IKE comes through to each peer and back: where an IKE_SA is up it does, and elsewhere it has been tried.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{
    examined::Examined,
    probe::{IKE_PORTS, Probe, to_try},
    tunnels::with_tunnels,
    verdict::{Matter, Verdict, failure, few},
};
use crate::text::plural;

pub(super) fn peer_path(x: &Examined) -> Verdict {
    with_tunnels(x)?;
    let report = x.last_report().ok_or(Matter::Absent("no refresh has found a peer".into()))?;
    let charon = x.charon.as_ref().map_err(|_| Matter::Blocked("charon"))?;
    let closed: Vec<Ipv4Addr> = x.paths.keys().copied().filter(|peer| x.is_closed(*peer)).collect();
    let used: BTreeSet<Ipv4Addr> =
        report.tunnels.values().filter(|tunnel| !tunnel.stands_by).map(|tunnel| tunnel.remote).collect();
    let wanted = "an answer to IKE from UDP 500 and 4500";
    if let Some(first) = closed.first() {
        let remedy = match x.paths.get(first) {
            Some(ports) if ports.contains(&Probe::Refused) => "systemctl start strongswan, on the other gateway",
            _ => {
                "crosswan doctor on the other gateway; if all is well there, open UDP 500 and 4500 in the security groups and \
                 network ACLs of both"
            }
        };
        return Err(failure(
            format!("{}: {}", few(&closed), x.paths.get(first).map(words).unwrap_or_default()),
            wanted,
            remedy,
        ));
    }
    match (used.len(), to_try(report, charon).len()) {
        (0, _) => Err(Matter::Absent("no peer is known".into())),
        (all, 0) => Ok(format!("an IKE_SA with {}", plural(all, "peer"))),
        (all, tried) => Ok(format!(
            "an IKE_SA with {} of {}; tried now, and answered: {}",
            all.saturating_sub(tried),
            plural(all, "peer"),
            x.paths.len()
        )),
    }
}

/// What came of it, by port.
fn words(ports: &[Probe; 2]) -> String {
    let word = |(port, probe): (u16, &Probe)| match probe {
        Probe::Answered => format!("UDP {port} answers"),
        Probe::Refused => format!("nothing listens on UDP {port}"),
        Probe::Silent => format!("no answer from UDP {port}"),
        Probe::Unsent(why) => format!("nothing can be sent to UDP {port}: {why}"),
    };
    let [ike, nat_t] = IKE_PORTS;
    format!("{}, {}", word((ike, &ports[0])), word((nat_t, &ports[1])))
}
