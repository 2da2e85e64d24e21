//! The running system: what charon and iptables hold at this moment.

#![allow(clippy::disallowed_methods, reason = "edge: waits for charon")]

use std::{path::Path, time::Duration};

use crate::{error::Result, host, iptables::Rules, plan::Charon, vici::Vici};

/// The bound on one request to charon or iptables.
const ASK: Duration = Duration::from_secs(10);

/// How long charon may take to open its socket.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Connects to charon, trying until `patience` ends: at boot it may be a moment away.
pub async fn connect(socket: &Path, patience: Duration) -> Result<Vici> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match Vici::connect(socket, ASK).await {
            Err(e) if tokio::time::Instant::now() >= deadline => return Err(e),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            connected => return connected,
        }
    }
}

/// What charon holds: version, connections, the ids of its secrets, SAs.
pub async fn charon(vici: &mut Vici) -> Result<Charon> {
    Ok(Charon {
        version: vici.version().await?,
        key_exchanges: vici.key_exchanges().await?,
        connections: vici.list_conns().await?,
        secrets: vici.shared_ids().await?,
        keys: vici.key_ids().await?,
        sas: vici.sas().await?,
    })
}

/// Our chains and their hooks, of all tables.
pub async fn rules() -> Result<Rules> {
    Ok(Rules::parse(&host::iptables_save(ASK).await?))
}
