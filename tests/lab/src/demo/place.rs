//! Point 6: a route of the hub VPC that somebody takes away.

use anyhow::{Context, Result};

use super::Demo;
use super::act::Show;
use super::boot::UP;
use super::screen::seconds;

const PRIVATE: &str = "10.0.0.0/8";

/// The step that ended the recipe of 2014, by hand: the private network's route to the vpn-hub.
pub fn put_back(demo: &mut Demo) -> Result<String> {
    demo.screen.text(
        "In 2014 the last step was done by hand: the route of the private network to the vpn-hub, in each table of its VPC. The \
         gateways made all of them at their boot. Somebody deletes that one now.",
    );
    let hub = demo.lab.gateway("hub/vpn-hub")?;
    let [_, table] = demo.lab.route_tables("hub")?;
    let (from, to) = (demo.lab.host("hub/host")?, demo.lab.host("a/host")?);
    let reached = from.reaches(to.address)?;
    demo.check(reached, &format!("{} reaches {}", from.name, to.name));
    demo.screen.command("EC2", &format!("DeleteRoute {PRIVATE} of {table}"));
    let route = [("RouteTableId", table.as_str()), ("DestinationCidrBlock", PRIVATE)];
    demo.lab.ec2().call(&hub.region, "DeleteRoute", &route)?;
    demo.lab.sync("hub")?;
    let cut = !from.reaches(to.address)?;
    demo.check(cut, &format!("{} does not reach {} any more", from.name, to.name));
    let before = demo.screen.elapsed();
    let report = demo.refresh(&hub, Show::Deeds)?;
    let routes = report["routes"].as_array().context("a report without routes")?;
    let here = routes.iter().any(|route| route["table"] == table.as_str() && route["is"] == "here");
    from.wait_for(to.address, UP)?;
    let took = seconds(demo.screen.elapsed() - before);
    demo.check(here, &format!("the route leads to the hub again, and {} reaches {}, {took} later", from.name, to.name));
    Ok(format!("a deleted route of the hub VPC was back {took} from the hub's refresh"))
}
