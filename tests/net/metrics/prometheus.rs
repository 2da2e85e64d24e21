//! A real Prometheus on the hub VPC's host, which scrapes gateways over the private network.

use std::{
    fmt::Write,
    fs,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use crosswan_lab::{Gateway, Host, Process};

use super::log;
use crate::region::{Region, agent, eventually, show};

/// Where Prometheus itself listens, in its host's network.
const AT: &str = "http://127.0.0.1:9090";
/// A scrape each second, and the start of a program of 100 MB on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

const TARGETS: &str =
    "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9090/api/v1/targets').read().decode())";

pub struct Prometheus {
    host: Arc<Host>,
    _process: Process,
}

impl Prometheus {
    /// Starts it, and on each gateway both ways out: node_exporter with the file, and the socket.
    pub fn of(region: &Region, gateways: &[&Arc<Gateway>]) -> Result<Prometheus> {
        let mut config = String::from("global: { scrape_interval: 1s, scrape_timeout: 1s }\nscrape_configs:\n");
        for (job, port) in [("crosswan", 9917), ("node", 9100)] {
            let targets: Vec<String> = gateways.iter().map(|gateway| format!("'{}:{port}'", gateway.address)).collect();
            writeln!(config, "- {{ job_name: {job}, static_configs: [{{ targets: [{}] }}] }}", targets.join(", "))?;
        }
        for gateway in gateways {
            let address = gateway.address;
            gateway.sh(&format!(
                "install -m 755 {} /run/agent && mkdir -p /run/textfile && ln -sf ../crosswan/crosswan.prom /run/textfile && \
                 {{ systemd-socket-activate --accept --inetd --listen={address}:9917 /run/agent metrics --serve & \
                 prometheus-node-exporter --web.listen-address={address}:9100 --collector.disable-defaults \
                 --collector.textfile --collector.textfile.directory=/run/textfile & }} >/run/exporters.log 2>&1 </dev/null",
                agent()?.display()
            ))?
            .ok()?;
        }
        let dir = region.lab.dir();
        fs::write(dir.join("prometheus.yml"), config)?;
        let host = region.lab.host("hub/host")?;
        let flags = [
            format!("--config.file={}", dir.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", dir.join("tsdb").display()),
            "--web.listen-address=127.0.0.1:9090".into(),
        ];
        let process =
            host.ns.start("prometheus", &flags.each_ref().map(String::as_str), log(region, "prometheus.log")?)?;
        Ok(Prometheus { host, _process: process })
    }

    /// What crosswan-metrics.timer does.
    pub fn measure(&self, gateway: &Gateway) -> Result<()> {
        gateway.agent(&["metrics", "--write"])?.ok().map(drop)
    }

    /// The values that a query gives now, without their labels.
    pub fn query(&self, query: &str) -> Result<Vec<f64>> {
        self.query_in(Duration::ZERO, query)
    }

    /// As [`Prometheus::query`], as it would be later if nothing were scraped until then; at most five minutes.
    pub fn query_in(&self, later: Duration, query: &str) -> Result<Vec<f64>> {
        let at = (SystemTime::now().duration_since(UNIX_EPOCH)? + later).as_secs_f64();
        let output = self.host.exec("promtool", &["query", "instant", &format!("--time={at}"), AT, query])?;
        // `{labels} => 1 @[1700000000]`, or `scalar: 1 @[…]`.
        let value = |line: &str| line.rsplit_once(" @[")?.0.rsplit(' ').next()?.parse().ok();
        let values: Vec<f64> = output.stdout.lines().filter_map(value).collect();
        ensure!(output.code == 0, "{query}: {}", show(&output));
        Ok(values)
    }

    /// Waits until a query gives one value.
    pub fn wait_for(&self, query: &str, expected: f64) -> Result<()> {
        let mut last = None;
        let waited = eventually(PATIENCE, query, || {
            last = self.query(query).ok();
            Ok(last.as_ref().is_some_and(|values| values[..] == [expected]))
        });
        // Its page of targets says why one could not be scraped.
        let targets = || self.host.exec("python3", &["-c", TARGETS]).map_or_else(|e| e.to_string(), |all| all.stdout);
        waited.map_err(|e| e.context(format!("{query} gave {last:?}, not {expected}\n{}", targets())))
    }
}
