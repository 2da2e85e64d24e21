//! Checks of the own VPC's route tables.

use ipnet::Ipv4Net;

use super::{
    examined::Examined,
    verdict::{Matter, Verdict, failure, unasked, warning},
};
use crate::{
    decide::{RouteIs, VpcRoutes, address, vpc_routes},
    model::{AskError, RouteTableId, RouteTarget},
};

const WANTED: &str = "it leads to this gateway";

/// What becomes of each route, by what was found: a pass would decide the same.
fn routes(x: &Examined) -> Option<VpcRoutes> {
    let settings = x.settings.as_ref().ok()?;
    let observed = x.observed()?;
    Some(vpc_routes(settings, &observed, address(settings, &observed).awaited()))
}

pub(super) fn tagged(x: &Examined) -> Verdict {
    let Ok(settings) = &x.settings else { return Err(Matter::Blocked("settings")) };
    let tag = format!("{}={}", settings.routes_tag.key, settings.routes_tag.value);
    match x.vpc.as_ref().ok_or(Matter::Blocked("ec2"))? {
        Ok(vpc) if vpc.tables.is_empty() => {
            Err(Matter::Absent(format!("no table of this VPC has the tag {tag}: its routes are an operator's")))
        }
        Ok(vpc) => {
            let tables: Vec<&str> = vpc.tables.keys().map(|table| table.as_str()).collect();
            Ok(format!("{tag} is on {}", tables.join(", ")))
        }
        Err(AskError::Denied { permission, .. }) => {
            Err(Matter::Absent(format!("the role does not allow {permission}: the VPC's routes are an operator's")))
        }
        Err(why) => {
            Err(unasked(why.to_string(), "EC2 describes the VPC's route tables", "crosswan doctor, once EC2 answers"))
        }
    }
}

pub(super) fn each(x: &Examined) -> Vec<(String, Verdict)> {
    let Some(VpcRoutes { take, are, .. }) = routes(x) else { return Vec::new() };
    let id = |table: &dyn std::fmt::Display, to: &dyn std::fmt::Display| format!("route-{table}-{to}");
    let look = |table: &dyn std::fmt::Display| format!("aws ec2 describe-route-tables --route-table-ids {table}");
    let found = are.iter().map(|((table, to), is)| {
        let verdict = match (is, shadow(x, table, *to)) {
            (RouteIs::Here, Some((inside, target))) => {
                let found = format!("leads here, but {inside} in it leads to {target}");
                Err(warning(found, "all of it leads to this gateway", look(table)))
            }
            (RouteIs::Here, None) => Ok("leads here".into()),
            (RouteIs::Member(how), _) => Ok(how.clone()),
            (RouteIs::Left(how) | RouteIs::Waits(how), _) => Err(warning(how, WANTED, look(table))),
            (RouteIs::Failed, _) => Err(failure("does not lead here", WANTED, "crosswan refresh")),
        };
        (id(table, to), verdict)
    });
    let taken =
        take.iter().map(|take| (id(&take.table, &take.to), Err(failure(&take.was, WANTED, "crosswan refresh"))));
    found.chain(taken).collect()
}

/// A part of the network `to` that a route with a longer prefix leads elsewhere, and where. What leads to the VPC itself must, and beside
/// a default route other routes are the rule.
fn shadow<'a>(x: &'a Examined, table: &RouteTableId, to: Ipv4Net) -> Option<(&'a Ipv4Net, &'a RouteTarget)> {
    let (me, own) = (x.me.as_ref().ok()?, x.own.as_ref()?.as_ref().ok()?.interface.as_ref()?);
    let routes = &x.vpc.as_ref()?.as_ref().ok()?.tables.get(table)?.routes;
    let elsewhere = |target: &RouteTarget| *target != RouteTarget::Local && !target.is(&me.instance, Some(&own.id));
    let inside = |net: &Ipv4Net| to != Ipv4Net::default() && *net != to && to.contains(net);
    routes.iter().map(|(net, route)| (net, &route.target)).find(|(net, target)| inside(net) && elsewhere(target))
}
