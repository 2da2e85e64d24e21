//! Checks of this host: who looks, the settings, the kernel, and the rules and routes of crosswan and of others.

use super::{
    examined::Examined,
    verdict::{Matter, Verdict, failure, few, of_problem, unasked, warning},
};
use crate::{forwarding::Knob, iptables, text::plural};

/// What brings own rules and routes back. `crosswan watch` does it, too, so that they are missing means that it does not run.
const BACK: &str = "crosswan refresh; systemctl status crosswan-watch";

pub(super) fn root(x: &Examined) -> Verdict {
    let command = "sudo crosswan doctor";
    let no = || unasked("another user, who may ask neither charon nor iptables", "root", command);
    x.root.then(|| "root".into()).ok_or_else(no)
}

pub(super) fn settings(x: &Examined) -> Verdict {
    let wanted = "settings that can be used as they are";
    let edit = "$EDITOR /etc/crosswan/crosswan.toml";
    let settings = x.settings.as_ref().map_err(|why| match x.root || !why.contains("ermission denied") {
        true => failure(why, wanted, edit),
        false => Matter::Blocked("root"),
    })?;
    match settings.warnings.first() {
        None => Ok(settings.mode.to_string()),
        Some(line) => Err(warning(line, wanted, edit)),
    }
}

pub(super) fn uplink(x: &Examined) -> Verdict {
    let uplink = x.uplink.as_ref();
    let uplink = uplink.map_err(|why| failure(why, "a default route", "systemctl restart systemd-networkd"))?;
    Ok(format!("the default route leads through {uplink}"))
}

fn knob(x: &Examined, knob: Knob, well: &str) -> Verdict {
    let remedy = "sysctl -a --pattern 'forward|rp_filter|redirects'";
    let all = x.sysctls.as_ref().map_err(|why| unasked(why, well, remedy))?;
    let problem = all.iter().find(|(of, _)| *of == knob);
    problem.map_or_else(|| Ok(well.into()), |(_, problem)| Err(of_problem(problem, well)))
}

pub(super) fn ip_forward(x: &Examined) -> Verdict {
    knob(x, Knob::IpForward, "on")
}

pub(super) fn rp_filter(x: &Examined) -> Verdict {
    knob(x, Knob::RpFilter, "loose (2) or off (0) on every interface")
}

pub(super) fn send_redirects(x: &Examined) -> Verdict {
    knob(x, Knob::SendRedirects, "off")
}

pub(super) fn ipv6_forwarding(x: &Examined) -> Verdict {
    knob(x, Knob::Ipv6Forwarding, "off")
}

pub(super) fn conntrack_room(x: &Examined) -> Verdict {
    let wanted = "room for new connections";
    let table = x.conntrack.ok_or_else(|| unasked("the kernel does not say", wanted, "modprobe nf_conntrack"))?;
    match (table.is_nearly_full(), table.dropped) {
        (true, _) => Err(failure(table.counts(), wanted, table.remedy())),
        (false, 1..) => Err(warning(table.counts(), "none dropped since boot", table.remedy())),
        (false, 0) => Ok(table.counts()),
    }
}

pub(super) fn ena_allowance(x: &Examined) -> Verdict {
    let text = x.driver.as_ref().ok_or_else(|| Matter::Absent("ethtool -S does not say".into()))?;
    let counts = text.lines().filter_map(|line| line.split_once(':'));
    let counts = counts.map(|(name, count)| (name.trim(), count.trim().parse::<u64>()));
    let counts: Vec<(&str, u64)> = counts.filter_map(|(name, count)| Some((name, count.ok()?))).collect();
    let mut allowances = counts.iter().filter(|(name, _)| name.ends_with("_allowance_exceeded")).peekable();
    if allowances.peek().is_none() {
        return Err(Matter::Absent("the uplink is no ENA interface".into()));
    }
    let exceeded: Vec<String> =
        allowances.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    if !exceeded.is_empty() {
        let remedy = "a larger instance type: docs/instances.md";
        return Err(warning(few(&exceeded), "no packet dropped by EC2 since boot", remedy));
    }
    let left = counts.iter().find(|(name, _)| *name == "conntrack_allowance_available");
    let left = left.map(|(_, count)| format!(", {count} more connections tracked by EC2")).unwrap_or_default();
    Ok(format!("nothing exceeded since boot{left}"))
}

