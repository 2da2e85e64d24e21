//! Reads the kernel's interfaces, rules and routes, and changes crosswan's.

use std::collections::BTreeMap;

use crosswan_core::{
    error::{Context, Error, Kind, Result},
    model::Place,
    system::{PROTOCOL, Routing, RoutingChange, Rule, Via, address_of},
};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use crate::{
    addresses,
    error::{Answered, Failure},
    links::{self, Link},
    message::Request,
    routes::{self, Kind as RouteKind, Route},
    rules,
    wire::Wire,
};

/// How often a list is read again that has changed while it was read.
const TRIES: usize = 10;

/// What is there now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// What crosswan has made, and is as it should be. An interface that is down is missing here.
    pub routing: Routing,
    /// Interfaces that crosswan has not made, but that are named like its own or have an `if_id` of theirs:
    /// `cw9, a dummy interface`.
    pub foreign_interfaces: Vec<String>,
    /// Rules of others that are tried before the last of crosswan's: `pref 100 from 10.2.0.0/16 lookup 200`. The table `local`
    /// does not count.
    pub foreign_rules: Vec<String>,
    /// Routes of others in crosswan's table, and such with its protocol number that are not like its own:
    /// `10.9.0.0/16 dev eth0 proto 4`.
    pub foreign_routes: Vec<String>,
    /// The largest packet that each interface takes, in bytes.
    pub mtus: BTreeMap<String, u32>,
}

impl Look {
    /// [`Look::foreign_rules`] without charon's own, which is there unless `charon.install_routes` is off. Its table is empty: all
    /// tunnels have interfaces.
    pub fn rules_beside(&self) -> impl Iterator<Item = &String> {
        self.foreign_rules.iter().filter(|line| *line != "pref 220 lookup 220")
    }
}

/// A connection to the kernel, in the network namespace of the thread that has opened it.
///
/// Each call ends after 5 s for every 64 changes, whatever the kernel does. A change that was given up then is not made any more,
/// unless the kernel was at work at it.
#[derive(Debug)]
pub struct Netlink(Wire);

impl Netlink {
    /// Opens a connection. That needs no capability; changes need CAP_NET_ADMIN.
    ///
    /// # Errors
    /// [`Kind::Other`] if the kernel has no rtnetlink or is older than 4.20, or there are too many open files.
    pub fn open() -> Result<Netlink> {
        Wire::open(NETLINK_ROUTE)
            .map(Netlink)
            .context(|| Error::new(Kind::Other, "open a connection to the kernel's routing (rtnetlink)"))
    }

    /// Reads interfaces, rules and routes.
    ///
    /// # Errors
    /// [`Kind::Observe`] if the kernel does not answer, or if what is read keeps changing.
    pub async fn look(&self) -> Result<Look> {
        let reading = |what: &'static str| move || Error::observe(format!("read the kernel's {what}"));
        let links = self.links().await.context(reading("interfaces"))?;
        let rules = self.rules().await.context(reading("policy rules"))?;
        let routes = self.routes().await.context(reading("routes"))?;

        let mut look = Look::default();
        look.routing.interfaces = links.iter().filter_map(Link::in_order).collect();
        look.mtus = links.iter().filter_map(|link| Some((link.name.clone(), link.mtu?))).collect();
        look.foreign_interfaces = links.iter().filter(|link| link.is_foreign()).map(Link::phrase).collect();
        let place = |index| links.iter().find(|link| link.index == index).and_then(Link::place);
        let own = |found: &addresses::Found| place(found.interface).filter(|place| address_of(*place) == found.address);
        look.routing.addresses = self.addresses().await.context(reading("addresses"))?.iter().filter_map(own).collect();
        look.routing.rules = rules.iter().filter_map(rules::Found::own).collect();
        if let Some(last) = look.routing.rules.iter().map(|rule| rule.priority).max() {
            let before = rules.iter().filter(|rule| rule.is_before(last));
            look.foreign_rules = before.map(|rule| rule.phrase().to_owned()).collect();
        }
        for route in routes {
            match route.own() {
                Some(RouteKind::Backstop) => drop(look.routing.backstops.insert(route.net)),
                Some(RouteKind::Interface(index, source, realm)) if let Some(place) = place(index) => {
                    // Of two the kernel uses the first.
                    look.routing.routes.entry(route.net).or_insert(Via { place, source, realm });
                }
                _ => look.foreign_routes.push(route.phrase(&links)),
            }
        }
        Ok(look)
    }

    /// Makes one change. What is so already is left as it is.
    ///
    /// # Errors
    /// [`Kind::Apply`], with the change and the kernel's reason, or with what of others is in the way.
    pub async fn change(&self, change: &RoutingChange) -> Result<()> {
        self.changes(std::slice::from_ref(change)).await.pop().unwrap_or(Ok(()))
    }

