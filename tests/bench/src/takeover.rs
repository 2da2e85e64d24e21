//! What benchmarks do to a member of a pair of any kind, and what the heir tells of its takeover.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crosswan_faults::pair::CUT;
use crosswan_lab::Gateway;
use serde_json::Value;

/// What is not over after so long is waited for by asking EC2 and clients, which costs time itself.
const HEALS: Duration = Duration::from_secs(5);

/// Its network is gone in one moment, and then everything that runs in it. Nothing else is done on this machine for a while: it has one
/// processor for all, and one EC2 that answers one after the other.
pub fn die(member: &Gateway) -> Result<()> {
    let ns = member.ns()?;
    ns.nft(CUT)?;
    ns.kill_all();
    std::thread::sleep(HEALS);
    Ok(())
}

/// Packets pass as long as streams run, so that it waits for nothing but the routes.
pub fn hand_over(member: &Gateway) -> Result<()> {
    let output = member.agent(&["handover", "--timeout", "60s"])?;
    ensure!(output.stdout.contains("no route leads here any more"), "{output:?}");
    Ok(())
}

/// How long EC2's calls took the heir, in seconds, of what its status says that it has taken.
pub fn calls(taken: &Value) -> Result<f64> {
    Ok(taken["calls_ms"].as_f64().context("no time of the calls")? / 1000.0)
}

/// From the last beat to the heir's decision, and EC2's calls.
pub fn phases(taken: &Value) -> String {
    format!("{} ms, {} ms", taken["silent_ms"], taken["calls_ms"])
}
