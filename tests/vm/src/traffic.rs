//! What private hosts send during an upgrade: packets to each other, and new connections to the internet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use crosswan_lab::internet::ECHO;
use crosswan_lab::{Host, Lab, PingStream};

use crate::report::{Finding, losses};

/// Between two connections of a host.
const PAUSE: Duration = Duration::from_millis(250);

/// Ends on drop.
pub struct Traffic {
    streams: Vec<(String, PingStream)>,
    client: Client,
}

impl Traffic {
    /// With `tunnels` both ways between the VPCs and from the client's to the internet, else from the hub's to the internet.
    pub fn start(lab: &Lab, tunnels: bool) -> Result<Traffic> {
        let (a, hub) = (lab.host("a/host")?, lab.host("hub/host")?);
        let stream = |from: &Host, to: &Host| {
            Ok::<_, anyhow::Error>((format!("{} to {}", from.name, to.name), from.ping_stream(to.address)?))
        };
        let streams = if tunnels { vec![stream(&a, &hub)?, stream(&hub, &a)?] } else { Vec::new() };
        Ok(Traffic { streams, client: Client::start(if tunnels { a } else { hub }) })
    }

    /// No private packet may be lost. Of connections to the internet, one that began when its route moved may fail: it began with the
    /// address of a gateway that does not see its next packet. Routes move twice.
    pub fn stop(self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for (ways, stream) in self.streams {
            let report = stream.stop()?;
            findings.push((report.lost == 0 && report.sent > 20, format!("{ways}: {}", losses(&report))));
        }
        let name = self.client.host.name.clone();
        let (all, failed) = self.client.stop()?;
        findings
            .push((all > 10 && failed <= 2, format!("{name}: {failed} of {all} connections to the internet failed")));
        Ok(findings)
    }
}

/// A host that connects to the internet, again and again.
struct Client {
    host: Arc<Host>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<(u32, u32)>>,
}

impl Client {
    fn start(host: Arc<Host>) -> Client {
        let done = Arc::new(AtomicBool::new(false));
        let (from, until) = (host.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            let (mut all, mut failed) = (0, 0);
            while !until.load(Ordering::Relaxed) {
                all += 1;
                failed += u32::from(from.whoami_tcp(ECHO).is_err());
                std::thread::sleep(PAUSE);
            }
            (all, failed)
        });
        Client { host, done, thread: Some(thread) }
    }

    /// How many there were, and how many of them failed.
    fn stop(mut self) -> Result<(u32, u32)> {
        self.done.store(true, Ordering::Relaxed);
        let thread = self.thread.take().map(JoinHandle::join);
        thread.and_then(Result::ok).ok_or_else(|| anyhow!("{}: its connections panicked", self.host.name))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}
