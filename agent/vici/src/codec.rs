//! Packets and their bytes, without IO: the caller gives a [`Decoder`] what it has read, in pieces of any size.

use std::mem;

use crate::message::{Message, Value};

/// VICI's own limit on a packet, without the four bytes of length before it.
pub const MAX_PACKET: usize = 512 * 1024;
/// How deeply sections may be nested. charon's deepest answer, `list-sas`, is at four; without a limit, dropping
/// what a hostile packet describes would exhaust the stack.
pub const MAX_DEPTH: usize = 16;

/// Bytes of the length before each packet.
const HEADER: usize = 4;
/// The most bytes that are read at once: charon sends thousands of small packets in a row.
const READ: usize = 32 * 1024;

const CMD_REQUEST: u8 = 0;
const CMD_RESPONSE: u8 = 1;
const CMD_UNKNOWN: u8 = 2;
const EVENT_REGISTER: u8 = 3;
const EVENT_UNREGISTER: u8 = 4;
const EVENT_CONFIRM: u8 = 5;
const EVENT_UNKNOWN: u8 = 6;
const EVENT: u8 = 7;

const SECTION_START: u8 = 1;
const SECTION_END: u8 = 2;
const KEY_VALUE: u8 = 3;
const LIST_START: u8 = 4;
const LIST_ITEM: u8 = 5;
const LIST_END: u8 = 6;

/// What client and charon send each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// The client asks for a command.
    Request {
        /// The command's name, as in `list-sas`.
        command: String,
        /// Its arguments.
        message: Message,
    },
    /// charon's answer to a request.
    Response(Message),
    /// charon does not know the command that was asked for.
    UnknownCommand,
    /// The client wants to receive an event from now on.
    Register(String),
    /// The client no longer wants to receive it.
    Unregister(String),
    /// charon has done as a [`Packet::Register`] or [`Packet::Unregister`] asked.
    Confirm,
    /// charon does not know the event that was to be registered or unregistered.
    UnknownEvent,
    /// An event that the client has registered.
    Event {
        /// The event's name, as in `ike-updown`.
        name: String,
        /// Its content.
        message: Message,
    },
}

/// Why bytes are not a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The length before the packet is beyond [`MAX_PACKET`].
    #[error("a packet of {0} bytes exceeds VICI's limit")]
    Oversized(usize),
    /// VICI has no packet type of this number.
    #[error("unknown packet type {0}")]
    PacketType(u8),
    /// VICI has no element type of this number.
    #[error("unknown element type {0}")]
    ElementType(u8),
    /// The packet ends inside an element, a list or a section.
    #[error("a packet ends in the middle of its content")]
    Truncated,
    /// Bytes follow a packet that has no content.
    #[error("a packet has {0} bytes too many")]
    Trailing(usize),
    /// Sections are nested more deeply than [`MAX_DEPTH`].
    #[error("sections are nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// The elements before do not allow an element of this type: it is an item or an end outside a list, an end outside a section, or
    /// inside a list anything but an item.
    #[error("misplaced element of type {0}")]
    Misplaced(u8),
}

/// Why a packet cannot be encoded: something in it is longer or deeper than VICI allows. It never shows the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request has a {what} of {size}, and VICI's limit is {limit}")]
pub struct TooLarge {
    what: &'static str,
    size: usize,
    limit: usize,
}

impl Packet {
    /// Encodes the packet: its bytes with the length before them.
    pub fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        let mut out = vec![0; HEADER];
        match self {
            Packet::Request { command, message } => {
                name(CMD_REQUEST, command, &mut out)?;
                elements(message, 0, &mut out)?;
            }
            Packet::Response(message) => {
                out.push(CMD_RESPONSE);
                elements(message, 0, &mut out)?;
            }
            Packet::UnknownCommand => out.push(CMD_UNKNOWN),
            Packet::Register(event) => name(EVENT_REGISTER, event, &mut out)?,
            Packet::Unregister(event) => name(EVENT_UNREGISTER, event, &mut out)?,
            Packet::Confirm => out.push(EVENT_CONFIRM),
            Packet::UnknownEvent => out.push(EVENT_UNKNOWN),
            Packet::Event { name: event, message } => {
                name(EVENT, event, &mut out)?;
                elements(message, 0, &mut out)?;
            }
        }
        let length = within("packet", out.len() - HEADER, MAX_PACKET)?;
        out[..HEADER].copy_from_slice(&(length as u32).to_be_bytes());
        Ok(out)
    }

    /// Decodes a packet from its bytes, without the length before them.
    pub fn decode(packet: &[u8]) -> Result<Packet, Malformed> {
        let mut rest = Reader(packet);
        let decoded = match rest.byte()? {
            CMD_REQUEST => Packet::Request { command: rest.name()?, message: rest.message()? },
            CMD_RESPONSE => Packet::Response(rest.message()?),
            CMD_UNKNOWN => Packet::UnknownCommand,
            EVENT_REGISTER => Packet::Register(rest.name()?),
            EVENT_UNREGISTER => Packet::Unregister(rest.name()?),
            EVENT_CONFIRM => Packet::Confirm,
            EVENT_UNKNOWN => Packet::UnknownEvent,
            EVENT => Packet::Event { name: rest.name()?, message: rest.message()? },
            other => return Err(Malformed::PacketType(other)),
        };
        if rest.0.is_empty() { Ok(decoded) } else { Err(Malformed::Trailing(rest.0.len())) }
    }
}