    /// Makes changes in their order, and returns what came of each. One that fails does not stop the others. Routes are made many
    /// at a time.
    pub async fn changes(&self, changes: &[RoutingChange]) -> Vec<Result<()>> {
        let mut outcomes = Vec::with_capacity(changes.len());
        for run in changes.chunk_by(|a, b| concerns_route(a) && concerns_route(b)) {
            let made = match run {
                [one] if !concerns_route(one) => vec![self.change_one(one).await],
                run => self.change_routes(run).await.unwrap_or_else(|failure| vec![Err(failure); run.len()]),
            };
            let outcome =
                |(change, made): (&RoutingChange, Answered<()>)| made.context(|| Error::apply(change.to_string()));
            outcomes.extend(run.iter().zip(made).map(outcome));
        }
        outcomes
    }

    async fn change_one(&self, change: &RoutingChange) -> Answered<()> {
        match change {
            RoutingChange::MakeInterface(place) => self.make_interface(*place).await,
            RoutingChange::DeleteInterface(place) => self.delete_interface(*place).await,
            RoutingChange::AddAddress(place) => match self.address(*place).await? {
                Some(address) => self.0.ask(addresses::add(address)).await?.done().map(drop),
                None => Err(Failure::Prevented(format!("there is no interface {}", place.interface()))),
            },
            RoutingChange::AddRule(rule) => self.add_rule(rule).await,
            RoutingChange::RemoveRule(rule) => self.remove_rule(rule).await,
            route => self.change_routes(&[*route]).await?.pop().unwrap_or(Ok(())),
        }
    }

    async fn make_interface(&self, place: Place) -> Answered<()> {
        let refusal = match self.0.ask(links::make(place)).await?.done() {
            Err(Failure::Refused(refusal)) if refusal.errno == Errno::EEXIST => refusal,
            Err(Failure::Refused(refusal)) if refusal.errno == Errno::EOPNOTSUPP => {
                return Err(Failure::Prevented("this kernel has no XFRM interfaces (module xfrm_interface)".into()));
            }
            made => return made.map(drop),
        };
        let links = self.links().await?;
        if let Some(link) = links.iter().find(|link| link.place() == Some(place)) {
            return self.0.ask(links::set_up(link)).await?.done().map(drop);
        }
        Err(match links.iter().find(|link| link.is_in_the_way_of(place)) {
            Some(link) => Failure::Prevented(format!("{}, is in the way; delete it", link.phrase())),
            None => Failure::Refused(refusal),
        })
    }

    async fn delete_interface(&self, place: Place) -> Answered<()> {
        let links = self.links().await?;
        let Some(link) = links.iter().find(|link| link.place() == Some(place)) else { return Ok(()) };
        self.0.ask(links::delete(link)).await?.done_or(&[Errno::ENODEV])
    }

    /// The address of a place's interface as it should be; `None` if there is no such interface.
    async fn address(&self, place: Place) -> Answered<Option<addresses::Found>> {
        let links = self.links().await?;
        let link = links.iter().find(|link| link.place() == Some(place));
        Ok(link.map(|link| addresses::Found { address: address_of(place), interface: link.index }))
    }

    /// The kernel's own check for a rule like it would also find one that only has what this one has, and more.
    async fn add_rule(&self, rule: &Rule) -> Answered<()> {
        if self.rules().await?.iter().any(|found| found.own() == Some(*rule)) {
            return Ok(());
        }
        self.0.ask(rules::add(rule)).await?.done().map(drop)
    }

    async fn remove_rule(&self, rule: &Rule) -> Answered<()> {
        let requests = rules::remove(rule, &self.rules().await?);
        let answers = self.0.exchange(&requests).await?;
        answers.into_iter().try_for_each(|answer| answer.done_or(&[Errno::ENOENT]))
    }

    /// Makes changes to routes. A route is first added; only where there is one already, the list of routes is read, so that a
    /// foreign one is not replaced.
    async fn change_routes(&self, changes: &[RoutingChange]) -> Answered<Vec<Answered<()>>> {
        let links = self.links().await?;
        let wanted: Vec<_> = changes.iter().map(|change| wanted(change, &links)).collect();
        let requests: Vec<Request> = wanted.iter().flatten().map(|(request, _)| request.clone()).collect();
        let mut answers = self.0.exchange(&requests).await?.into_iter();
        let mut made: Vec<Answered<()>> = Vec::with_capacity(changes.len());
        let mut there_already = Vec::new();
        for (at, wanted) in wanted.into_iter().enumerate() {
            let answer = match wanted {
                Ok((_, route)) => (answers.next().unwrap_or_default(), route),
                Err(failure) => {
                    made.push(Err(failure));
                    continue;
                }
            };
            match answer {
                (answer, Some(route)) if answer.is_refused(Errno::EEXIST) => {
                    there_already.push((at, route));
                    made.push(Ok(()));
                }
                (answer, _) => made.push(answer.done_or(&[Errno::ESRCH])),
            }
        }
        if there_already.is_empty() {
            return Ok(made);
        }
        let there = self.routes().await?;
        let mut replaced = Vec::new();
        for (at, route) in there_already {
            let same = |found: &&routes::Found| found.net == route.net && found.metric == route.metric();
            match there.iter().find(same).filter(|first| first.protocol != PROTOCOL) {
                Some(foreign) => made[at] = Err(in_the_way(foreign, &links)),
                None => replaced.push((at, route)),
            }
        }
        let requests: Vec<Request> = replaced.iter().map(|(_, route)| routes::replace(route)).collect();
        for ((at, route), answer) in replaced.into_iter().zip(self.0.exchange(&requests).await?) {
            made[at] = match answer.is_refused(Errno::EEXIST) {
                true => self.uncover(&route, &links).await,
                false => answer.done_or(&[]),
            };
        }
        Ok(made)
    }

