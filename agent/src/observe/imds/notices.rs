//! What EC2 tells this instance of its end. Nearly always it tells nothing, which IMDS says with 404.

use super::client;
use aws_config::imds::client::{Client, error::ImdsError};
use crosswan_core::{error::Result, pair::Notices};
use futures_util::future::join_all;

/// Where that stands. It keeps its session token, so that a look is one small request for each path.
#[derive(Debug)]
pub struct Board {
    client: Client,
}

impl Board {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// As of [`super::identity`], if the environment names an address that is none.
    pub fn new() -> Result<Board> {
        Board::at(None)
    }

    /// As [`Board::new`], from another address, as [`super::identity_at`].
    ///
    /// # Errors
    /// It is no address.
    pub fn at(endpoint: Option<&str>) -> Result<Board> {
        Ok(Board { client: client(endpoint)? })
    }

    /// What stands there now. Of a path that cannot be asked it is what stood there at the `last` look: silence takes nothing back.
    pub async fn look(&self, last: &Notices) -> Notices {
        let asked = Notices::PATHS.map(|path| self.client.get(format!("/latest/meta-data/{path}")));
        let mut now = last.clone();
        for (text, answer) in now.0.iter_mut().zip(join_all(asked).await) {
            match answer {
                Ok(found) => *text = Some(found.into()),
                // Not one to the request for the session token, of which a 404 says nothing.
                Err(ImdsError::ErrorResponse(answer)) if answer.response().status().as_u16() == 404 => *text = None,
                Err(_) => {}
            }
        }
        now
    }
}
