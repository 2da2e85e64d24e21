//! The alerts and the dashboard of `docs/monitoring`, by what a real Prometheus has scraped.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

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

/// The alerts of one region, and which of them something has provoked.
pub struct Alerts<'a> {
    region: &'a Region,
    prometheus: &'a Prometheus,
    all: BTreeMap<String, String>,
    provoked: RefCell<BTreeSet<String>>,
}

impl<'a> Alerts<'a> {
    pub fn of(region: &'a Region, prometheus: &'a Prometheus) -> Result<Alerts<'a>> {
        Ok(Alerts { region, prometheus, all: alerts()?, provoked: RefCell::default() })
    }

    fn query(&self, name: &str) -> Result<&String> {
        self.provoked.borrow_mut().insert(name.to_owned());
        self.all.get(name).with_context(|| format!("no alert {name}"))
    }

    /// Waits until an alert is raised so many times.
    fn raised(&self, name: &str, times: usize) -> Result<()> {
        let query = self.query(name)?;
        eventually(UP, name, || Ok(self.prometheus.query(query)?.len() >= times))
    }

    /// Nothing is raised at a region that works.
    pub fn none_where_all_is_well(&self, gateways: &[&Gateway]) -> Result<()> {
        gateways.iter().try_for_each(|gateway| self.prometheus.measure(gateway))?;
        let before = self.prometheus.query("crosswan_look_timestamp_seconds{instance=~\"10.0.*\"}")?;
        for (name, query) in &self.all {
            let values = self.prometheus.query(query)?;
            ensure!(values.is_empty(), "{name} is raised, where all is well: {values:?}; {before:?}");
        }
        Ok(())
    }

    /// VPCs that are refused, awaited or gone from EC2's answers, a route that somebody takes, and an address that is another's. `table` is
    /// the hub VPC's private one, which leads the private network to the hub.
    pub fn of_what_ec2_says(&self, hub: &Gateway, nat: &Gateway, table: &str) -> Result<()> {
        let Alerts { region, prometheus, .. } = self;
        let lab = &region.lab;
        // Its CIDR is that of a, and then one whose gateway never boots.
        lab.add_client("c", "eu-west-1", &["10.1.0.0/16"])?;
        lab.add_client("d", "eu-west-1", &["10.3.0.0/16"])?;
        refresh_with(hub, &[], 3)?;
        prometheus.measure(hub)?;
        // Each gateway is scraped in two ways.
        self.raised("CrosswanPeersRefused", 2)?;
        self.raised("CrosswanKeysAwaited", 2)?;

        // Somebody leads the route elsewhere, and EC2 does not let the hub take it back.
        let replace = |action: &str, to: &str, target: Option<&str>| -> Result<()> {
            let route = [("RouteTableId", table), ("DestinationCidrBlock", to)];
            let target = target.map(|target| ("NetworkInterfaceId", target));
            let all: Vec<_> = route.into_iter().chain(target).collect();
            lab.ec2().call(&hub.region, action, &all)?;
            lab.sync("hub")
        };
        let interface = lab.ec2().instance(&nat.region, &nat.instance)?.interface;
        replace("ReplaceRoute", "10.0.0.0/8", Some(&interface))?;
        lab.ec2_fault(&hub.region, "ReplaceRoute", Fault::Unauthorized);
        refresh_with(hub, &[], 3)?;
        prometheus.measure(hub)?;
        self.raised("CrosswanRouteTakenAway", 2)?;
        lab.ec2_heal();
        refresh_with(hub, &[], 3)?;

        // Two answers of EC2 without any gateway: too many to believe at once.
        for region in ["eu-west-1", "ap-southeast-2"] {
            lab.ec2_fault(region, "DescribeInstances", Fault::Empty);
        }
        hub.agent(&["refresh"])?;
        refresh_with(hub, &[], 6)?;
        prometheus.measure(hub)?;
        self.raised("CrosswanPeersHeld", 2)?;
        lab.ec2_heal();

        // A gateway that no packet depends on, and that shall have an address which is not there.
        replace("DeleteRoute", "0.0.0.0/0", None)?;
        nat.set_env("CROSSWAN_ADDRESS_ALLOCATION", "eipalloc-0a1b2c3d4e5f60718");
        nat.agent(&["refresh"])?;
        prometheus.measure(nat)?;
        self.raised("CrosswanAddressAwaited", 2)
    }

    /// The kernel's table of connections is filled, to its end and further.
    pub fn of_what_the_kernel_has_no_room_for(&self, hub: &Gateway) -> Result<()> {
        // From several ports to each port of a host that does not answer.
        const FLOWS: &str = "import socket, sys\n\
                             left = int(sys.argv[2])\n\
                             while left > 0:\n  \
                               s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n  \
                               for port in range(1024, 1024 + min(left, 60000)):\n    \
                                 try: s.sendto(b'', (sys.argv[1], port))\n    \
                                 except OSError: pass\n  \
                               left -= 60000\n";
        let to = self.region.lab.internet().address.to_string();
        let of = |name: &str| -> Result<f64> {
            let text = hub.agent(&["metrics"])?.ok()?.stdout;
            let line = text.lines().find(|line| line.starts_with(&format!("crosswan_nat_conntrack_{name} ")));
            Ok(line.and_then(|line| line.rsplit(' ').next()).context("no conntrack")?.parse()?)
        };
        let fill = |part: f64| -> Result<()> {
            let flows = (of("limit")? * part).to_string();
            let flows = flows.split('.').next().unwrap_or_default();
            hub.output(Path::new("python3"), &["-c", FLOWS, &to, flows], "", Duration::from_secs(120))?.ok()?;
            self.prometheus.measure(hub)
        };
        fill(0.9)?;
        self.raised("CrosswanConntrackNearFull", 2)?;
        fill(1.2)?;
        self.raised("CrosswanConntrackDropped", 2)?;
        hub.sh("conntrack -F || true")?.ok().map(drop)
    }

    /// EC2, charon on the other ends, rules, then the programs that measure.
    pub fn of_what_breaks(&self, hub: &Gateway) -> Result<()> {
        let Alerts { region, prometheus, .. } = self;
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
        for (name, times) in [
            ("CrosswanPeerDown", 2),
            ("CrosswanAllPeersDown", 1),
            ("CrosswanRulesNotInForce", 1),
            ("CrosswanPacketsStopped", 1),
            ("CrosswanDiscoveryDown", 1),
            ("CrosswanRefreshStale", 1),
        ] {
            self.raised(name, times)?;
        }
        let later = prometheus.query_in(Duration::from_secs(240), self.query("CrosswanNotMeasured")?)?;
        ensure!(!later.is_empty(), "a file that nobody writes any more is not noticed");
        hub.stop_charon()?;
        prometheus.measure(hub)?;
        self.raised("CrosswanCharonDown", 1)?;
        // The watch has stopped long before: it reads the counters every five seconds.
        eventually(Duration::from_secs(90), "the counters are a minute old", || {
            prometheus.measure(hub)?;
            Ok(!prometheus.query(self.query("CrosswanCountersStale")?)?.is_empty())
        })
    }

    /// None was forgotten.
    pub fn are_all_provoked(&self) -> Result<()> {
        let missing: Vec<&String> = self.all.keys().filter(|name| !self.provoked.borrow().contains(*name)).collect();
        ensure!(missing.is_empty(), "nothing provokes {missing:?}");
        Ok(())
    }
}
