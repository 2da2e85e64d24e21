//! What EC2 lets pass at the own interface: its security groups, and its subnet's network ACL. Whether one packet may pass follows from
//! their rules alone (VPC User Guide, "Security group rules", "Network ACL rules").

use std::{fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;

/// Which way a packet goes, as seen from this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To this gateway.
    In,
    /// From this gateway.
    Out,
}

/// What a packet carries, with its destination port or its ICMP type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// TCP to this port.
    Tcp(u16),
    /// UDP to this port.
    Udp(u16),
    /// ICMP of this type.
    Icmp(u8),
}

/// The packets that a rule is about, whatever their far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packets {
    /// The protocol's number; `None` for all protocols, and then all ports.
    pub protocol: Option<u8>,
    /// The first and the last port, or ICMP's type and code; `None` for all. The type -1 means every type.
    pub range: Option<(i32, i32)>,
}

/// The far ends that a security group's rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarEnd {
    /// A network.
    Net(Ipv4Net),
    /// The members of another security group, which are known by private addresses.
    Group,
    /// A prefix list, whose networks were not asked for.
    PrefixList,
}

/// Whether something lets a packet pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum May {
    /// No.
    Not,
    /// It does if the packet's far end is in a group or a prefix list that was not looked into.
    Perhaps,
    /// Yes.
    Pass,
}

/// What the security groups of an interface let pass. A group only allows, so the groups of an interface are one list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityGroups {
    /// Their ids, as EC2 writes them.
    pub ids: Vec<String>,
    /// What each rule lets pass.
    pub rules: Vec<(Way, Packets, FarEnd)>,
}

/// A subnet's network ACL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkAcl {
    /// Its id, as EC2 writes it.
    pub id: String,
    /// Its entries for IPv4, in any order.
    pub entries: Vec<AclEntry>,
}

/// One rule of a network ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclEntry {
    /// Its number: the lowest that fits a packet decides.
    pub number: i32,
    /// Which way the packets go.
    pub way: Way,
    /// Which packets.
    pub packets: Packets,
    /// Their far end.
    pub net: Ipv4Net,
    /// Whether it lets them pass.
    pub allows: bool,
}

/// The number of the entry that denies what no other fits, in every network ACL.
pub const LAST_ENTRY: i32 = 32_767;

impl Packets {
    fn fits(self, carries: Carries) -> bool {
        let Some(protocol) = self.protocol else { return true };
        let (first, last) = self.range.unwrap_or((-1, -1));
        let all = (first, last) == (-1, -1);
        match carries {
            Carries::Tcp(port) => protocol == 6 && (all || (first..=last).contains(&i32::from(port))),
            Carries::Udp(port) => protocol == 17 && (all || (first..=last).contains(&i32::from(port))),
            Carries::Icmp(kind) => protocol == 1 && (first == -1 || first == i32::from(kind)),
        }
    }
}

impl SecurityGroups {
    /// Whether they let a packet pass. Answers to what passes are let through without any rule.
    pub fn let_pass(&self, way: Way, far: Ipv4Addr, carries: Carries) -> May {
        let fitting = self.rules.iter().filter(|(of, traffic, _)| *of == way && traffic.fits(carries));
        let may = fitting.map(|(_, _, end)| match end {
            FarEnd::Net(net) if net.contains(&far) => May::Pass,
            FarEnd::PrefixList => May::Perhaps,
            FarEnd::Group if far.is_private() => May::Perhaps,
            FarEnd::Net(_) | FarEnd::Group => May::Not,
        });
        may.max().unwrap_or(May::Not)
    }
}

impl NetworkAcl {
    /// The number of the entry that denies a packet; `None` if one lets it pass. Answers need entries of their own.
    pub fn denied(&self, way: Way, far: Ipv4Addr, carries: Carries) -> Option<i32> {
        let fits = |entry: &&AclEntry| entry.way == way && entry.net.contains(&far) && entry.packets.fits(carries);
        match self.entries.iter().filter(fits).min_by_key(|entry| entry.number) {
            Some(entry) if entry.allows => None,
            Some(entry) => Some(entry.number),
            None => Some(LAST_ENTRY),
        }
    }

    /// A number for a new entry that comes before this one; `None` if all are taken.
    pub fn free_before(&self, way: Way, number: i32) -> Option<i32> {
        let taken = |n: &i32| self.entries.iter().any(|entry| entry.way == way && entry.number == *n);
        (1..number).rev().find(|n| !taken(n))
    }
}

