//! The routes of crosswan's table (`RTM_*ROUTE`, linux/rtnetlink.h).

use std::net::Ipv4Addr;

use crosswan_core::{
    model::Realm,
    system::{BACKSTOP_METRIC, PROTOCOL, TABLE},
};
use ipnet::Ipv4Net;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST};
use nix::libc::{
    AF_INET, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE, RTA_DST, RTA_FLOW, RTA_GATEWAY, RTA_OIF, RTA_PREFSRC,
    RTA_PRIORITY, RTA_TABLE, RTM_DELROUTE, RTM_F_CLONED, RTM_GETROUTE, RTM_NEWROUTE, RTN_UNICAST, RTN_UNREACHABLE,
};

use crate::{
    error::{Answered, Failure},
    links::Link,
    message::{Attributes, Request},
};

/// `struct rtmsg`: family, prefix lengths, TOS, table, protocol, scope, type, flags.
const HEADER: usize = 12;
/// What crosswan's routes have.
const PLAIN: [u16; 6] = [RTA_DST, RTA_TABLE, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTA_FLOW];

/// A route of crosswan's, for the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) net: Ipv4Net,
    pub(crate) kind: Kind,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To an interface by its index, with the source address of this host's own packets, and perhaps a realm.
    Interface(u32, Ipv4Addr, Option<Realm>),
    /// Nowhere, where no other route leads to the network.
    Backstop,
}

/// A route of the kernel.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) net: Ipv4Net,
    pub(crate) metric: u32,
    pub(crate) protocol: u8,
    /// `None` where it is none that crosswan makes, apart from the protocol.
    plain: Option<Kind>,
    interface: Option<u32>,
    gateway: Option<Ipv4Addr>,
    kind: u8,
}

/// Asks for all routes of crosswan's table.
pub(crate) fn list() -> Request {
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut header = [0; HEADER];
    header[0] = AF_INET as u8;
    Request::new(RTM_GETROUTE, flags, &header).with(RTA_TABLE, TABLE.to_ne_bytes())
}

/// Makes a route, if there is none to its network with its metric.
pub(crate) fn add(route: &Route) -> Request {
    request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route)
}

/// Makes a route, in place of the first to its network with its metric, whoever has made that.
pub(crate) fn replace(route: &Route) -> Request {
    request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route)
}

/// Deletes crosswan's route to a network.
pub(crate) fn remove(net: Ipv4Net) -> Request {
    let header = header(net, RT_SCOPE_NOWHERE, RTN_UNICAST);
    finished(Request::new(RTM_DELROUTE, NLM_F_REQUEST | NLM_F_ACK, &header), net)
}

/// Deletes crosswan's backstop of a network.
pub(crate) fn remove_backstop(net: Ipv4Net) -> Request {
    request(RTM_DELROUTE, 0, &Route { net, kind: Kind::Backstop })
}

/// Deletes a route that was found, of crosswan's protocol number.
pub(crate) fn remove_found(found: &Found) -> Request {
    let header = header(found.net, RT_SCOPE_NOWHERE, found.kind);
    let request = finished(Request::new(RTM_DELROUTE, NLM_F_REQUEST | NLM_F_ACK, &header), found.net);
    request.with(RTA_PRIORITY, found.metric.to_ne_bytes())
}

fn request(message: u16, flags: u16, route: &Route) -> Request {
    let flags = flags | NLM_F_REQUEST | NLM_F_ACK;
    let start = |scope, kind| finished(Request::new(message, flags, &header(route.net, scope, kind)), route.net);
    match route.kind {
        Kind::Interface(index, source, realm) => {
            let request = start(RT_SCOPE_LINK, RTN_UNICAST);
            let request = request.with(RTA_OIF, index.to_ne_bytes()).with(RTA_PREFSRC, source.octets());
            match realm {
                Some(realm) => request.with(RTA_FLOW, u32::from(realm.number()).to_ne_bytes()),
                None => request,
            }
        }
        Kind::Backstop => start(RT_SCOPE_UNIVERSE, RTN_UNREACHABLE).with(RTA_PRIORITY, BACKSTOP_METRIC.to_ne_bytes()),
    }
}

