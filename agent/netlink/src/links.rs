//! Interfaces (`RTM_*LINK`, linux/if_link.h).

use crosswan_core::model::Place;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST};
use nix::libc::{
    IFF_UP, IFLA_EXT_MASK, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK_NETNSID, IFLA_LINKINFO, IFLA_MTU,
    RTEXT_FILTER_SKIP_STATS, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK,
};

use crate::{
    error::{Answered, Failure},
    message::{Attributes, Request, attribute},
};

/// `struct ifinfomsg`: family, a filling byte, type, index, flags and the flags that change.
const HEADER: usize = 16;
const IFLA_XFRM_IF_ID: u16 = 2;
const XFRM: &str = "xfrm";

/// An interface, as far as it matters here.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    up: bool,
    /// The largest packet in bytes.
    pub(crate) mtu: Option<u32>,
    /// `dummy`, `xfrm`, …; `None` for hardware.
    kind: Option<String>,
    if_id: Option<u32>,
    /// Whether its packets belong to another network namespace, in which it was made.
    elsewhere: bool,
}

/// Asks for all interfaces.
pub(crate) fn list() -> Request {
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    Request::new(RTM_GETLINK, flags, &[0; HEADER]).with(IFLA_EXT_MASK, (RTEXT_FILTER_SKIP_STATS as u32).to_ne_bytes())
}

/// Makes a place's interface, already up. It has no interface below it: routes decide where its packets leave.
pub(crate) fn make(place: Place) -> Request {
    let data = attribute(IFLA_XFRM_IF_ID, place.if_id().to_ne_bytes());
    let info = [attribute(IFLA_INFO_KIND, XFRM), attribute(IFLA_INFO_DATA, data)].concat();
    Request::new(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &header(0, true))
        .with(IFLA_IFNAME, format!("{}\0", place.interface()))
        .with(IFLA_LINKINFO, info)
}

/// Sets an interface up.
pub(crate) fn set_up(link: &Link) -> Request {
    Request::new(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &header(link.index, true))
}

/// Deletes an interface.
pub(crate) fn delete(link: &Link) -> Request {
    Request::new(RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, &header(link.index, false))
}

fn header(index: u32, up: bool) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let flags = if up { (IFF_UP as u32).to_ne_bytes() } else { [0; 4] };
    header[8..12].copy_from_slice(&flags);
    header[12..].copy_from_slice(&flags);
    header
}

impl Link {
    /// Reads a message of the kernel.
    pub(crate) fn read(message: &[u8]) -> Answered<Link> {
        let word = |at: usize| message.get(at..).and_then(|b| b.first_chunk()).map(|b| u32::from_ne_bytes(*b));
        let attributes = Attributes::read(message, HEADER)?;
        let info = attributes.nested(IFLA_LINKINFO)?;
        let kind = info.text(IFLA_INFO_KIND);
        let data = if kind.as_deref() == Some(XFRM) { info.nested(IFLA_INFO_DATA)? } else { Attributes::default() };
        Ok(Link {
            index: word(4).ok_or(Failure::Garbage)?,
            name: attributes.text(IFLA_IFNAME).ok_or(Failure::Garbage)?,
            up: word(8).ok_or(Failure::Garbage)? & IFF_UP as u32 != 0,
            mtu: attributes.u32(IFLA_MTU),
            kind,
            if_id: data.u32(IFLA_XFRM_IF_ID),
            elsewhere: attributes.has(IFLA_LINK_NETNSID),
        })
    }

    /// The place whose interface this is, up or down: it has the place's name and `if_id`, and belongs to this network namespace.
    pub(crate) fn place(&self) -> Option<Place> {
        let place = Place::with_if_id(self.own_if_id()?)?;
        (place.interface() == self.name).then_some(place)
    }

    /// The place whose interface it is, if it is as it should be.
    pub(crate) fn in_order(&self) -> Option<Place> {
        self.place().filter(|_| self.up)
    }

    /// Whether it could be mistaken for one of crosswan's, or has an `if_id` of theirs. The guard lets everything pass that is named
    /// like them, and no two interfaces can have one `if_id`.
    pub(crate) fn is_foreign(&self) -> bool {
        self.place().is_none()
            && (self.name.starts_with("cw") || self.own_if_id().and_then(Place::with_if_id).is_some())
    }

    /// Whether nothing can be made for `place` while this one is there.
    pub(crate) fn is_in_the_way_of(&self, place: Place) -> bool {
        self.place().is_none() && (self.name == place.interface() || self.own_if_id() == Some(place.if_id()))
    }

    fn own_if_id(&self) -> Option<u32> {
        self.if_id.filter(|_| !self.elsewhere)
    }

    /// `cw9, a dummy interface`, `cw1, an xfrm interface with if_id 7`.
    pub(crate) fn phrase(&self) -> String {
        let name = &self.name;
        let Some(kind) = &self.kind else { return format!("{name}, a hardware interface") };
        let article = if kind.starts_with(['a', 'e', 'i', 'o', 'x']) { "an" } else { "a" };
        let if_id = self.if_id.map(|id| format!(" with if_id {id}")).unwrap_or_default();
        let elsewhere = if self.elsewhere { " of another network namespace" } else { "" };
        format!("{name}, {article} {kind} interface{if_id}{elsewhere}")
    }
}
