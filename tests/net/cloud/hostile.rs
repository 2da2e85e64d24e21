//! Tags that anyone in the account may set: they never reach a file, a log or a status, and harm nobody.

use anyhow::{Result, ensure};
use crosswan_lab::Gateway;

use super::{
    ELSEWHERE, ensure_no_steps, has_tunnel, ids,
    paper::{Paper, Spec},
    standard,
    watch::Watch,
    why,
};
use crate::region::{lines, refresh, show};

/// In every hostile text, to look for.
const MARK: &str = "zyzzyva";

#[test]
fn hostile_tags_never_reach_a_file_a_log_or_a_status() -> Result<()> {
    let region = standard()?;
    let lab = &region.lab;
    let (hub, gateway_a) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let [a, own] = ids(lab, ["a", "hub"])?;
    let pairs = [("a/host", "b/host"), ("b/host", "hub/host"), ("hub/host", "a/host")];
    let watch = Watch::over(&region, &pairs)?;
    let values = [
        format!("{MARK}\n}}\nconnections {{ evil {{ remote_addrs = %any }} }}"),
        format!("\"{MARK}' `reboot` $(touch /run/{MARK}) ; rm -rf / #"),
        format!("\u{9b}2J\u{9b}31m{MARK}\u{85}\r\u{202e}ψ\u{0301}🜂\u{feff}"),
        format!("{MARK}{}", "x".repeat(256 - MARK.len())),
        format!("../../../../etc/{MARK}"),
        format!("{MARK} include /etc/shadow"),
    ];
    // On a gateway that carries packets, and on newcomers.
    let keys = ["Name", "env", "hub", "crosswan:pubkey", "aws_x", "a\nb"];
    for (key, value) in keys.iter().zip(&values) {
        lab.tag(&gateway_a, key, Some(value))?;
    }
    ensure_no_steps(&refresh(&hub)?)?;
    let mut newcomers = Vec::new();
    for (n, value) in values.iter().enumerate() {
        let cidr = format!("10.{}.0.0/16", 80 + n);
        let tags = [("service", "nat"), ("Name", value.as_str()), (value.as_str(), value.as_str())];
        // EC2 allows 128 characters in a key.
        let tags = if value.len() > 128 { &tags[..2] } else { &tags[..] };
        let spec = Spec { region: ELSEWHERE, cidrs: &[&cidr], address: Some(200 + n as u8), tags };
        newcomers.push(Paper::new(lab, spec)?);
    }
    // Tags that would match were the filter's value a pattern, or compared loosely.
    let mut strangers = Vec::new();
    for (n, value) in ["*", "nat*", "n?t", "NAT", " nat", "nat ", "nat\n", "nat,nat", "\\nat"].into_iter().enumerate() {
        let cidr = format!("10.{}.0.0/16", 100 + n);
        let spec =
            Spec { region: ELSEWHERE, cidrs: &[&cidr], address: Some(220 + n as u8), tags: &[("service", value)] };
        strangers.push(Paper::new(lab, spec)?);
    }
    let report = refresh(&hub)?;
    for paper in &newcomers {
        ensure!(has_tunnel(&report, &paper.vpc), "{report:#}");
    }
    for paper in &strangers {
        ensure!(!report.to_string().contains(&paper.vpc), "{report:#}");
    }
    let notes = lines(&report, "notes");
    ensure!(notes.iter().all(|note| note.contains("source/destination check is unknown")), "{notes:?}");
    ensure!(lines(&report, "problems").is_empty(), "{report:#}");
    // Not even with the right tag is a gateway in the hub's own VPC a peer, or one that a settings file could forge.
    ensure!(!has_tunnel(&report, &own), "{report:#}");

    // There is no trace in files, in charon, in output and logs, as text or as JSON.
    let found =
        hub.sh(&format!("grep -rlI {MARK} /etc/swanctl /etc/crosswan /var/lib/crosswan /run/crosswan; true"))?;
    ensure!(found.stdout.is_empty(), "in files: {}", found.stdout);
    ensure!(!crate::region::exists(&hub, &format!("/run/{MARK}")));
    for args in
        [&["refresh"][..], &["refresh", "--json"], &["refresh", "--dry-run", "-vv"], &["status"], &["status", "--json"]]
    {
        let output = hub.agent(args)?;
        // The newcomers' tunnels are down, and status says so.
        ensure!(output.code == if args[0] == "status" { 8 } else { 0 }, "{args:?}: {}", show(&output));
        // The trace of -vv holds what came over the wire; that is what it is for.
        let said = if args.contains(&"-vv") { output.stdout.clone() } else { output.stdout.clone() + &output.stderr };
        ensure!(!said.contains(MARK) && !said.contains('\u{1b}') && !said.contains("evil"), "{args:?}: {said}");
    }
    for list in ["--list-conns", "--list-sas"] {
        let listed = hub.swanctl(&[list])?;
        ensure!(!listed.contains(MARK) && !listed.contains("evil"), "{listed}");
    }
    ensure!(!hub.charon_log().contains(MARK));
    ensure!(why(&report, "refused", &a).is_none(), "{report:#}");
    // A character that XML cannot hold makes the region's whole answer unreadable, so the region counts as not asked.
    newcomers[0].tag(lab, "Name", Some(&format!("\u{1b}[31m{MARK}")))?;
    let output = hub.agent(&["refresh"])?;
    ensure!(output.code == 3 && output.stdout.contains("its last good answer stands"), "{}", show(&output));
    let said = output.stdout + &output.stderr;
    ensure!(!said.contains(MARK) && !said.contains('\u{1b}'), "{said}");
    a_wildcard_in_the_settings_is_refused(&hub)?;
    watch.undisturbed("tags were hostile")
}

fn a_wildcard_in_the_settings_is_refused(hub: &Gateway) -> Result<()> {
    for value in ["*", "n?t", "na\\\\t"] {
        let text = format!("gateway_tag = {{ key = \"service\", value = \"{value}\" }}\n");
        hub.write_file("/etc/crosswan/conf.d/60-wild.toml", &text, 0o644)?;
        let output = hub.agent(&["refresh"])?;
        ensure!(output.code == 2 && output.stderr.contains("60-wild.toml"), "{}", show(&output));
    }
    Ok(())
}