pub(super) fn rules_in_force(x: &Examined) -> Verdict {
    let wanted = "the rules of the last refresh";
    let no_answer = |why: &String| unasked(why, wanted, "iptables-save");
    let (want, now) = (x.wanted_rules.as_ref().map_err(no_answer)?, x.rules.as_ref().map_err(no_answer)?);
    let want = want.as_ref().ok_or(Matter::Blocked("last-refresh"))?;
    let differs = iptables::mismatch(want, now);
    if !differs.is_empty() {
        return Err(failure(few(&differs), wanted, BACK));
    }
    if let Some(table) = now.closed().iter().next() {
        let found = format!("table ip {table} of nft holds rules that iptables cannot read");
        let remedy = format!("move them to a table of another name, then: nft delete table ip {table}");
        return Err(unasked(found, wanted, remedy));
    }
    Ok(now.summary().join(", "))
}

pub(super) fn foreign_rules(x: &Examined) -> Verdict {
    let wanted = "no other program's rule stops this gateway's traffic";
    let found = x.foreign.as_ref().ok_or(Matter::Blocked("settings"))?;
    let found = found.as_ref().map_err(|why| unasked(why, wanted, "iptables-save; nft list ruleset"))?;
    match (&found.stopped[..], found.notes.len()) {
        ([problem, ..], _) => Err(of_problem(problem, wanted)),
        ([], 0) => Ok("none stops this gateway's traffic".into()),
        ([], notes) => {
            Ok(format!("none certainly stops this gateway's traffic; {notes} that may: crosswan refresh says which"))
        }
    }
}

pub(super) fn interfaces_and_routes(x: &Examined) -> Verdict {
    let wanted = "the interfaces, policy rules and routes of the last refresh";
    let no_answer = |why: &String| unasked(why, wanted, "ip rule; ip route show table 7105");
    let (want, now) = (x.wanted_routing.as_ref().map_err(no_answer)?, x.routing.as_ref().map_err(no_answer)?);
    let tunnels = x.mode().ok_or(Matter::Blocked("settings"))?.has_ipsec();
    let want = match want {
        None if tunnels => return Err(Matter::Blocked("last-refresh")),
        None => return Err(Matter::Absent("a nat-hub has no tunnels".into())),
        Some(want) => want,
    };
    if let (true, Some(foreign)) = (tunnels, now.interfaces.first()) {
        let name = foreign.split(',').next().unwrap_or(foreign);
        return Err(failure(foreign, "no cw interface of another program", format!("ip link delete {name}")));
    }
    let left = want.changes_from(&now.own);
    if left.is_empty() {
        Ok(now.own.summary())
    } else {
        Err(failure(format!("still to do: {}", few(&left)), wanted, BACK))
    }
}

pub(super) fn foreign_routes(x: &Examined) -> Verdict {
    let wanted = "no other program's policy rule or route before crosswan's";
    let remedy = "ip rule; ip route show table 7105";
    let now = x.routing.as_ref().map_err(|why| unasked(why, wanted, remedy))?;
    match now.beside.first() {
        None => Ok("none comes before crosswan's".into()),
        Some(line) => Err(warning(format!("{line} may lead packets past the tunnels"), wanted, remedy)),
    }
}

/// AWS refuses a request whose time is five minutes off; a signature's time is checked before anything else.
const CLOCK: u64 = 120;

pub(super) fn clock(x: &Examined) -> Verdict {
    x.me.as_ref().map_err(|_| Matter::Blocked("imds"))?;
    let then = x.imds_time.ok_or_else(|| Matter::Absent("IMDS does not say what time it is".into()))?;
    let off = x.now.0.abs_diff(then.0);
    if off <= CLOCK {
        return Ok(format!("within {} of IMDS", plural(usize::try_from(off.max(1)).unwrap_or(usize::MAX), "second")));
    }
    let side = if x.now.0 > then.0 { "ahead of" } else { "behind" };
    let wanted = format!("within {CLOCK} seconds of IMDS: AWS refuses requests that are five minutes off");
    Err(failure(format!("{off} seconds {side} IMDS"), wanted, "chronyc makestep"))
}

/// The clamped packets of a tunnel fit into this together with ESP's and UDP's headers.
const LEAST_MTU: u32 = 1500;

pub(super) fn mtu(x: &Examined) -> Verdict {
    let uplink = x.uplink.as_ref().map_err(|_| Matter::Blocked("uplink"))?;
    let wanted = format!("at least {LEAST_MTU}, which packets of tunnels need");
    let now = x.routing.as_ref().map_err(|why| unasked(why, &wanted, "ip link"))?;
    match now.mtus.get(uplink.as_str()) {
        None => Err(unasked(format!("the kernel does not say for {uplink}"), wanted, "ip link")),
        Some(mtu) if *mtu < LEAST_MTU => {
            Err(failure(format!("{mtu} on {uplink}"), wanted, format!("ip link set {uplink} mtu {LEAST_MTU}")))
        }
        Some(mtu) => Ok(format!("{mtu} on {uplink}")),
    }
}
