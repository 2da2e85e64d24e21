//! Asks a gateway's charon which keys it holds, which `swanctl` has no command for; and the agent is not to be its own witness.

use std::time::Duration;

use anyhow::{Context, Result};
use crosswan_lab::Gateway;
use crosswan_vici::{Message, Vici};

/// For each of connecting, asking and answering.
const LIMIT: Duration = Duration::from_secs(5);

/// Identifiers of the keys charon has in memory: `command` is `get-shared` for pre-shared ones, `get-keys` for private ones.
pub fn loaded(gateway: &Gateway, command: &str) -> Result<Vec<String>> {
    let answer = async {
        let mut vici = Vici::connect(&gateway.path("/run/charon.vici"), LIMIT).await?;
        vici.request(command, Message::new(), Duration::ZERO).await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(answer).with_context(|| gateway.name.clone())?;
    Ok(answer.list("keys").map(|id| id.into_owned()).collect())
}
