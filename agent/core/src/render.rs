//! render: a decision -> whole files, byte for byte deterministic.
//!
//! Only types with a closed character set reach a template: addresses, CIDRs, ids of the model, hex. A tag's value never does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use askama::Template;
use ipnet::Ipv4Net;

use crate::{
    decide::Decided,
    error::{Error, Kind, Result},
    iptables,
    model::{Auth, ConnName, Mode, PublicKey, Secret, Tunnel},
    pair::{Beside, Members},
    system::{Files, Routing},
};

/// What the running charon can do. It decides which proposals may be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether charon has a plugin for ML-KEM. 5.9.8 refuses a whole connection for one unknown proposal; 6.0.1 without the
    /// plugin (Debian 13) negotiates ML-KEM with another such charon, fails, and never tries the next proposal.
    pub ml_kem: bool,
}

impl Capabilities {
    /// Reads the key exchange methods that charon lists over VICI.
    pub fn of(key_exchanges: &BTreeSet<String>) -> Self {
        Capabilities { ml_kem: key_exchanges.contains("ML_KEM_768") }
    }

    /// AES-GCM and PFS throughout, and first the hybrid with ML-KEM where charon knows it.
    fn ike_proposals(self) -> &'static str {
        match self.ml_kem {
            true => concat!(
                "aes256gcm16-prfsha384-x25519-ke1_mlkem768,",
                "aes256gcm16-prfsha384-x25519,aes256gcm16-prfsha384-ecp384"
            ),
            false => "aes256gcm16-prfsha384-x25519,aes256gcm16-prfsha384-ecp384",
        }
    }
    fn esp_proposals(self) -> &'static str {
        match self.ml_kem {
            true => "aes256gcm16-x25519-ke1_mlkem768,aes256gcm16-x25519,aes256gcm16-ecp384",
            false => "aes256gcm16-x25519,aes256gcm16-ecp384",
        }
    }
}

/// Renders every managed file of this mode.
///
/// # Errors
/// A template cannot be written, which is a bug.
pub fn render(mode: Mode, decision: &Decided, charon: Capabilities) -> Result<Files> {
    let rules = Some(iptables::render(&decision.nat));
    let pair = decision.pair.as_ref().map(Members::text).or_else(|| decision.beside.as_ref().map(Beside::text));
    if !mode.has_ipsec() {
        return Ok(Files { rules, pair, ..Files::default() });
    }
    let failed = |e| Error::new(Kind::Other, "render swanctl configuration").because(e);
    let connections = Connections {
        mode,
        tunnels: &decision.tunnels,
        ike_proposals: charon.ike_proposals(),
        esp_proposals: charon.esp_proposals(),
    };
    let secrets = Secrets { mode, tunnels: &decision.tunnels };
    Ok(Files {
        connections: Some(connections.render().map_err(failed)?),
        secrets: Some(secrets.render().map_err(failed)?),
        routing: Some(routing(mode, &decision.routing)),
        rules,
        pair,
    })
}

#[derive(Template)]
#[template(path = "swanctl.conf", escape = "none")]
struct Connections<'a> {
    mode: Mode,
    tunnels: &'a BTreeMap<ConnName, Tunnel>,
    ike_proposals: &'static str,
    esp_proposals: &'static str,
}

#[derive(Template)]
#[template(path = "swanctl-secrets.conf", escape = "none")]
struct Secrets<'a> {
    mode: Mode,
    tunnels: &'a BTreeMap<ConnName, Tunnel>,
}

/// The file of interfaces, rules and routes.
fn routing(mode: Mode, routing: &Routing) -> String {
    format!(
        "# Written by `crosswan refresh` ({mode}) for `ip -force -batch`: the interfaces of the tunnels, and what leads packets into \
         them.\n# Change the settings instead of this file, which a refresh overwrites.\n{routing}"
    )
}

/// Selectors as swanctl reads them: `10.1.0.0/16,10.2.0.0/16`, in order.
fn list(cidrs: &BTreeSet<Ipv4Net>) -> String {
    cidrs.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(",")
}

/// Public keys as swanctl reads them without a file each: `0s` and base64.
fn keys(keys: &[PublicKey]) -> String {
    keys.iter().map(|key| format!("0s{key}")).collect::<Vec<_>>().join(",")
}

/// A secret as `0x…`, so that none of its bytes can be mistaken for syntax.
fn hex(secret: &Secret) -> String {
    secret.bytes().iter().fold(String::from("0x"), |mut out, byte| {
        let _ = write!(out, "{byte:02x}"); // writing to a String cannot fail
        out
    })
}
