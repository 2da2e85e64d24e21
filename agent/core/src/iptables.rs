//! Own chains in iptables: what should be there as text, what is there read back, and the difference. Pure.
//!
//! [`render`] writes every rule exactly as `iptables-save` prints it, so that one parser, [`Rules::parse`], reads
//! the wanted and the live state into one type, and planning and verifying are the comparison of the two ([`plan`]).
//! The number of rules depends on the private network's and the own VPC's CIDRs, never on the number of peers.
//!
//! Chains, all with the prefix that makes a chain ours ([`OWN_PREFIX`]):
//!
//! | chain | reached from | does |
//! |---|---|---|
//! | filter CROSSWAN-GUARD | FORWARD | drops what claims a private source and came in the clear, then TO |
//! | filter CROSSWAN-TO | GUARD, OUTPUT | rejects what would go to the private network in the clear |
//! | filter CROSSWAN-IN | INPUT | lets ICMP and what settings open reach this gateway out of a tunnel, rejects the rest |
//! | mangle CROSSWAN-MSS | FORWARD | clamps the MSS of tunnelled TCP, both directions |
//! | nat CROSSWAN-NAT | POSTROUTING | exempts the private network, then masquerades the own VPC |

mod plan;
mod rules;
#[cfg(test)]
mod tests;

pub use plan::{Change, mismatch, plan};
pub use rules::Rules;

use std::collections::BTreeSet;

use askama::Template;
use ipnet::Ipv4Net;

use crate::model::{Interface, Nat, Opening, TunnelMatch};

/// A chain whose name starts like this and goes on in letters, digits and `-` is ours, whole; a rule that jumps to one is our hook; all else is foreign.
pub const OWN_PREFIX: &str = "CROSSWAN-";

/// The MSS that fits every tunnel, in bytes. 1400 B inside ESP-in-UDP is 1464 B outside, so at the IGW's MTU of 1500
/// an inner packet may have 1438 B, and its MSS 1398; 1360 leaves room for TCP options and one more NAT
/// (`docs/facts.md`, "MSS").
pub const TUNNEL_MSS: u16 = 1360;

#[derive(Template)]
#[template(path = "iptables.rules")]
struct RulesFile<'a> {
    private_net: BTreeSet<Ipv4Net>,
    own: BTreeSet<Ipv4Net>,
    /// Never masqueraded as destination: the private network, and own CIDRs outside it.
    excluded: BTreeSet<Ipv4Net>,
    masquerade: Option<&'a Interface>,
    tunnel: &'a TunnelMatch,
    /// The matches for "did not come", "will not go" through a tunnel. Without one, nothing does: no match needed.
    clear_in: String,
    clear_out: String,
    /// The match for "did not come out of a tunnel" alone, as the chain IN begins.
    clear: String,
    /// The gateway's own packets, too, need the tunnel. Not on a nat-hub, which is itself a host of the hub VPC:
    /// its answers to the private network go through the VPC's router to the vpn-hub.
    has_tunnel: bool,
    input: &'a BTreeSet<Opening>,
    exclude: BTreeSet<Ipv4Net>,
    sources: &'a BTreeSet<Ipv4Net>,
    mss: u16,
}

/// The whole rules file for `nat`, the same bytes for the same value. `/0` is not a private network: iptables-save
/// prints no such match, so the file would not read back.
///
/// To a network of [`Nat::sources`] only the answers to what was masqueraded for it may go in the clear: those of state SNAT.
/// Private to private is never masqueraded, so no flow that belongs into a tunnel has that state.
///
/// REJECT says icmp-net-unreachable: a new connection fails at once, and an established one survives a short outage,
/// because hosts take it as a soft error (RFC 1122, 4.2.3.9), which admin-prohibited need not be.
pub fn render(nat: &Nat) -> String {
    // iptables-save prints networks without host bits.
    let trunc = |nets: &BTreeSet<Ipv4Net>| nets.iter().map(Ipv4Net::trunc).collect::<BTreeSet<_>>();
    let (private_net, own, sources) = (trunc(&nat.private_net), trunc(&nat.own), trunc(&nat.sources));
    let sources = sources.difference(&own).copied().collect();
    let outside = own.iter().filter(|o| !private_net.iter().any(|p| p.contains(*o)));
    let (clear_in, clear_out) = match &nat.tunnel {
        TunnelMatch::None => (String::new(), String::new()),
        TunnelMatch::Policy => (" -m policy --dir in --pol none".into(), " -m policy --dir out --pol none".into()),
        TunnelMatch::Interface(device) => (format!(" ! -i {device}"), format!(" ! -o {device}")),
    };
    let file = RulesFile {
        excluded: private_net.iter().chain(outside).copied().collect(),
        masquerade: nat.masquerade.as_ref(),
        tunnel: &nat.tunnel,
        clear: clear_in.clone(),
        clear_in,
        clear_out,
        has_tunnel: nat.tunnel != TunnelMatch::None,
        input: &nat.input,
        exclude: trunc(&nat.exclude),
        sources: &sources,
        mss: TUNNEL_MSS,
        private_net,
        own,
    };
    // askama takes the template's last newline off; iptables-restore wants it.
    format!("{file}\n")
}
