//! What cloudcaster tells gateways, and takes for granted of them, against crosswan's own settings.

use std::{collections::BTreeMap, path::Path};

use cloudcaster::{decide::decide, document::Document, plan::MANAGED};
use crosswan_core::{
    model::Mode,
    settings::{Flags, Settings, Sources, TomlFile},
};
use serde_json::json;

use crate::{
    documents::{CLIENT, HUB, read, value, with},
    properties::region,
};

/// What crosswan makes of a gateway's user data, beside an image's own settings.
fn settings(document: &Document, mode: Mode) -> Settings {
    let decision = decide(document, &BTreeMap::new(), &region("example-empty-region"));
    let mut texts = decision.texts.values().map(|text| text.reveal());
    let text = texts.find(|t| t.contains(&format!("mode = \"{mode}\"\n"))).expect("the mode's settings");
    let (head, body) = text.split_once("  content: |\n").expect("a file");
    assert!(
        head.starts_with("#cloud-config\nwrite_files:\n- path: /etc/crosswan/conf.d/50-cloudcaster.toml\n"),
        "{head}"
    );
    let toml = |name: &str, text: String| TomlFile { path: Path::new(name).to_owned(), text };
    let image = "mode = \"nat-hub\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [\"eu-west-1\"]\n";
    let body = body.lines().map(|line| line.trim_start().to_owned() + "\n").collect();
    let (env, flags) = (BTreeMap::new(), Flags::default());
    let toml = vec![toml("image", image.to_owned()), toml("50-cloudcaster.toml", body)];
    let sources = Sources { root: Path::new("/"), toml, env: &env, flags: &flags };
    Settings::of(&sources, |_| Ok(None)).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn regions(settings: &Settings) -> Vec<&str> {
    settings.regions.iter().map(|region| region.as_str()).collect()
}

#[test]
fn crosswan_reads_what_each_gateway_is_told() {
    for (document, mode) in [(HUB, Mode::VpnHub), (HUB, Mode::NatHub), (CLIENT, Mode::NatVpn)] {
        let told = settings(&read(document), mode);
        assert_eq!(told.mode, mode);
        assert_eq!(told.private_net, [read(document).aws.privnet].into());
        let image: &[&str] = if mode.has_ipsec() { &["eu-west-1"] } else { &[] };
        assert_eq!(regions(&told), image, "the image knows the regions");
        let listed = with(&value(document), "/aws/regions", json!(["us-west-2", "ap-southeast-2"]));
        let told = settings(&read(&listed.to_string()), mode);
        let expected: &[&str] = if mode.has_ipsec() { &["ap-southeast-2", "us-west-2"] } else { &[] };
        assert_eq!(regions(&told), expected, "{mode}");
    }
    // A tag that is not the default, with a character that TOML must not take as it is.
    let other = with(&value(HUB), "/nat/svctag", json!("na\"t"));
    let tag = settings(&read(&other.to_string()), Mode::VpnHub).gateway_tag;
    assert_eq!((tag.key.as_str(), tag.value.as_str()), ("service", "na\"t"));
}

#[test]
fn the_tag_of_the_gateways_tables_is_crosswans_default() {
    let tag = settings(&read(CLIENT), Mode::NatVpn).routes_tag;
    assert_eq!((tag.key.as_str(), tag.value.as_str()), MANAGED);
}
