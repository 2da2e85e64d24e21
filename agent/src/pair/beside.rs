//! A pair that this gateway waits beside: the routes that lead nowhere meanwhile, and when it asks a member for its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use ipnet::Ipv4Net;
use tokio::time::Instant;

use crosswan_core::{
    model::{InstanceId, RouteTable, RouteTableId},
    pair::Beside,
};

/// Before it asks for a place it must have worked for so long.
const WORKS: Duration = Duration::from_secs(30);
/// The time between two tries to have EC2 show that.
const AGAIN: Duration = Duration::from_mins(5);

/// The pair, and what EC2 has shown while this gateway waits.
pub(super) struct Waiting {
    pub beside: Beside,
    nowhere: BTreeSet<(RouteTableId, Ipv4Net)>,
    /// Since when it could be a member.
    works: Option<Instant>,
    asked: Option<Instant>,
}

impl Waiting {
    /// By the text of the file that a refresh has written, and what was known `before`; `None` if this gateway does not wait.
    pub(super) fn read(text: Option<&str>, before: Option<Waiting>) -> Option<Waiting> {
        let beside = text.and_then(Beside::parse)?;
        let new = Waiting { beside: beside.clone(), nowhere: BTreeSet::new(), works: None, asked: None };
        Some(Waiting { beside, ..before.unwrap_or(new) })
    }

    /// Takes note of whether it could be a member at `now`. Returns the one to ask for its place, if it could for a while.
    pub(super) fn asks(&mut self, now: Instant, is_able: bool) -> Option<&InstanceId> {
        let member = self.beside.asks_for.as_ref().filter(|_| is_able);
        self.works = member.and(self.works).or(member.map(|_| now));
        let is_due =
            self.works.is_some_and(|since| now - since >= WORKS) && self.asked.is_none_or(|at| now - at >= AGAIN);
        member.filter(|_| is_due).inspect(|_| self.asked = Some(now))
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

    #[test]
    fn it_asks_for_a_place_once_it_has_worked_for_a_while_and_now_and_then_until_ec2_shows_that() {
        let text = |asks_for: &str| {
            format!(
                r#"{{"me": {{"instance": "i-00000003", "interface": "eni-00000003", "subnet": "subnet-00000001", "vpc": "vpc-00000001",
                "region": "us-west-2", "address": "10.0.0.5"}}, "beside": ["i-00000001", "i-00000002"], {asks_for}"destinations": []}}"#
            )
        };
        let (asks, has) = (text(r#""asks_for": "i-00000002", "#), text(""));
        let mut waiting = None;
        let (start, mut asked) = (Instant::now(), Vec::new());
        for second in 0..400 {
            waiting = Waiting::read(Some(if second < 390 { &asks } else { &has }), waiting.take());
            // It fails for a moment at 20 s.
            if waiting.as_mut().unwrap().asks(start + Duration::from_secs(second), second != 20).is_some() {
                asked.push(second);
            }
        }
        assert_eq!(asked, [51, 351]);
    }
}
