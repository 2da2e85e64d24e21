//! The kernel's table of tracked connections at one moment.

use std::fmt;

use serde::Serialize;

/// The share of the table, in percent, from which it counts as nearly full.
const NEARLY_FULL: u64 = 80;

/// The kernel's table of tracked connections, which masquerading needs: a new flow for which it has no room is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Conntrack {
    /// Flows in the table.
    pub entries: u64,
    /// Flows for which it has room.
    pub max: u64,
    /// Packets dropped and flows removed early since boot because the table was full.
    pub dropped: u64,
    /// Flows since boot that lost a race for the same addresses and ports; their first packet was dropped.
    pub raced: u64,
}

impl Conntrack {
    /// Whether new flows will soon find no room.
    pub fn is_nearly_full(&self) -> bool {
        u128::from(self.entries) * 100 >= u128::from(self.max) * u128::from(NEARLY_FULL)
    }

    /// The command that makes room for twice as many flows.
    pub fn remedy(&self) -> String {
        format!("sysctl -w net.netfilter.nf_conntrack_max={}", self.max.saturating_mul(2))
    }

    /// The counts in words.
    pub fn counts(&self) -> String {
        let Conntrack { entries, max, dropped, raced } = self;
        format!("{entries} of {max} entries, {dropped} dropped because it was full, {raced} lost a race for a port")
    }
}

impl fmt::Display for Conntrack {
    /// A line of `crosswan status`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, remedy) = match self.is_nearly_full() || self.dropped > 0 {
            true => ("CONNTRACK", format!("; {}", self.remedy())),
            false => ("conntrack", String::new()),
        };
        write!(f, "{name} {}{remedy}", self.counts())
    }
}
