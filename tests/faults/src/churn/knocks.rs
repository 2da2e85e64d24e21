//! A flood of knocks: IKE_SA_INIT from addresses that the hub does not know, on a thread of its own.

use std::{
    fs::File,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use crosswan_lab::Gateway;

use crate::{
    faults::packets::{Forger, ike_sa_init, udp},
    region::Region,
};

/// Knocks a second. The fault `knocks` sends ten times as many, for a short time and while nothing else happens.
const RATE: u32 = 1_000;

pub struct Knocks {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Knocks {
    /// Begins.
    pub fn at(region: &Region, hub: &Gateway) -> Result<Knocks> {
        let hub = hub.public().context("the hub's address")?;
        let forger = Forger::new(&region.lab.internet().ns)?;
        let request = ike_sa_init(&mut File::open("/dev/urandom")?)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (began, mut sent) = (Instant::now(), 0_u32);
            while !stopped.load(Ordering::Relaxed) {
                let [_, high, middle, low] = sent.to_be_bytes();
                let from = Ipv4Addr::new(198, 18 + (high & 1), middle, low);
                forger.send(&udp((from, 500), (hub, 500), &request))?;
                sent += 1;
                thread::sleep((Duration::from_secs(1) / RATE * sent).saturating_sub(began.elapsed()));
            }
            Ok(u64::from(sent))
        });
        Ok(Knocks { stop, thread })
    }

    /// Ends, and returns how many were sent.
    pub fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the flood has panicked"))?
    }
}
