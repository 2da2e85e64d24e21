//! Whether packets of others still pass this gateway, by the kernel's count of those that it has forwarded.
//!
//! It counts what a tunnel brings and takes as well as what is masqueraded, and nothing of the gateway's own: not its beats, its calls of EC2
//! or an operator's SSH. It counts a packet that the FORWARD chain has let pass.

/// Nothing passes any more once so many milliseconds have brought nothing. TCP sends again what was lost before that.
pub const QUIET: u64 = 3_000;

/// What was counted so far.
#[derive(Debug)]
pub struct Quiet {
    since: u64,
    first: u64,
    last: u64,
}

impl Quiet {
    /// At `now` the kernel has forwarded so many packets.
    pub fn new(now: u64, packets: u64) -> Quiet {
        Quiet { since: now, first: packets, last: packets }
    }

    /// And now so many. Returns whether there has been none for long enough.
    pub fn look(&mut self, now: u64, packets: u64) -> bool {
        if packets != self.last {
            (self.since, self.last) = (now, packets);
        }
        now - self.since >= QUIET
    }

    /// How many it has forwarded since this began.
    pub fn passed(&self) -> u64 {
        self.last.wrapping_sub(self.first)
    }
}

/// The packets that the kernel has forwarded, by the text of `/proc/net/snmp` (RFC 4293, ipForwDatagrams).
pub fn forwarded(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Ip:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|name| name == "ForwDatagrams")?;
    numbers.split_whitespace().nth(at)?.parse().ok()
}
