//! What a gateway's user data says to crosswan: what the document knows for sure, its mode and the private network, and the regions if
//! it lists them. The rest is the image's: a setting here overrides the image's, and a hub with fewer regions would drop the clients of
//! the others. A document's own `userdata` takes the place of this.

use std::fmt::Write as _;

use crosswan_core::model::Mode;

use super::input::Input;
use crate::document::{Secret, Way, way_of};

/// Read after what is in the image, which it overrides.
const FILE: &str = "/etc/crosswan/conf.d/50-cloudcaster.toml";
/// The tag by which a hub finds the clients' gateways, unless told otherwise.
const GATEWAYS: (&str, &str) = ("service", "nat");

impl Input<'_> {
    /// nat carries the private network, or an app does, and then nat is the hub's.
    pub(super) fn nat_mode(&self) -> Mode {
        if way_of(self.document) == Way::Nat { Mode::NatVpn } else { Mode::NatHub }
    }

    /// For cloud-init.
    pub(super) fn settings(&self, mode: Mode) -> Secret {
        let aws = &self.document.aws;
        let mut toml =
            format!("mode = {}\nprivate_net = [{}]\n", quoted(mode.as_str()), quoted(&aws.privnet.to_string()));
        if let Some(regions) = aws.regions.as_ref().filter(|_| mode.has_ipsec()) {
            let regions: Vec<String> = regions.iter().map(|region| quoted(region)).collect();
            let _ = writeln!(toml, "regions = [{}]", regions.join(", "));
        }
        // Only where it is another than crosswan's own default.
        let nat = self.document.nat.as_ref().map(|nat| (aws.svctag.as_str(), nat.svctag.as_str()));
        if let Some((key, value)) = nat.filter(|tag| mode == Mode::VpnHub && *tag != GATEWAYS) {
            let _ = writeln!(toml, "gateway_tag = {{ key = {}, value = {} }}", quoted(key), quoted(value));
        }
        let mut text = format!("#cloud-config\nwrite_files:\n- path: {FILE}\n  permissions: \"0644\"\n  content: |\n");
        for line in toml.lines() {
            let _ = writeln!(text, "    {line}");
        }
        Secret::new(text)
    }
}

/// A TOML string; what a tag may hold and TOML does not take as it is, is escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}
