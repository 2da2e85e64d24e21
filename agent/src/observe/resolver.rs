//! Why names do not resolve, as far as this gateway can see: its own guard may keep a resolver out of reach.
//!
//! A resolver in another VPC or on premises has an address inside the private network. Queries to it leave through the tunnel
//! or not at all, and the tunnel does not come up before EC2 has been asked by its name.

#![allow(clippy::disallowed_methods, reason = "edge: reads which resolvers this host has")]

use std::{collections::BTreeSet, fs, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crosswan_core::model::{AskError, Nat};

/// systemd-resolved's list; `/etc/resolv.conf` then names only its stub, 127.0.0.53.
const LISTS: [&str; 2] = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];

/// The cause and the remedy if one of the failures is that a name did not resolve; otherwise `None`.
pub fn hint<'a>(mut unasked: impl Iterator<Item = &'a AskError>, nat: &Nat) -> Option<String> {
    unasked.find(|why| why.is_about_a_name())?;
    let list = LISTS.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    Some(cause(&resolvers(&list), nat))
}

/// The IPv4 resolvers of a resolv.conf(5), in order.
fn resolvers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    let address = |line: &str| line.trim().strip_prefix("nameserver")?.trim().parse().ok();
    resolv_conf.lines().filter_map(address).collect()
}

fn cause(resolvers: &[Ipv4Addr], nat: &Nat) -> String {
    let list = |found: &[Ipv4Addr]| found.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ");
    let guarded = |ip: &&Ipv4Addr| {
        let within = |nets: &BTreeSet<Ipv4Net>| nets.iter().any(|net| net.contains(*ip));
        nat.tunnels && within(&nat.private_net) && !within(&nat.own) && !within(&nat.exclude)
    };
    let blocked: Vec<Ipv4Addr> = resolvers.iter().filter(guarded).copied().collect();
    match (resolvers, &blocked[..]) {
        ([], _) => "names do not resolve: no IPv4 resolver is configured on this host (/etc/resolv.conf)".into(),
        (all, []) => format!("names do not resolve: does a resolver of this host ({}) answer?", list(all)),
        (_, blocked) => format!(
            "names do not resolve: the resolver {} lies in private_net and outside this VPC, so only a tunnel may carry its \
             queries, and no tunnel comes up before names resolve: use the VPC's own resolver, 169.254.169.253, or list its network in \
             guard.exclude if peering or Direct Connect leads to it",
            list(blocked)
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_resolver_that_only_a_tunnel_reaches_is_named_with_the_remedy() {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
        let nat = |tunnels| Nat {
            private_net: nets(&["10.0.0.0/8"]),
            own: nets(&["10.1.0.0/16"]),
            masquerade: None,
            sources: nets(&[]),
            exclude: nets(&["10.9.0.0/16"]),
            input: BTreeSet::new(),
            tunnels,
            segments: None,
            beats: None,
            across: false,
            far: None,
        };
        let spoke = nat(true);
        let said = |conf: &str, nat: &Nat| cause(&resolvers(conf), nat);
        let blocked = said("# ours\nsearch x\nnameserver 10.0.0.2\nnameserver 10.1.0.2\nnameserver fd00::2\n", &spoke);
        assert!(
            blocked.contains("the resolver 10.0.0.2 lies in private_net") && blocked.contains("169.254.169.253"),
            "{blocked}"
        );
        for (conf, nat) in [
            ("nameserver 10.1.0.2\nnameserver\t169.254.169.253", &spoke),
            ("nameserver 10.9.0.2", &spoke),
            // A nat-hub's own packets are not held back.
            ("nameserver 10.0.0.2", &nat(false)),
        ] {
            assert!(said(conf, nat).contains("does a resolver of this host"), "{conf}");
        }
        assert!(said("nameserver fd00::2", &spoke).contains("no IPv4 resolver"));
        // Failures that have nothing to do with names give no hint.
        let late = AskError::TimedOut { after: Duration::from_secs(60) };
        let region = "eu-west-1".parse().unwrap();
        let nameless = AskError::NameUnresolved { service: "EC2", region, why: "Temporary failure".into() };
        assert_eq!(hint([&late].into_iter(), &spoke), None);
        assert!(hint([&late, &nameless].into_iter(), &spoke).is_some());
    }
}
