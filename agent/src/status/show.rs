//! The text of `crosswan status` for a person.

use std::{fmt, time::Duration};

use super::Status;
use crosswan_core::{
    report::{Report, TunnelReport},
    system::Followed,
    text::bytes,
};

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(report) = &self.last_refresh {
            writeln!(f, "{}", report.headline())?;
        }
        for t in &self.tunnels {
            let state = match (t.loaded, t.up) {
                (Some(true), Some(true)) => "UP",
                (Some(true), _) => "DOWN",
                (Some(false), _) => "NOT LOADED",
                (None, _) => "unknown, charon could not be asked",
            };
            let since = t.established.map(|s| format!(" for {}", age(s))).unwrap_or_default();
            let reported = self.last_refresh.as_ref().and_then(|r| r.tunnels.get(&t.connection));
            let by = reported.map(|t| format!(", {}", t.authentication())).unwrap_or_default();
            let segment =
                reported.and_then(|t| t.segment.as_ref()).map(|segment| format!(", {segment}")).unwrap_or_default();
            let standby = reported.map_or("", TunnelReport::standing);
            let remote = t.remote.clone().or(reported.map(|t| t.remote.to_string()));
            writeln!(
                f,
                "  tunnel    {} to {}: {state}{since}{by}{segment}{standby}",
                t.connection,
                remote.as_deref().unwrap_or("?")
            )?;
            for c in &t.children {
                let state = if c.installed { "up  " } else { "DOWN" };
                let (local, remote) = (c.local.join(", "), c.remote.join(", "));
                writeln!(
                    f,
                    "            {state} {local} <=> {remote}, {} in, {} out",
                    bytes(c.bytes_in),
                    bytes(c.bytes_out)
                )?;
            }
        }
        match self.nat.in_force {
            Some(true) => writeln!(f, "  rules     in force: {}", self.nat.rules.join(", "))?,
            Some(false) => writeln!(f, "  RULES     not as they should be: {}", self.nat.mismatches.join("; "))?,
            None => writeln!(f, "  rules     unknown: {}", self.nat.mismatches.join("; "))?,
        }
        self.conntrack.iter().try_for_each(|table| writeln!(f, "  {table}"))?;
        if let Some(put_back) = &self.put_back {
            let ago = self.now.saturating_sub(u64::try_from(put_back.at.0).unwrap_or_default());
            writeln!(f, "  put back  {} ago: {}", age(ago), put_back.what)?;
        }
        if let Some(pair) = &self.pair {
            writeln!(f, "  {pair}")?;
        }
        if !self.takeovers.is_empty() {
            let at = self.takeovers.last.as_ref().and_then(|taken| u64::try_from(taken.at.0).ok());
            let ago = at.map(|at| format!("{} ago, ", age(self.now.saturating_sub(at)))).unwrap_or_default();
            writeln!(f, "  takeover  {ago}{}", self.takeovers)?;
        }
        for (party, word) in self.followed.all() {
            let ago = self.now.saturating_sub(u64::try_from(word.at.0).unwrap_or_default());
            writeln!(f, "  pair      {party} follows {word}, {} ago{}", age(ago), word.overruled_in_words())?;
        }
        for line in &self.stopped {
            writeln!(f, "  PROBLEM   {line}")?;
        }
        for line in &self.unasked {
            writeln!(f, "  UNASKED   {line}")?;
        }
        if let Some(failure) = &self.last_failure {
            writeln!(f, "THE LAST REFRESH FAILED (exit code {}): {}", failure.exit_code, failure.error)?;
        }
        let Some(report) = &self.last_refresh else { return Ok(()) };
        writeln!(f, "last report, {} ago: {}", age(self.age.unwrap_or_default()), report.verdict())?;
        // What stops packets now, and who is followed now, is printed above.
        let rest = Report { stopped: Vec::new(), followed: Followed::default(), ..report.clone() };
        for line in rest.findings().iter().chain(&rest.actions()) {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

fn age(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