    /// Makes a route the first to its network that is there already, but behind another of crosswan's protocol number: the kernel
    /// does not replace a route by one that it has. What stands before it is deleted, and at no moment is there none.
    async fn uncover(&self, route: &Route, links: &[Link]) -> Answered<()> {
        for _ in 0..TRIES {
            let there = self.routes().await?;
            match there.iter().find(|found| found.net == route.net && found.metric == route.metric()) {
                Some(first) if first.own() == Some(route.kind) => return Ok(()),
                Some(first) if first.protocol == PROTOCOL => {
                    self.0.ask(routes::remove_found(first)).await?.done_or(&[Errno::ESRCH])?;
                }
                Some(foreign) => return Err(in_the_way(foreign, links)),
                None => break,
            }
        }
        Err(Failure::Unsettled)
    }

    async fn links(&self) -> Answered<Vec<Link>> {
        self.list(links::list(), Link::read).await
    }

    async fn addresses(&self) -> Answered<Vec<addresses::Found>> {
        Ok(self.list(addresses::list(), addresses::Found::read).await?.into_iter().flatten().collect())
    }

    /// All rules in the order in which they are tried.
    async fn rules(&self) -> Answered<Vec<rules::Found>> {
        self.list(rules::list(), rules::Found::read).await
    }

    /// The routes of crosswan's table. The kernel has no such table before there is a route in it.
    async fn routes(&self) -> Answered<Vec<routes::Found>> {
        let found = match self.list(routes::list(), routes::Found::read).await {
            Err(Failure::Refused(refusal)) if refusal.errno == Errno::ENOENT => Vec::new(),
            found => found?,
        };
        Ok(found.into_iter().flatten().collect())
    }

    async fn list<T>(&self, request: Request, read: fn(&[u8]) -> Answered<T>) -> Answered<Vec<T>> {
        for _ in 0..TRIES {
            let answer = self.0.ask(request.clone()).await?;
            if !answer.interrupted {
                return answer.done()?.iter().map(|part| read(part)).collect();
            }
        }
        Err(Failure::Unsettled)
    }
}

fn concerns_route(change: &RoutingChange) -> bool {
    use RoutingChange::*;
    matches!(change, SetRoute(..) | RemoveRoute(_) | AddBackstop(_) | RemoveBackstop(_))
}

fn in_the_way(foreign: &routes::Found, links: &[Link]) -> Failure {
    Failure::Prevented(format!("the foreign route {} is in the way; delete it", foreign.phrase(links)))
}

/// The request for a change to a route, and the route if it is to be made.
fn wanted(change: &RoutingChange, links: &[Link]) -> Answered<(Request, Option<Route>)> {
    let route = match *change {
        RoutingChange::RemoveRoute(net) => return Ok((routes::remove(net), None)),
        RoutingChange::RemoveBackstop(net) => return Ok((routes::remove_backstop(net), None)),
        RoutingChange::AddBackstop(net) => Route { net, kind: RouteKind::Backstop },
        RoutingChange::SetRoute(net, via) => {
            let link = links.iter().find(|link| link.place() == Some(via.place));
            let link =
                link.ok_or_else(|| Failure::Prevented(format!("there is no interface {}", via.place.interface())))?;
            Route { net, kind: RouteKind::Interface(link.index, via.source, via.realm) }
        }
        _ => unreachable!(),
    };
    Ok((routes::add(&route), Some(route)))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NLM_F_DUMP_INTR;

    use super::*;
    use crate::wire::tests::{kernel, message, numbers, run};

    /// A list that is interrupted so many times, and then is empty.
    fn changing(times: u32) -> Netlink {
        Netlink(kernel(move |datagram| {
            let number = numbers(datagram)[0];
            let flags = if number < times { NLM_F_DUMP_INTR } else { 0 };
            vec![message(nix::libc::NLMSG_DONE as u16, flags, number, &[0; 4])]
        }))
    }

    #[test]
    fn a_list_that_changed_while_it_was_read_is_read_again_but_not_forever() {
        run(async {
            assert_eq!(changing(9).look().await.unwrap(), Look::default());
            let reason = changing(u32::MAX).look().await.unwrap_err().chain();
            assert_eq!(reason, "read the kernel's interfaces: it kept changing while it was read");
        });
    }
}
