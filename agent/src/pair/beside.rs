//! A pair that this gateway waits beside, and the routes that lead nowhere meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ipnet::Ipv4Net;

use crosswan_core::{
    model::{RouteTable, RouteTableId},
    pair::Beside,
};

/// The pair, and what EC2 has shown while this gateway waits.
pub(super) struct Waiting {
    pub beside: Beside,
    nowhere: BTreeSet<(RouteTableId, Ipv4Net)>,
}

impl Waiting {
    /// By the text of the file that a refresh has written, and what was known `before`; `None` if this gateway does not wait.
    pub(super) fn read(text: Option<&str>, before: Option<Waiting>) -> Option<Waiting> {
        let beside = text.and_then(Beside::parse)?;
        let nowhere = before.map(|before| before.nowhere).unwrap_or_default();
        Some(Waiting { beside, nowhere })
    }

    /// Takes note of the routes that lead nowhere by the tables that EC2 has just shown. Returns one, and whether it is new that it does:
    /// one that did not before, if there is one.
    pub(super) fn note_nowhere(
        &mut self,
        tables: &BTreeMap<RouteTableId, RouteTable>,
    ) -> Option<(bool, RouteTableId, Ipv4Net)> {
        let before = std::mem::replace(&mut self.nowhere, self.beside.nowhere(tables));
        let new = self.nowhere.difference(&before).next();
        let (table, to) = new.or(self.nowhere.first())?;
        Some((new.is_some(), table.clone(), *to))
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, two] = &self.beside.beside;
        write!(f, "waits beside the pair of {one} and {two}")?;
        self.beside.made_way.as_ref().map_or(Ok(()), |heir| write!(f, ", as it has made way for {heir}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosswan_core::model::{RouteTarget, VpcRoute};

    #[test]
    fn a_route_that_leads_nowhere_is_new_once_and_is_named_as_long_as_it_does() {
        let text = r#"{"me": {"instance": "i-00000003", "interface": "eni-00000003", "subnet": "subnet-00000001", "vpc": "vpc-00000001",
            "region": "us-west-2", "address": "10.0.0.5"}, "beside": ["i-00000001", "i-00000002"], "destinations": ["0.0.0.0/0"]}"#;
        let table = |blackhole| {
            let target = RouteTarget::Other("eni-00000001".into());
            let routes = [(Ipv4Net::default(), VpcRoute { target, blackhole })].into();
            [("rtb-00000001".parse().unwrap(), RouteTable { routes, ..RouteTable::default() })].into()
        };
        let mut waiting = None;
        let mut look = |blackhole| {
            // The file is read again each second.
            waiting = Waiting::read(Some(text), waiting.take());
            waiting.as_mut().unwrap().note_nowhere(&table(blackhole)).map(|(new, ..)| new)
        };
        assert_eq!([false, true, true, false, true].map(&mut look), [None, Some(true), Some(false), None, Some(true)]);
        assert!(Waiting::read(None, waiting).is_none());
    }
}
