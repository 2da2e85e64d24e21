//! The form of netlink's messages: a fixed header and attributes. What they mean is in [`crate::links`], [`crate::rules`] and
//! [`crate::routes`].

use std::{collections::BTreeMap, net::Ipv4Addr};

use netlink_packet_core::{DefaultNla, Emitable, NetlinkBuffer, NetlinkHeader, NlasIterator};

use crate::error::{Answered, Failure};

const HEADER: usize = 16;
/// Netlink aligns messages to four bytes.
const ALIGNMENT: usize = 4;

/// A request to the kernel, without its sequence number.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// `kind` is one of `RTM_*`, `flags` are `NLM_F_*`, and `header` is the fixed part that belongs to `kind`.
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Request {
        Request { kind, flags, body: header.to_vec() }
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: impl Into<Vec<u8>>) -> Request {
        self.body.extend(attribute(kind, value));
        self
    }

    /// Appends the message with its sequence number to a datagram.
    pub(crate) fn write(&self, sequence: u32, datagram: &mut Vec<u8>) {
        let mut header = NetlinkHeader::default();
        header.length = (HEADER + self.body.len()) as u32;
        header.message_type = self.kind;
        header.flags = self.flags;
        header.sequence_number = sequence;
        let start = datagram.len();
        datagram.resize(start + HEADER, 0);
        header.emit(&mut datagram[start..]);
        datagram.extend(&self.body);
        datagram.resize(datagram.len().next_multiple_of(ALIGNMENT), 0);
    }
}

/// An attribute's bytes.
pub(crate) fn attribute(kind: u16, value: impl Into<Vec<u8>>) -> Vec<u8> {
    let attribute = DefaultNla::new(kind, value.into());
    let mut bytes = vec![0; attribute.buffer_len()];
    attribute.emit(&mut bytes);
    bytes
}

/// The messages of a datagram. A message that is cut off ends it with an error.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Answered<NetlinkBuffer<&[u8]>>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let Ok(message) = NetlinkBuffer::new_checked(datagram) else {
            datagram = &[];
            return Some(Err(Failure::Garbage));
        };
        let length = (message.length() as usize).next_multiple_of(ALIGNMENT);
        datagram = datagram.get(length..).unwrap_or_default();
        Some(Ok(message))
    })
}

/// The attributes of a message by their numbers. Of two with one number the last counts.
#[derive(Debug, Default)]
pub(crate) struct Attributes<'a>(BTreeMap<u16, &'a [u8]>);

impl<'a> Attributes<'a> {
    /// Reads the attributes that follow a fixed header of `skip` bytes.
    pub(crate) fn read(message: &'a [u8], skip: usize) -> Answered<Attributes<'a>> {
        let mut found = BTreeMap::new();
        for attribute in NlasIterator::new(message.get(skip..).ok_or(Failure::Garbage)?) {
            let attribute = attribute.map_err(|_| Failure::Garbage)?;
            let (kind, length) = (attribute.kind(), attribute.value_length());
            found.insert(kind, &attribute.into_inner()[ALIGNMENT..ALIGNMENT + length]);
        }
        Ok(Attributes(found))
    }

    /// The attributes inside an attribute; none where it is missing.
    pub(crate) fn nested(&self, kind: u16) -> Answered<Attributes<'a>> {
        self.0.get(&kind).map_or(Ok(Attributes::default()), |value| Attributes::read(value, 0))
    }

    pub(crate) fn has(&self, kind: u16) -> bool {
        self.0.contains_key(&kind)
    }

    /// Whether there are no other attributes than these.
    pub(crate) fn only(&self, kinds: &[u16]) -> bool {
        self.0.keys().all(|kind| kinds.contains(kind))
    }

    pub(crate) fn bytes(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.get(&kind).copied()
    }

    pub(crate) fn u8(&self, kind: u16) -> Option<u8> {
        self.0.get(&kind)?.first().copied()
    }

    pub(crate) fn u32(&self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.0.get(&kind)?.first_chunk().copied()?))
    }

    pub(crate) fn address(&self, kind: u16) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(self.0.get(&kind)?.first_chunk::<4>().copied()?))
    }

    /// A text for people: other programs choose it, so control characters and broken UTF-8 are replaced.
    pub(crate) fn text(&self, kind: u16) -> Option<String> {
        let bytes = self.0.get(&kind)?;
        let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        let safe = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        Some(String::from_utf8_lossy(bytes).chars().map(safe).collect())
    }
}
