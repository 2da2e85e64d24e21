//! Which VPC holds which part of the private network: a set of disjoint CIDRs that refuses overlaps in O(log n).

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::model::{VpcId, overlap};

/// Disjoint CIDRs by their first address, each with its holder.
pub(super) struct Claims(BTreeMap<Ipv4Addr, (Ipv4Net, VpcId)>);

impl Claims {
    /// Starts with the CIDRs of this gateway's own VPC, which are disjoint because EC2 allows no others.
    pub(super) fn new<'a>(own: &VpcId, cidrs: impl IntoIterator<Item = &'a Ipv4Net>) -> Self {
        Claims(cidrs.into_iter().map(|c| (c.network(), (*c, own.clone()))).collect())
    }

    /// Gives `cidr` to `vpc`. If it overlaps a held CIDR, the error is that CIDR and its holder.
    ///
    /// Held CIDRs are disjoint, so only the last one that begins before the end of `cidr` can overlap it.
    pub(super) fn claim(&mut self, cidr: &Ipv4Net, vpc: &VpcId) -> Result<(), (Ipv4Net, VpcId)> {
        let neighbour = self.0.range(..=cidr.broadcast()).next_back();
        if let Some((_, (held, holder))) = neighbour.filter(|(_, (held, _))| overlap(held, cidr)) {
            return Err((*held, holder.clone()));
        }
        self.0.insert(cidr.network(), (*cidr, vpc.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_found_from_every_side() {
        let [a, b]: [VpcId; 2] = ["vpc-0000000a", "vpc-0000000b"].map(|v| v.parse().unwrap());
        let own: Ipv4Net = "10.0.0.0/16".parse().unwrap();
        let net = |s: &str| s.parse::<Ipv4Net>().unwrap();
        let mut claims = Claims::new(&a, [&own]);
        assert_eq!(claims.claim(&net("10.2.0.0/24"), &a), Ok(()));
        for (cidr, with) in [
            ("10.0.0.0/16", "10.0.0.0/16"),
            ("10.0.7.0/28", "10.0.0.0/16"),
            ("10.0.255.240/28", "10.0.0.0/16"),
            ("10.2.0.0/16", "10.2.0.0/24"),
            ("10.2.0.128/25", "10.2.0.0/24"),
            ("10.0.0.0/8", "10.2.0.0/24"),
        ] {
            assert_eq!(claims.claim(&net(cidr), &b), Err((net(with), a.clone())), "{cidr}");
        }
        for cidr in ["10.1.0.0/16", "10.2.1.0/24", "9.255.0.0/16", "10.255.0.0/16"] {
            assert_eq!(claims.claim(&net(cidr), &b), Ok(()), "{cidr}");
        }
    }
}
