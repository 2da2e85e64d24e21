//! Own chains in iptables: what should be there as text, what is there read back, and the difference. Pure.
//!
//! [`render`] writes every rule exactly as `iptables-save` prints it, so that one parser, [`Rules::parse`], reads
//! the wanted and the live state into one type, and planning and verifying are the comparison of the two ([`plan`]).
//! The number of rules depends on the private network's and the own VPC's CIDRs and on segments, never on the number of peers.
//!
//! The own chains all begin with `CROSSWAN-`:
//!
//! | chain | reached from | does |
//! |---|---|---|
//! | filter CROSSWAN-GUARD | FORWARD | refuses what came from the other hub and would go back there, drops packets that claim a private source and came in the clear, then TO |
//! | filter CROSSWAN-TO | GUARD, OUTPUT | rejects packets that would go to the private network in the clear |
//! | filter CROSSWAN-IN | INPUT | takes a pair's beats from the other member and out of tunnels alone; lets ICMP and the ports that settings open reach this gateway from a tunnel, rejects the rest |
//! | filter CROSSWAN-SEGMENTS | GUARD, where there are segments | drops packets of no known source, finds the segment of the others |
//! | filter CROSSWAN-SEG-REALM | SEGMENTS | lets pass what one segment may send to another, refuses the rest |
//! | filter CROSSWAN-MSS | GUARD | clamps the MSS of tunnelled TCP, both directions |
//! | nat CROSSWAN-NAT | POSTROUTING | exempts the private network, then masquerades the own VPC |

mod plan;
mod rules;
mod segments;
#[cfg(test)]
mod tests;

pub use plan::{Change, mismatch, plan};
pub use rules::Rules;

use std::{collections::BTreeSet, net::Ipv4Addr};

use askama::Template;
use ipnet::Ipv4Net;

use crate::model::{Interface, Nat, Opening, Place};

/// A chain is crosswan's own if its name is this followed by letters, digits and `-`; a rule of another chain that jumps to
/// one is a hook. Everything else is foreign.
pub(crate) const OWN_PREFIX: &str = "CROSSWAN-";

/// The MSS that fits every tunnel, in bytes. 1400 B inside ESP-in-UDP is 1464 B outside, so at the IGW's MTU of 1500
/// an inner packet may have 1438 B, and its MSS 1398; 1360 leaves room for TCP options and one more NAT
/// (`docs/facts.md`, "MSS").
const TUNNEL_MSS: u16 = 1360;

#[derive(Template)]
#[template(path = "iptables.rules")]
struct RulesFile<'a> {
    private_net: BTreeSet<Ipv4Net>,
    own: BTreeSet<Ipv4Net>,
    /// The destinations that are never masqueraded: the private network, and own CIDRs outside it.
    excluded: BTreeSet<Ipv4Net>,
    masquerade: Option<&'a Interface>,
    /// The matches for packets that did not come through a tunnel, and for those that will not go through one. They are empty
    /// where there is no tunnel, as no packet does.
    clear_in: &'static str,
    clear_out: &'static str,
    /// The match for packets that the guard judges.
    guarded: &'static str,
    /// Whether there are tunnels, which the gateway's own packets to the private network then need as well. A nat-hub is a host
    /// of the hub VPC: its answers to the private network go through the VPC's router to the vpn-hub.
    tunnels: bool,
    input: &'a BTreeSet<Opening>,
    beats: Option<(u16, Ipv4Addr)>,
    across: Option<&'static str>,
    far: Option<u16>,
    exclude: BTreeSet<Ipv4Net>,
    sources: &'a BTreeSet<Ipv4Net>,
    mss: u16,
    segments: Option<segments::Chains>,
}

/// The whole rules file for `nat`, the same bytes for the same value. A private network must not be `/0`: iptables-save
/// prints no match for it, so the file would not read back.
///
/// Where there is masquerading, only packets without conntrack's state SNAT meet the guard. A flow has it from POSTROUTING on, which its
/// first packet reaches only through the guard; an ICMP error about the flow has it, too, from whatever private address a router sends
/// it. Private to private is never masqueraded, so no flow that belongs in a tunnel has that state, and what conntrack does not know is
/// guarded. So answers to masqueraded flows are all that goes to a network of [`Nat::sources`] in the clear (`docs/facts.md`, "What rules
/// cost").
///
/// REJECT answers icmp-net-unreachable: a new connection fails at once, and an established one survives a short outage,
/// because hosts treat it as a soft error (RFC 1122, 4.2.3.9). Hosts need not treat admin-prohibited as one.
pub fn render(nat: &Nat) -> String {
    // iptables-save prints networks without host bits.
    let trunc = |nets: &BTreeSet<Ipv4Net>| nets.iter().map(Ipv4Net::trunc).collect::<BTreeSet<_>>();
    let (private_net, own, sources) = (trunc(&nat.private_net), trunc(&nat.own), trunc(&nat.sources));
    let sources = sources.difference(&own).copied().collect();
    let outside = own.iter().filter(|o| !private_net.iter().any(|p| p.contains(*o)));
    let (clear_in, clear_out) = if nat.tunnels { (" ! -i cw+", " ! -o cw+") } else { ("", "") };
    let file = RulesFile {
        excluded: private_net.iter().chain(outside).copied().collect(),
        masquerade: nat.masquerade.as_ref(),
        clear_in,
        clear_out,
        guarded: if nat.masquerade.is_some() { " -m conntrack ! --ctstate SNAT" } else { "" },
        tunnels: nat.tunnels,
        input: &nat.input,
        beats: nat.beats,
        across: nat.across.then(|| Place::Across.interface()),
        far: nat.far,
        exclude: trunc(&nat.exclude),
        sources: &sources,
        mss: TUNNEL_MSS,
        segments: nat.segments.as_ref().map(segments::Chains::of),
        private_net,
        own,
    };
    // askama removes the template's last newline, which iptables-restore needs.
    format!("{file}\n")
}
