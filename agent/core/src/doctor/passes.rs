//! Checks of what the last refresh left behind.

use std::{collections::BTreeMap, time::Duration};

use super::{
    examined::Examined,
    verdict::{Matter, Verdict, failure, few, unasked, warning},
};
use crate::{
    decide::Membership,
    error::STOPPED,
    model::{Mode, Timestamp, VpcId},
    pair::{PairStatus, PeerState},
    report::Report,
};

/// A refresh is made every hour, each gateway at its own minute; this is two and a half of them.
const STALE: u64 = 9_000;
const AGAIN: &str = "crosswan refresh";

/// The seconds from `then` to now; none if it is in the future.
fn ago(x: &Examined, then: Timestamp) -> u64 {
    u64::try_from(x.now.0.saturating_sub(then.0)).unwrap_or(0)
}

fn in_words(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// The other member of the pair. Without a pair there is no such check.
pub(super) fn pair(x: &Examined) -> Vec<(String, Verdict)> {
    let wanted = "each member hears the other one";
    let (member, seen) = match &x.pair {
        Ok(Some((member, seen))) => (member.to_string(), seen),
        Ok(None) => return Vec::new(),
        Err(why) => return vec![("pair-?".into(), Err(unasked(why, wanted, AGAIN)))],
    };
    let verdict = match seen {
        None => {
            let found = format!("crosswan pair does not run here, so nobody watches {member}");
            Err(failure(found, wanted, "systemctl enable --now crosswan-pair"))
        }
        Some(status @ PairStatus { state: PeerState::Alive, .. }) => Ok(format!("alive; {}", status.standing())),
        Some(PairStatus { state: PeerState::Unheard, judgement, address, .. }) => {
            let remedy = format!(
                "systemctl status crosswan-pair on {member}; let UDP and TCP of pair.port pass between {address} and here"
            );
            Err(warning(judgement, wanted, remedy))
        }
        Some(PairStatus { state: PeerState::Deaf, judgement, .. }) => {
            let remedy = format!(
                "the security groups and the network ACL of {member}: they let nothing in, or its own firewall does not"
            );
            Err(warning(judgement, wanted, remedy))
        }
        // For ten minutes at most.
        Some(PairStatus { state: PeerState::Leaving, judgement, .. }) => {
            Err(warning(judgement, wanted, format!("crosswan status on {member}, which says why")))
        }
        Some(PairStatus { state, judgement, .. }) => {
            let unit = if *state == PeerState::NoCharon { "strongswan" } else { "crosswan-pair" };
            Err(warning(judgement, wanted, format!("systemctl status {unit} on {member}")))
        }
    };
    vec![(format!("pair-{member}"), verdict)]
}

/// The last report of this boot.
fn report(x: &Examined) -> Result<&Report, Matter> {
    let report = x.report.as_ref().map_err(|why| unasked(why, "a report", AGAIN))?;
    report.as_ref().ok_or_else(|| failure("none has reported since boot", "one every hour", AGAIN))
}

pub(super) fn last_refresh(x: &Examined) -> Verdict {
    let wanted = "a refresh every hour that ends with exit code 0";
    if let Some(failed) = x.failed.as_ref().map_err(|why| unasked(why, wanted, AGAIN))? {
        let code = failed.exit_code;
        let found = format!("failed {} ago with exit code {code}: {}", in_words(ago(x, failed.at)), failed.error);
        return Err(failure(found, wanted, AGAIN));
    }
    let report = report(x)?;
    let age = ago(x, report.at);
    if age > STALE {
        let remedy = "crosswan refresh; systemctl status crosswan-refresh.timer";
        return Err(failure(format!("the last one was {} ago", in_words(age)), wanted, remedy));
    }
    let code = report.exit_code();
    let first =
        |lines: &[&[String]]| lines.iter().copied().flatten().next().cloned().unwrap_or_else(|| report.verdict());
    let found = |why: String| format!("{} ago, exit code {code}: {why}", in_words(age));
    match code {
        0 => Ok(format!("{} ago, exit code 0", in_words(age))),
        // What stops packets now is told by checks of its own.
        STOPPED => Ok(format!("{} ago, everything as planned", in_words(age))),
        3 => Err(warning(found(first(&[&report.unasked, &report.awaited])), wanted, AGAIN)),
        6 => Err(warning(found(report.verdict()), wanted, "crosswan status")),
        2 => Err(failure(found(report.waiting_for.clone().unwrap_or_default()), wanted, AGAIN)),
        _ => {
            let failed = report.failed.values().map(|failure| &failure.why).next();
            Err(failure(found(failed.cloned().unwrap_or_else(|| first(&[&report.problems]))), wanted, AGAIN))
        }
    }
}

pub(super) fn version(x: &Examined) -> Verdict {
    let made_by = &x.last_report().ok_or(Matter::Blocked("last-refresh"))?.version;
    let this = env!("CARGO_PKG_VERSION");
    if made_by == this {
        return Ok(this.into());
    }
    Err(warning(format!("the last refresh was made by {made_by}"), format!("by {this}, as this program is"), AGAIN))
}

pub(super) fn overlap(x: &Examined) -> Verdict {
    let report = x.last_report().ok_or(Matter::Blocked("last-refresh"))?;
    let wanted = "every network of every peer inside the private network, and in one VPC only";
    let mut refused = report.refused.iter().filter(|refusal| refusal.cidr.is_some());
    match refused.next() {
        None => Ok("no network of a peer is refused".into()),
        Some(first) => {
            let more = match refused.count() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            let remedy = "crosswan status; give one of the VPCs another CIDR, or leave it out";
            Err(warning(format!("{first}{more}"), wanted, remedy))
        }
    }
}

pub(super) fn segments(x: &Examined) -> Verdict {
    if x.mode() != Some(Mode::VpnHub) {
        return Err(Matter::Absent("the hub keeps segments apart".into()));
    }
    let report = x.last_report().ok_or(Matter::Blocked("last-refresh"))?;
    let Some(segments) = &report.segments else {
        return Err(Matter::Absent("settings have none: every VPC reaches every other".into()));
    };
    let peers = report.tunnels.values().filter_map(|tunnel| Some((tunnel.vpc.as_ref()?, tunnel.segment.as_ref()?)));
    let all: BTreeMap<&VpcId, &Membership> = peers.chain([(&report.me.vpc, &segments.own)]).collect();
    let isolated = all.iter().filter_map(|(vpc, member)| Some(format!("{vpc} {}", member.why.as_ref()?)));
    match &isolated.collect::<Vec<_>>()[..] {
        [] => Ok(format!("each of {} VPCs is in a segment that settings know", all.len())),
        isolated => Err(warning(
            few(isolated),
            "every VPC in a segment that settings know",
            "correct the tag of the VPC, or segments in the settings, and run crosswan refresh",
        )),
    }
}