impl fmt::Display for Carries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Carries::Tcp(port) => write!(f, "TCP {port}"),
            Carries::Udp(port) => write!(f, "UDP {port}"),
            Carries::Icmp(kind) => write!(f, "ICMP type {kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(protocol: i32, first: i32, last: i32) -> Packets {
        Packets { protocol: u8::try_from(protocol).ok(), range: Some((first, last)) }
    }

    fn groups(traffic: Packets, end: FarEnd) -> SecurityGroups {
        SecurityGroups { ids: Vec::new(), rules: vec![(Way::In, traffic, end)] }
    }

    fn net(text: &str) -> FarEnd {
        FarEnd::Net(text.parse().unwrap())
    }

    const ALL: Packets = Packets { protocol: None, range: None };
    const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
    const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 7);

    #[test]
    fn a_group_lets_pass_what_one_of_its_rules_fits() {
        for (rule, end, carries, far, may) in [
            (traffic(17, 500, 500), net("0.0.0.0/0"), Carries::Udp(500), PUBLIC, May::Pass),
            (traffic(17, 500, 500), net("0.0.0.0/0"), Carries::Udp(4500), PUBLIC, May::Not),
            (traffic(17, 500, 4500), net("0.0.0.0/0"), Carries::Udp(4500), PUBLIC, May::Pass),
            (traffic(6, 500, 500), net("0.0.0.0/0"), Carries::Udp(500), PUBLIC, May::Not),
            (traffic(17, 500, 500), net("198.51.100.7/32"), Carries::Udp(500), PUBLIC, May::Pass),
            (traffic(17, 500, 500), net("198.51.100.8/32"), Carries::Udp(500), PUBLIC, May::Not),
            (traffic(-1, -1, -1), net("10.0.0.0/8"), Carries::Tcp(443), PRIVATE, May::Pass),
            (Packets { protocol: Some(6), range: None }, net("10.0.0.0/8"), Carries::Tcp(443), PRIVATE, May::Pass),
            (traffic(1, -1, -1), net("10.0.0.0/8"), Carries::Icmp(8), PRIVATE, May::Pass),
            (traffic(1, 8, -1), net("10.0.0.0/8"), Carries::Icmp(8), PRIVATE, May::Pass),
            (traffic(1, 3, 4), net("10.0.0.0/8"), Carries::Icmp(8), PRIVATE, May::Not),
            // Type 0 is echo reply, and not "all".
            (traffic(1, 0, 0), net("10.0.0.0/8"), Carries::Icmp(8), PRIVATE, May::Not),
            (ALL, FarEnd::Group, Carries::Udp(500), PRIVATE, May::Perhaps),
            // A group's members are known by private addresses.
            (ALL, FarEnd::Group, Carries::Udp(500), PUBLIC, May::Not),
            (ALL, FarEnd::PrefixList, Carries::Udp(500), PUBLIC, May::Perhaps),
        ] {
            let groups = groups(rule, end);
            assert_eq!(groups.let_pass(Way::In, far, carries), may, "{rule:?} {end:?} {carries} {far}");
            assert_eq!(groups.let_pass(Way::Out, far, carries), May::Not);
        }
        let mut two = groups(ALL, FarEnd::PrefixList);
        two.rules.push((Way::In, ALL, net("0.0.0.0/0")));
        assert_eq!(two.let_pass(Way::In, PUBLIC, Carries::Tcp(1)), May::Pass);
    }

    #[test]
    fn the_lowest_number_that_fits_decides_in_an_acl_and_nothing_passes_without_one() {
        let entry = |number, allows, traffic, net: &str| AclEntry {
            number,
            way: Way::In,
            packets: traffic,
            net: net.parse().unwrap(),
            allows,
        };
        let mut acl = NetworkAcl {
            id: "acl-1".into(),
            entries: vec![
                entry(LAST_ENTRY, false, ALL, "0.0.0.0/0"),
                entry(100, true, ALL, "0.0.0.0/0"),
                entry(90, false, traffic(17, 500, 500), "198.51.100.0/24"),
            ],
        };
        assert_eq!(acl.denied(Way::In, PUBLIC, Carries::Udp(500)), Some(90));
        assert_eq!(acl.denied(Way::In, PUBLIC, Carries::Udp(4500)), None);
        assert_eq!(acl.denied(Way::In, Ipv4Addr::new(203, 0, 113, 1), Carries::Udp(500)), None);
        assert_eq!(acl.denied(Way::Out, PUBLIC, Carries::Udp(4500)), Some(LAST_ENTRY));
        assert_eq!(acl.free_before(Way::In, 90), Some(89));
        acl.entries.push(entry(89, true, ALL, "203.0.113.0/24"));
        assert_eq!(acl.free_before(Way::In, 90), Some(88));
        acl.entries.push(entry(1, false, ALL, "0.0.0.0/0"));
        assert_eq!(acl.free_before(Way::In, 1), None);
        assert_eq!(NetworkAcl::default().denied(Way::In, PUBLIC, Carries::Tcp(1)), Some(LAST_ENTRY));
    }
}
