//! Frames between the program that boots the kernel and its first process: one byte of kind, four of length, then the contents.
//!
//! The line between them is a serial line in raw mode: it carries any byte and waits for its reader, but has no end of file.

use std::io::{self, Read, Write};

/// What a frame is about. Outwards: outputs, the end, and the wish for input. Inwards: input, its end, signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The first process is there.
    Hello = b'h',
    /// Bytes of standard output.
    Stdout = b'o',
    /// Bytes of standard error.
    Stderr = b'e',
    /// The program has taken the last input and could take more.
    More = b'm',
    /// The program's end: its exit code, four bytes.
    Exit = b'x',
    /// The program could not be started; the reason.
    Failed = b'f',
    /// Bytes of standard input; none is its end.
    Stdin = b'i',
    /// A signal for the program's process group: its number, four bytes.
    Signal = b's',
    /// Nobody reads standard output any more.
    Closed = b'c',
    /// The end was heard; the kernel can be switched off.
    Off = b'q',
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Hello,
        Kind::Stdout,
        Kind::Stderr,
        Kind::More,
        Kind::Exit,
        Kind::Failed,
        Kind::Stdin,
        Kind::Signal,
        Kind::Closed,
        Kind::Off,
    ];
}

/// Longest contents: what a serial line's buffers hold.
pub const CHUNK: usize = 4096;

/// Writes one frame in one call.
pub fn send(mut line: impl Write, kind: Kind, contents: &[u8]) -> io::Result<()> {
    for part in if contents.is_empty() { vec![contents] } else { contents.chunks(CHUNK).collect() } {
        let mut frame = Vec::with_capacity(5 + part.len());
        frame.push(kind as u8);
        frame.extend((part.len() as u32).to_le_bytes());
        frame.extend(part);
        line.write_all(&frame)?;
    }
    Ok(())
}

/// Reads one frame; an error at the line's end and when bytes came that are no frame.
pub fn receive(mut line: impl Read) -> io::Result<(Kind, Vec<u8>)> {
    let mut head = [0; 5];
    line.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
    let length = u32::from_le_bytes(length) as usize;
    let (Some(kind), true) = (kind, length <= CHUNK) else {
        return Err(io::Error::other("the kernel's serial line garbled a frame"));
    };
    let mut contents = vec![0; length];
    line.read_exact(&mut contents)?;
    Ok((kind, contents))
}

/// A number of four bytes, as in [`Kind::Exit`].
pub fn number(contents: &[u8]) -> Option<i32> {
    Some(i32::from_le_bytes(contents.try_into().ok()?))
}