fn header(net: Ipv4Net, scope: u8, kind: u8) -> [u8; HEADER] {
    [AF_INET as u8, net.prefix_len(), 0, 0, 0, PROTOCOL, scope, kind, 0, 0, 0, 0]
}

fn finished(request: Request, net: Ipv4Net) -> Request {
    request.with(RTA_DST, net.addr().octets()).with(RTA_TABLE, TABLE.to_ne_bytes())
}

impl Route {
    /// The route's metric. Of routes to one network the lowest counts.
    pub(crate) fn metric(&self) -> u32 {
        match self.kind {
            Kind::Interface(..) => 0,
            Kind::Backstop => BACKSTOP_METRIC,
        }
    }
}

impl Found {
    /// Reads a message of the kernel; `None` for what is in another table, or is a memory of one packet's path.
    pub(crate) fn read(message: &[u8]) -> Answered<Option<Found>> {
        let attributes = Attributes::read(message, HEADER)?;
        let &[_, length, _, tos, table, protocol, scope, kind, f0, f1, f2, f3, ..] = message else {
            return Err(Failure::Garbage);
        };
        let table = attributes.u32(RTA_TABLE).unwrap_or(table.into());
        if table != TABLE || u32::from_ne_bytes([f0, f1, f2, f3]) & RTM_F_CLONED != 0 {
            return Ok(None);
        }
        let address = attributes.address(RTA_DST).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let (interface, source) = (attributes.u32(RTA_OIF), attributes.address(RTA_PREFSRC));
        let metric = attributes.u32(RTA_PRIORITY).unwrap_or(0);
        // One that is no realm of a segment's is not crosswan's.
        let realm = attributes.u32(RTA_FLOW).map(Realm::new);
        let plain = match (kind, interface, source, metric) {
            _ if realm == Some(None) => None,
            _ if tos != 0 || !attributes.only(&PLAIN) => None,
            (RTN_UNICAST, Some(index), Some(source), 0) if scope == RT_SCOPE_LINK => {
                Some(Kind::Interface(index, source, realm.flatten()))
            }
            (RTN_UNREACHABLE, None, None, BACKSTOP_METRIC) if realm.is_none() => Some(Kind::Backstop),
            _ => None,
        };
        Ok(Some(Found {
            net: Ipv4Net::new(address, length).map_err(|_| Failure::Garbage)?,
            metric,
            protocol,
            plain,
            interface,
            gateway: attributes.address(RTA_GATEWAY),
            kind,
        }))
    }

    /// Where it leads, if crosswan has made it.
    pub(crate) fn own(&self) -> Option<Kind> {
        self.plain.filter(|_| self.protocol == PROTOCOL)
    }

    /// `10.9.0.0/16 via 10.0.0.1 dev eth0 proto 4`, nearly as `ip route` prints it.
    pub(crate) fn phrase(&self, links: &[Link]) -> String {
        let kind = match self.kind {
            RTN_UNICAST => String::new(),
            RTN_UNREACHABLE => "unreachable ".to_owned(),
            6 => "blackhole ".to_owned(),
            8 => "prohibit ".to_owned(),
            9 => "throw ".to_owned(),
            other => format!("type {other} "),
        };
        let mut phrase = format!("{kind}{}", self.net);
        phrase.extend(self.gateway.map(|gateway| format!(" via {gateway}")));
        let name = |index| links.iter().find(|link| link.index == index).map_or("?", |link| &link.name);
        phrase.extend(self.interface.map(|index| format!(" dev {}", name(index))));
        if self.metric != 0 {
            phrase.push_str(&format!(" metric {}", self.metric));
        }
        phrase + &format!(" proto {}", self.protocol)
    }
}
