//! Asks a gateway's charon which keys it holds: `swanctl` has no command for it, and the agent should not be its own witness.
//!
//! The protocol is README.md of libcharon's vici plugin: a length, a packet type, a command's name, then key-value elements.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crosswan_lab::Gateway;

const REQUEST: u8 = 0;
const RESPONSE: u8 = 1;
const LIST_ITEM: u8 = 5;
const PATIENCE: Duration = Duration::from_secs(5);

/// Identifiers of the keys charon has in memory: `command` is `get-shared` for pre-shared ones, `get-keys` for private ones.
pub fn loaded(gateway: &Gateway, command: &str) -> Result<Vec<String>> {
    let socket = gateway.path("/run/charon.vici");
    let mut charon = UnixStream::connect(&socket).with_context(|| format!("{}: charon's socket", gateway.name))?;
    charon.set_read_timeout(Some(PATIENCE))?;
    let request = [&[REQUEST, command.len() as u8], command.as_bytes()].concat();
    charon.write_all(&(request.len() as u32).to_be_bytes())?;
    charon.write_all(&request)?;
    let mut length = [0; 4];
    charon.read_exact(&mut length).context("read charon's answer")?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    charon.read_exact(&mut answer).context("read charon's answer")?;
    ensure!(answer.first() == Some(&RESPONSE), "charon does not know {command}");
    Ok(items(&answer[1..]))
}

/// The items of the answer's only list, `keys = [ … ]`: between its start and end each is a type, a length and its bytes.
fn items(mut elements: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    // The list's start: its type, and its name with one byte of length.
    elements = elements.get(1).and_then(|name| elements.get(2 + usize::from(*name)..)).unwrap_or_default();
    while let [LIST_ITEM, high, low, rest @ ..] = elements {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((item, after)) = rest.split_at_checked(length) else { break };
        all.push(String::from_utf8_lossy(item).into_owned());
        elements = after;
    }
    all
}
