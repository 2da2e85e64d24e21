//! `crosswan status --watch` on a terminal: what is wrong first, then what is busiest, in as many lines as there are. Pure.

use std::collections::BTreeMap;

use super::{Status, TunnelStatus};
use crosswan_core::text::{bytes, span};

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Characters in a line.
    pub width: usize,
    /// Lines.
    pub height: usize,
}

/// The whole screen. `before` is the look before this one, and how many seconds ago it was.
pub fn screen(status: &Status, before: Option<(&Status, f64)>, size: Size) -> String {
    let mut lines = head(status);
    let tunnels = before.iter().flat_map(|(status, _)| &status.tunnels);
    let by_name: BTreeMap<&str, &TunnelStatus> = tunnels.map(|tunnel| (tunnel.connection.as_str(), tunnel)).collect();
    let earlier = |tunnel: &TunnelStatus| Some((*by_name.get(tunnel.connection.as_str())?, before?.1));
    // At least one line says that there are tunnels.
    let room = size.height.saturating_sub(1).max(1);
    if !status.tunnels.is_empty() {
        lines.truncate(room.saturating_sub(3).max(1));
        let mut rows: Vec<Row> = status.tunnels.iter().map(|tunnel| Row::of(tunnel, earlier(tunnel))).collect();
        rows.sort_by(|a, b| (a.trouble, b.rate(), &a.name).cmp(&(b.trouble, a.rate(), &b.name)));
        lines.push(Row::HEADING.into());
        let left = room.saturating_sub(lines.len());
        let shown = if rows.len() <= left { rows.len() } else { left.saturating_sub(1) };
        lines.extend(rows[..shown].iter().map(Row::line));
        let more = &rows[shown..];
        if !more.is_empty() {
            let down = more.iter().filter(|row| row.trouble == Trouble::Down).count();
            lines.push(format!("and {} more, of which {down} are down", more.len()));
        }
    }
    lines.truncate(room);
    lines.iter().map(|line| cut(line, size.width)).collect::<Vec<_>>().join("\n")
}

/// What there is to say besides tunnels, the worst first.
fn head(status: &Status) -> Vec<String> {
    let count = |trouble| status.tunnels.iter().filter(|tunnel| Trouble::of(tunnel) == trouble).count();
    let counts = [
        (count(Trouble::Down), "DOWN"),
        (count(Trouble::Unknown), "unknown"),
        (count(Trouble::None), "up"),
        (count(Trouble::StandsBy), "standing by"),
    ];
    let tunnels: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    let rules = match status.nat.in_force {
        Some(true) => "rules in force",
        Some(false) => "RULES NOT IN FORCE",
        None => "rules unknown",
    };
    let refused = status.last_refresh.as_ref().map_or(0, |report| report.refused.len());
    let refresh = status.age.map_or_else(|| "no refresh since boot".into(), |age| format!("refresh {} ago", span(age)));
    let mut summary = vec![format!("tunnels: {}", if tunnels.is_empty() { "none".into() } else { tunnels.join(", ") })];
    summary.extend([rules.into(), refresh]);
    summary.extend((refused > 0).then(|| format!("{refused} refused")));
    let mut lines = vec![summary.join(" | ")];
    if status.nat.in_force == Some(false) {
        lines.extend(status.nat.mismatches.iter().map(|line| format!("RULES    {line}")));
    }
    lines.extend(status.stopped.iter().map(|line| format!("PROBLEM  {line}")));
    lines.extend(status.last_failure.iter().map(|failure| format!("FAILED   the last refresh: {}", failure.error)));
    lines.extend(status.unasked.iter().map(|line| format!("UNASKED  {line}")));
    lines
}

/// How a tunnel is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Down,
    Unknown,
    None,
    StandsBy,
}

impl Trouble {
    fn of(tunnel: &TunnelStatus) -> Trouble {
        match tunnel.up {
            _ if tunnel.stands_by => Trouble::StandsBy,
            None => Trouble::Unknown,
            Some(false) => Trouble::Down,
            Some(true) => Trouble::None,
        }
    }
}

struct Row {
    trouble: Trouble,
    name: String,
    since: String,
    /// Bytes per second, received and sent; `None` at the first look, and when counters began anew.
    rates: Option<(u64, u64)>,
    networks: String,
}

impl Row {
    const HEADING: &str = "STATE       SINCE        IN/s       OUT/s  TUNNEL";

    fn of(tunnel: &TunnelStatus, before: Option<(&TunnelStatus, f64)>) -> Row {
        let of = |tunnel: &TunnelStatus| -> (u64, u64) {
            tunnel.children.iter().fold((0, 0), |(from, to), child| (from + child.bytes_in, to + child.bytes_out))
        };
        let rates = before.and_then(|(earlier, seconds)| {
            let ((from, to), (from_before, to_before)) = (of(tunnel), of(earlier));
            let rate = |now: u64, then: u64| Some((now.checked_sub(then)? as f64 / seconds.max(0.1)) as u64);
            Some((rate(from, from_before)?, rate(to, to_before)?))
        });
        let networks: Vec<&str> = tunnel.children.iter().flat_map(|child| &child.remote).map(String::as_str).collect();
        Row {
            trouble: Trouble::of(tunnel),
            name: tunnel.connection.strip_prefix("crosswan-").unwrap_or(&tunnel.connection).to_owned(),
            since: tunnel.established.map(span).unwrap_or_default(),
            rates,
            networks: networks.join(", "),
        }
    }

