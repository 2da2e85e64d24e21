//! Answers that do not show a change yet: EC2 is eventually consistent (EC2 Developer Guide, "Eventual consistency").

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::Result;
use roxmltree::{Document, Node};

use super::call::Call;
use crate::ec2::Elements;
use crate::follow;
use crate::lock;

/// What an item of a list is known by, the most particular first: a route table has its VPC's id, too.
const IDS: [&str; 6] = ["reservationId", "routeTableId", "allocationId", "networkInterfaceId", "subnetId", "vpcId"];

/// See the module. Shared by the proxy's threads.
#[derive(Debug, Default)]
pub struct Stale(Mutex<Vec<Rule>>);

#[derive(Debug)]
struct Rule {
    region: String,
    action: String,
    /// Answers that it still applies to.
    left: u32,
    /// The region, and the items of its whole list by id, from the moment before a change.
    before: Option<(String, BTreeMap<String, String>)>,
}

/// The lists as they are before a change, by the rules that wait for one.
pub struct Lists(Vec<(String, BTreeMap<String, String>)>);

impl Stale {
    /// After the next change in `region` (`*` is any), the next `calls` answers of `action` show everything as before it.
    pub fn set(&self, region: &str, action: &str, calls: u32) {
        lock(&self.0).push(Rule { region: region.into(), action: action.into(), left: calls, before: None });
    }

    /// Before a call goes to moto: what must be kept if it changes something. `ask` is a question of the proxy's own, by operation.
    pub fn lists(&self, call: &Call, ask: impl Fn(&str) -> Result<String>) -> Result<Lists> {
        let waits = |rule: &&Rule| follow::decides(call) && rule.before.is_none() && rule.fits(&call.region);
        let actions: Vec<String> = lock(&self.0).iter().filter(waits).map(|rule| rule.action.clone()).collect();
        let list = |action: String| {
            let items = items(&ask(&action)?)?.into_iter().map(|item| (item.id, item.text)).collect();
            Ok((action, items))
        };
        Ok(Lists(actions.into_iter().map(list).collect::<Result<_>>()?))
    }

    /// The call has changed something.
    pub fn changed(&self, call: &Call, lists: Lists) {
        for (action, items) in lists.0 {
            let mut rules = lock(&self.0);
            let waits = |rule: &&mut Rule| rule.before.is_none() && rule.action == action && rule.fits(&call.region);
            if let Some(rule) = rules.iter_mut().find(waits) {
                rule.before = Some((call.region.clone(), items));
            }
        }
    }

    /// The answer to show: this one, with its items as they were, and without those that were not there.
    pub fn shown(&self, call: &Call, body: String) -> Result<String> {
        let mut rules = lock(&self.0);
        let holds = |rule: &&mut Rule| {
            let before = rule.before.as_ref().is_some_and(|(region, _)| *region == call.region);
            before && rule.action == call.action && rule.left > 0
        };
        let Some(rule) = rules.iter_mut().find(holds) else { return Ok(body) };
        rule.left -= 1;
        let Some((_, before)) = &rule.before else { return Ok(body) };
        let mut shown = body.clone();
        for item in items(&body)?.into_iter().rev() {
            shown.replace_range(item.at, before.get(&item.id).map_or("", String::as_str));
        }
        Ok(shown)
    }
}

impl Rule {
    fn fits(&self, region: &str) -> bool {
        self.left > 0 && (self.region == "*" || self.region == region)
    }
}

struct Item {
    id: String,
    text: String,
    at: std::ops::Range<usize>,
}

/// The items of a list, in the order in which they stand.
fn items(body: &str) -> Result<Vec<Item>> {
    let document = Document::parse(body)?;
    let sets = document.root_element().children().filter(|n| n.tag_name().name().ends_with("Set"));
    let items = sets.flat_map(|set| set.children()).filter(|n| n.is_called("item"));
    let id = |item: Node| IDS.iter().find_map(|id| item.value(id)).unwrap_or_default().to_string();
    Ok(items.map(|item| Item { id: id(item), text: body[item.range()].into(), at: item.range() }).collect())
}
