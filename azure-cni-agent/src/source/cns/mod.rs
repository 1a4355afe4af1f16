//! azure-cns gives each attachment its addresses, and takes them back.
//!
//! The rule: before it is asked for an address, the claim is on the disk, and stays there until the release was delivered.
//! A claim without a lease is a release that is owed; so whatever happens, `kill -9` at any point included, no address
//! stays claimed for nobody, and no DEL waits for the server.

mod claims;
mod client;
mod error;
mod lease;
mod settle;

pub use claims::Claims;
pub use client::CnsClient;
pub use error::CnsError;
pub use lease::lease;
pub use settle::settle;
use tokio::sync::Notify;

use crate::config::AgentConfig;

/// The server as this agent uses it.
#[derive(Debug)]
pub struct Cns {
    client: CnsClient,
    claims: Claims,
    /// A release may be owed.
    owed: Notify,
}

impl Cns {
    pub fn new(config: &AgentConfig) -> Self {
        let claims = Claims::in_dir(config.state_dir.join("cns"));
        Self { client: CnsClient::new(&config.pool), claims, owed: Notify::new() }
    }

    /// A lease has ended; its release is delivered in the background.
    pub fn owe(&self) {
        self.owed.notify_one();
    }
}