fn within(what: &'static str, size: usize, limit: usize) -> Result<usize, TooLarge> {
    if size <= limit { Ok(size) } else { Err(TooLarge { what, size, limit }) }
}

/// Appends a type, the length of a name, and the name.
fn name(kind: u8, name: &str, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    let length = within("name", name.len(), u8::MAX.into())?;
    out.extend([kind, length as u8]);
    out.extend(name.as_bytes());
    Ok(())
}

/// Appends the length of a value, and the value.
fn value(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooLarge> {
    let length = within("value", value.len(), u16::MAX.into())?;
    out.extend((length as u16).to_be_bytes());
    out.extend(value);
    Ok(())
}

fn elements(message: &Message, depth: usize, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    within("section depth", depth, MAX_DEPTH)?;
    for (key, content) in message.iter() {
        match content {
            Value::Bytes(bytes) => {
                name(KEY_VALUE, key, out)?;
                value(bytes, out)?;
            }
            Value::List(items) => {
                name(LIST_START, key, out)?;
                for item in items {
                    out.push(LIST_ITEM);
                    value(item, out)?;
                }
                out.push(LIST_END);
            }
            Value::Section(section) => {
                name(SECTION_START, key, out)?;
                elements(section, depth + 1, out)?;
                out.push(SECTION_END);
            }
        }
    }
    Ok(())
}

/// What is left of a packet.
struct Reader<'p>(&'p [u8]);

impl<'p> Reader<'p> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    fn bytes(&mut self, length: usize) -> Result<&'p [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Reads a name. The protocol says that names are ASCII, but charon repeats whatever a configuration file has. Other bytes are
    /// replaced.
    fn name(&mut self) -> Result<String, Malformed> {
        let length = self.byte()?;
        Ok(String::from_utf8_lossy(self.bytes(length.into())?).into_owned())
    }

    fn value(&mut self) -> Result<Vec<u8>, Malformed> {
        let length = u16::from_be_bytes([self.byte()?, self.byte()?]);
        Ok(self.bytes(length.into())?.to_vec())
    }

    fn items(&mut self) -> Result<Vec<Vec<u8>>, Malformed> {
        let mut items = Vec::new();
        loop {
            match self.byte()? {
                LIST_ITEM => items.push(self.value()?),
                LIST_END => return Ok(items),
                other @ (SECTION_START | SECTION_END | KEY_VALUE | LIST_START) => {
                    return Err(Malformed::Misplaced(other));
                }
                other => return Err(Malformed::ElementType(other)),
            }
        }
    }

    /// Reads everything that is left. Sections that are still open wait on a stack, with their names.
    fn message(&mut self) -> Result<Message, Malformed> {
        let mut open: Vec<(Message, String)> = Vec::new();
        let mut current = Message::new();
        while !self.0.is_empty() {
            match self.byte()? {
                SECTION_START if open.len() == MAX_DEPTH => return Err(Malformed::TooDeep),
                SECTION_START => open.push((mem::take(&mut current), self.name()?)),
                SECTION_END => {
                    let (outer, name) = open.pop().ok_or(Malformed::Misplaced(SECTION_END))?;
                    let section = mem::replace(&mut current, outer);
                    current.0.push((name, Value::Section(section)));
                }
                KEY_VALUE => current.0.push((self.name()?, Value::Bytes(self.value()?))),
                LIST_START => current.0.push((self.name()?, Value::List(self.items()?))),
                other @ (LIST_ITEM | LIST_END) => return Err(Malformed::Misplaced(other)),
                other => return Err(Malformed::ElementType(other)),
            }
        }
        if open.is_empty() { Ok(current) } else { Err(Malformed::Truncated) }
    }
}

/// Finds the packets in a stream of bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    received: Vec<u8>,
    /// How many of these bytes have been decoded.
    taken: usize,
}

impl Decoder {
    /// The buffer to which the caller appends what it reads next. It has spare room, and no packets that were decoded already.
    pub fn room(&mut self) -> &mut Vec<u8> {
        self.received.drain(..self.taken);
        self.taken = 0;
        self.received.reserve(READ);
        &mut self.received
    }

    /// The next packet; `None` until all of it has been received. A malformed packet is never skipped: every later call returns the
    /// same error.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, Malformed> {
        let Some((header, rest)) = self.received[self.taken..].split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes(*header) as usize;
        if length > MAX_PACKET {
            return Err(Malformed::Oversized(length));
        }
        let Some(packet) = rest.get(..length) else { return Ok(None) };
        let packet = Packet::decode(packet)?;
        self.taken += HEADER + length;
        Ok(Some(packet))
    }
}
