//! A route to an instance or its interface, as EC2 shows it. moto shows the one of the two that was named, and such a route as active
//! for ever; EC2 shows both, and a blackhole where the instance is stopped or gone (VPC User Guide, "Route table concepts").

use anyhow::Result;
use roxmltree::{Document, Node};

use super::call::Call;
use crate::ec2::Elements;

const OWN: [&str; 4] = ["instanceId", "instanceOwnerId", "networkInterfaceId", "state"];

/// An instance, as far as a route to it goes.
struct Target {
    instance: String,
    interface: Option<String>,
    runs: bool,
}

/// The answer to DescribeRouteTables with the targets' state; any other as it is. `ask` is a question of the proxy's own, by operation.
pub fn shown(call: &Call, body: String, ask: impl Fn(&str) -> Result<String>) -> Result<String> {
    if call.action != "DescribeRouteTables" {
        return Ok(body);
    }
    let document = Document::parse(&body)?;
    let sets = document.descendants().filter(|n| n.is_called("routeSet"));
    let leads = |n: &Node| n.value("instanceId").or_else(|| n.value("networkInterfaceId")).is_some();
    let routes: Vec<Node> = sets.flat_map(|set| set.children()).filter(leads).collect();
    if routes.is_empty() {
        return Ok(body);
    }
    let targets = targets(&ask("DescribeInstances")?)?;
    let mut shown = body.clone();
    for route in routes.into_iter().rev() {
        let rest = route.children().filter(|n| !OWN.contains(&n.tag_name().name()));
        let rest: String = rest.map(|n| &body[n.range()]).collect();
        let (instance, interface) = (route.value("instanceId"), route.value("networkInterfaceId"));
        let target = targets.iter().find(|t| {
            Some(t.instance.as_str()) == instance || interface.is_some() && t.interface.as_deref() == interface
        });
        let interface = interface.or_else(|| target?.interface.as_deref());
        let interface =
            interface.map(|id| format!("<networkInterfaceId>{id}</networkInterfaceId>")).unwrap_or_default();
        // An instance that is gone is not named any more; its interface is.
        let instance = target.map(|t| t.instance.as_str()).or(instance.filter(|_| interface.is_empty()));
        let instance = instance.map(|id| format!("<instanceId>{id}</instanceId>")).unwrap_or_default();
        let state = if target.is_some_and(|t| t.runs) { "active" } else { "blackhole" };
        let item = format!("<item>{rest}{instance}{interface}<state>{state}</state></item>");
        shown.replace_range(route.range(), &item);
    }
    Ok(shown)
}

fn targets(instances: &str) -> Result<Vec<Target>> {
    let document = Document::parse(instances)?;
    let sets = document.descendants().filter(|n| n.is_called("instancesSet"));
    let items = sets.flat_map(|set| set.children()).filter(|n| n.is_called("item"));
    Ok(items.filter_map(target).collect())
}

fn target(item: Node) -> Option<Target> {
    let state = item.child("instanceState").and_then(|state| state.value("name")).unwrap_or_default();
    let interface = item.child("networkInterfaceSet").and_then(|set| set.child("item"));
    let interface = interface.and_then(|interface| interface.value("networkInterfaceId")).map(str::to_string);
    let runs = ["running", "pending"].contains(&state);
    let instance = item.value("instanceId")?.to_string();
    (state != "terminated").then_some(Target { instance, interface, runs })
}