    fn rate(&self) -> u64 {
        self.rates.map_or(0, |(from, to)| from.saturating_add(to))
    }

    fn line(&self) -> String {
        let state = match self.trouble {
            Trouble::Down => "DOWN",
            Trouble::Unknown => "unknown",
            Trouble::None => "up",
            Trouble::StandsBy => "stands by",
        };
        let [from, to] = self.rates.map_or(["-".into(), "-".into()], |(from, to)| [bytes(from), bytes(to)]);
        format!("{state:<10}{:>7}{from:>12}{to:>12}  {} {}", self.since, self.name, self.networks)
    }
}

/// The beginning of a line, without anything that would move the cursor.
fn cut(line: &str, width: usize) -> String {
    let clean = line.chars().map(|c| if c.is_control() { '?' } else { c });
    if line.chars().count() <= width {
        return clean.collect();
    }
    clean.take(width.saturating_sub(1)).chain((width > 0).then_some('…')).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::status::{ChildStatus, NatStatus};
    use crosswan_core::{pair::Takeovers, system::Followed};

    fn tunnel(n: usize, up: Option<bool>, bytes: u64) -> TunnelStatus {
        let child = ChildStatus {
            name: "child".into(),
            local: vec!["10.0.0.0/16".into()],
            remote: vec![format!("10.{n}.0.0/16")],
            installed: up == Some(true),
            bytes_in: bytes,
            bytes_out: bytes / 2,
        };
        TunnelStatus {
            connection: format!("crosswan-vpc-{n:017x}-i-{n:017x}"),
            loaded: Some(true),
            up,
            stands_by: false,
            remote: None,
            established: up.map(|_| 7200),
            children: vec![child],
        }
    }

    fn status(tunnels: Vec<TunnelStatus>, problems: usize) -> Status {
        Status {
            last_refresh: None,
            age: Some(60),
            now: 0,
            last_failure: None,
            tunnels,
            nat: NatStatus { in_force: Some(true), rules: vec![], mismatches: vec![] },
            stopped: vec!["the policy drop\u{1b}[2J".into(); problems],
            pair: None,
            followed: Followed::default(),
            takeovers: Takeovers::default(),
            put_back: None,
            conntrack: None,
            charon: None,
            unasked: vec![],
        }
    }

    const SIZE: Size = Size { width: 100, height: 10 };

    #[test]
    fn what_is_down_comes_first_then_what_is_busiest_and_the_rest_is_counted() {
        let up = |n, bytes| tunnel(n, Some(true), bytes);
        let before = status(vec![up(1, 0), up(2, 500), up(3, 9000), tunnel(4, Some(true), 0)], 0);
        let now = status(vec![up(1, 2000), up(2, 100_500), up(3, 100), tunnel(4, Some(false), 0)], 1);
        let text = screen(&now, Some((&before, 2.0)), SIZE);
        let expected = "\
tunnels: 1 DOWN, 3 up | rules in force | refresh 1m ago
PROBLEM  the policy drop?[2J
STATE       SINCE        IN/s       OUT/s  TUNNEL
DOWN           2h         0 B         0 B  vpc-00000000000000004-i-00000000000000004 10.4.0.0/16
up             2h     50.0 kB     25.0 kB  vpc-00000000000000002-i-00000000000000002 10.2.0.0/16
up             2h      1.0 kB       500 B  vpc-00000000000000001-i-00000000000000001 10.1.0.0/16
up             2h           -           -  vpc-00000000000000003-i-00000000000000003 10.3.0.0/16";
        assert_eq!(text, expected);
        let small = screen(&now, Some((&before, 2.0)), Size { width: 30, height: 6 });
        assert!(small.contains("\nDOWN  ") && small.ends_with("\nand 3 more, of which 0 are do…"), "{small}");
    }

    proptest! {
        #[test]
        fn a_screen_never_has_more_lines_or_longer_ones_than_the_terminal(
            ups in prop::collection::vec(prop::option::of(any::<bool>()), 0..400),
            problems in 0..30usize,
            (width, height) in (0..250usize, 0..80usize),
        ) {
            let down = ups.contains(&Some(false));
            let tunnels = ups.into_iter().enumerate().map(|(n, up)| tunnel(n, up, 1)).collect();
            let text = screen(&status(tunnels, problems), None, Size { width, height });
            prop_assert!(text.lines().count() <= height.saturating_sub(1).max(1), "{}", text);
            prop_assert!(text.lines().all(|line| line.chars().count() <= width), "{}", text);
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
            if down && height > 4 && width > 9 {
                prop_assert!(text.contains("\nDOWN") || text.contains("\nand "), "{}", text);
            }
        }
    }
}
