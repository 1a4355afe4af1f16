//! What is in force of `[routing]`. It changes while the agent runs: by SIGHUP, and with the ip-masq-agent's directory.
//!
//! The rule: what cannot be understood changes nothing. New flows follow a change; a flow that is known keeps what was
//! decided for it.

mod follow;
mod gateway;
mod masq;
mod reload;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

pub use follow::{follow_endpoints, follow_masq_dir};
pub use gateway::{follow_gateways, gateways};
use ipnet::IpNet;
pub use masq::{MasqError, Snapshot};
pub use reload::reload;

use crate::config::RoutingConfig;

/// The configuration in force, with what `masq_dir` adds to it.
#[derive(Debug)]
pub struct Routing {
    pub config: RoutingConfig,
    /// The last look at the directory, so that the same is neither read nor reported twice.
    seen: Option<Result<Snapshot, MasqError>>,
    unmasqueraded: BTreeSet<IpNet>,
    /// Why the directory's files are not in force as they are.
    problem: Option<MasqError>,
}

/// What a look at `masq_dir` has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    Unchanged,
    Changed,
    /// What was in force stays.
    Refused(MasqError),
}

impl Routing {
    pub fn new(config: RoutingConfig) -> Self {
        Self { config, seen: None, unmasqueraded: BTreeSet::new(), problem: None }
    }

    /// What the agent starts with. Unlike later, there is nothing that could stay in force: an error ends the start, and
    /// the data path goes on with the routes of the agent before.
    pub fn at_start(config: RoutingConfig) -> Result<Self, MasqError> {
        let mut routing = Self::new(config);
        if let Some(dir) = routing.config.masq_dir.clone() {
            let read = Snapshot::read(&dir);
            if let Looked::Refused(error) = routing.take(&dir, read) {
                return Err(error);
            }
        }
        Ok(routing)
    }

    /// Takes what was read of the directory, unless another is in force by now.
    fn take(&mut self, dir: &Path, read: Result<Snapshot, MasqError>) -> Looked {
        if self.config.masq_dir.as_deref() != Some(dir) || self.seen.as_ref() == Some(&read) {
            return Looked::Unchanged;
        }
        let understood = read.as_ref().map_err(Clone::clone).and_then(Snapshot::unmasqueraded);
        self.seen = Some(read);
        match understood {
            Err(error) => {
                self.problem = Some(error.clone());
                Looked::Refused(error)
            }
            Ok(prefixes) => {
                self.problem = None;
                self.put(prefixes.unwrap_or_default())
            }
        }
    }

    fn put(&mut self, prefixes: BTreeSet<IpNet>) -> Looked {
        if self.unmasqueraded == prefixes {
            return Looked::Unchanged;
        }
        self.unmasqueraded = prefixes;
        Looked::Changed
    }

    /// Puts another configuration in force. Its `masq_dir` is to be looked at next.
    fn replace(&mut self, config: RoutingConfig) {
        let same_dir = self.config.masq_dir == config.masq_dir;
        self.config = config;
        if !same_dir {
            self.seen = None;
            self.problem = None;
        }
        if self.config.masq_dir.is_none() {
            self.unmasqueraded.clear();
        }
    }

    /// Destinations that see the pod's own address.
    pub fn vnet_prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        let configured = self.config.vnet_prefixes.iter().copied();
        configured.chain(self.unmasqueraded.iter().copied())
    }

    /// Whether the pod with this address keeps it also towards the Internet.
    pub fn has_public_address(&self, address: IpAddr) -> bool {
        self.config.public_addresses.contains(&address)
    }

    /// What an operator should mend, in a sentence.
    pub fn problem(&self) -> Option<String> {
        self.problem.as_ref().map(|error| format!("routing.masq_dir: {error}; what was read before stays in force"))
    }
}

#[cfg(test)]
mod tests;
