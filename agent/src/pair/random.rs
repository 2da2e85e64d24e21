//! Random bytes: numbers of processes, and what nobody may guess.

use ring::rand::{SecureRandom, SystemRandom};

use crosswan_core::error::{Error, Kind, Result};

/// So many of them.
///
/// # Errors
/// The kernel gives none.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::new(Kind::Other, "start: the kernel returns no random bytes"))?;
    Ok(bytes)
}
