//! The alerts and the dashboard of `docs/monitoring`, by what a real Prometheus has scraped.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Fault, Gateway};
use serde_json::Value;

use super::{is_up, prometheus::Prometheus};
use crate::region::{Region, UP, eventually, refresh_with, status};

fn read(name: &str) -> Result<String> {
    Ok(fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring").join(name))?)
}

/// The alerts' expressions by their names.
fn alerts() -> Result<BTreeMap<String, String>> {
    let text = read("alerts.yml")?;
    let rules = text.split("- alert: ").skip(1).map(|rule| {
        let (name, rest) = rule.split_once('\n').context("an alert without a line")?;
        let (_, rest) = rest.split_once("expr: ").with_context(|| format!("{name} has no expression"))?;
        let end = rest.find("labels:").into_iter().chain(rest.find("for:")).min().context("no label")?;
        Ok((name.to_owned(), rest[..end].trim_start_matches('>').split_whitespace().collect::<Vec<_>>().join(" ")))
    });
    rules.collect()
}

/// Every query of the dashboard has data.
pub fn dashboard_has_data(prometheus: &Prometheus) -> Result<()> {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")?)?;
    let mut queries = 0;
    for panel in dashboard["panels"].as_array().context("no panels")? {
        for target in panel["targets"].as_array().context("no targets")? {
            let query = target["expr"].as_str().context("no expression")?;
            let query = query.replace("$gateway", ".*").replace("$__rate_interval", "10s");
            ensure!(!query.contains('$'), "{query}");
            eventually(UP, &query, || Ok(!prometheus.query(&query)?.is_empty()))?;
            queries += 1;
        }
    }
    ensure!(queries > 10, "{dashboard:#}");
    Ok(())
}

/// Nothing is raised at a region that works; then a good part of it is broken, and each alert that this is for is raised. The others are
/// tested with promtool alone.
pub fn are_raised_by_what_they_are_for(region: &Region, hub: &Gateway, prometheus: &Prometheus) -> Result<()> {
    let alerts = alerts()?;
    prometheus.measure(hub)?;
    let before = prometheus.query("crosswan_look_timestamp_seconds{instance=~\"10.0.*\"}")?;
    for (name, query) in &alerts {
        let values = prometheus.query(query)?;
        ensure!(values.is_empty(), "{name} is raised, where all is well: {values:?}; {before:?}");
    }

    region.lab.ec2_fault("eu-west-1", "*", Fault::Unauthorized);
    refresh_with(hub, &[], 3)?;
    hub.sh("touch -d '3 hours ago' /run/crosswan/last-success")?.ok()?;
    for spoke in ["a/nat-vpn", "b/nat-vpn"] {
        region.gateway(spoke)?.stop_charon()?;
    }
    eventually(UP, "both tunnels are down", || {
        let status = status(hub)?;
        Ok(status["tunnels"].as_array().is_some_and(|all| all.iter().all(|tunnel| tunnel["up"] == false)))
    })?;
    ensure!(!is_up(hub)?);
    hub.sh("iptables -P FORWARD DROP && iptables -F CROSSWAN-GUARD")?.ok()?;
    prometheus.measure(hub)?;
    let raised = |name: &str, times: usize| {
        let query = alerts.get(name).with_context(|| format!("no alert {name}"))?;
        eventually(UP, name, || Ok(prometheus.query(query)?.len() >= times))
    };
    for (name, times) in [
        ("CrosswanPeerDown", 2),
        ("CrosswanAllPeersDown", 1),
        ("CrosswanRulesNotInForce", 1),
        ("CrosswanPacketsStopped", 1),
        ("CrosswanDiscoveryDown", 1),
        ("CrosswanRefreshStale", 1),
    ] {
        raised(name, times)?;
    }
    let later = prometheus.query_in(Duration::from_secs(240), &alerts["CrosswanNotMeasured"])?;
    ensure!(!later.is_empty(), "a file that nobody writes any more is not noticed");
    hub.stop_charon()?;
    prometheus.measure(hub)?;
    raised("CrosswanCharonDown", 1)
}
