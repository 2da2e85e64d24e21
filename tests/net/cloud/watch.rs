//! Pings between hosts that must not be disturbed, all the while something else changes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crosswan_lab::PingStream;

use crate::region::{Region, UP};

/// Running pings; see [`Watch::undisturbed`].
pub struct Watch(Vec<(String, PingStream)>, Instant);

/// Shorter than this, a watch would show nothing.
const LEAST: Duration = Duration::from_secs(1);

impl Watch {
    /// Twenty pings a second between each of these pairs of hosts.
    pub fn over(region: &Region, pairs: &[(&str, &str)]) -> Result<Watch> {
        Watch::every(Duration::from_millis(50), region, pairs)
    }

    /// A ping in each of these intervals between each of these pairs of hosts.
    pub fn every(interval: Duration, region: &Region, pairs: &[(&str, &str)]) -> Result<Watch> {
        let start = |(from, to): &(&str, &str)| {
            let host = region.lab.host(from)?;
            let stream = PingStream::start(&host.ns, host.address, region.address(to)?, interval, u32::MAX)?;
            Ok((format!("{from} to {to}"), stream))
        };
        Ok(Watch(pairs.iter().map(start).collect::<Result<_>>()?, Instant::now()))
    }

    /// Stops; fails if a single packet was lost, or hardly any was sent.
    pub fn undisturbed(self, during: &str) -> Result<()> {
        std::thread::sleep(LEAST.saturating_sub(self.1.elapsed()));
        let until = Instant::now() + UP;
        while self.0.iter().any(|(_, stream)| stream.answers() <= 5) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut sent = 0;
        let mut disturbed = Vec::new();
        for (pair, stream) in self.0 {
            let report = stream.stop()?;
            sent += report.sent;
            if report.lost > 0 || report.sent <= 5 {
                disturbed.push(format!("{pair}, while {during}: {report:?}"));
            }
        }
        ensure!(disturbed.is_empty(), "{}", disturbed.join("\n"));
        eprintln!("{during}: {sent} packets, none lost");
        Ok(())
    }

    /// Stops; the longest gap of each pair, for changes that must interrupt.
    pub fn gaps(self) -> Result<Vec<(String, Duration, u32)>> {
        let gap = |(pair, stream): (String, PingStream)| {
            let report = stream.stop()?;
            Ok((pair, report.longest_gap, report.lost))
        };
        self.0.into_iter().map(gap).collect()
    }
}
