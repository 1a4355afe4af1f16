//! The `[routing]` in force. It changes while the agent runs: on SIGHUP, and with the ip-masq-agent's directory.
//!
//! The rule: input that cannot be understood changes nothing. A change is for new flows; existing flows keep what was decided
//! for them.

mod gateway;
mod masq;
mod room;
mod services;
mod table;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

pub use gateway::gateways;
use ipnet::IpNet;
pub use masq::{MasqError, Snapshot};
pub use room::{Fitted, fit, problem as room_problem};
pub use services::Services;
pub use table::{PLATFORM_ROUTES, Surroundings, apart, platform_routes};

use crate::config::RoutingConfig;

/// The configuration in force, with what `masq_dir` adds to it.
#[derive(Debug)]
pub struct Routing {
    pub config: RoutingConfig,
    /// What was last read of the directory, so that the same content is neither parsed nor reported twice.
    last_read: Option<Result<Snapshot, MasqError>>,
    unmasqueraded: BTreeSet<IpNet>,
    /// Why the directory's files are not in force as they are.
    problem: Option<MasqError>,
}

/// What a new reading of `masq_dir` has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasqDirUpdate {
    Unchanged,
    Changed,
    /// What was in force stays.
    Refused(MasqError),
}

impl Routing {
    pub fn new(config: RoutingConfig) -> Self {
        Self { config, last_read: None, unmasqueraded: BTreeSet::new(), problem: None }
    }

    /// The routing of the start. Nothing is in force yet that could stay so, so an error ends the start; the data path goes
    /// on with the routes of the agent before.
    pub fn at_start(config: RoutingConfig) -> Result<Self, MasqError> {
        let mut routing = Self::new(config);
        if let Some(dir) = routing.config.masq_dir.clone() {
            let read = Snapshot::read(&dir);
            if let MasqDirUpdate::Refused(error) = routing.update_masq_dir(&dir, read) {
                return Err(error);
            }
        }
        Ok(routing)
    }

    /// Applies what was read of the directory, unless another directory is configured by now.
    pub(crate) fn update_masq_dir(&mut self, dir: &Path, read: Result<Snapshot, MasqError>) -> MasqDirUpdate {
        if self.config.masq_dir.as_deref() != Some(dir) || self.last_read.as_ref() == Some(&read) {
            return MasqDirUpdate::Unchanged;
        }
        let parsed = read.as_ref().map_err(Clone::clone).and_then(Snapshot::unmasqueraded);
        self.last_read = Some(read);
        match parsed {
            Err(error) => {
                self.problem = Some(error.clone());
                MasqDirUpdate::Refused(error)
            }
            Ok(prefixes) => {
                self.problem = None;
                self.set_unmasqueraded(prefixes.unwrap_or_default())
            }
        }
    }

    fn set_unmasqueraded(&mut self, prefixes: BTreeSet<IpNet>) -> MasqDirUpdate {
        if self.unmasqueraded == prefixes {
            return MasqDirUpdate::Unchanged;
        }
        self.unmasqueraded = prefixes;
        MasqDirUpdate::Changed
    }

    /// Puts another configuration in force. The caller reads its `masq_dir` next.
    pub(crate) fn replace(&mut self, config: RoutingConfig) {
        let same_dir = self.config.masq_dir == config.masq_dir;
        self.config = config;
        if !same_dir {
            self.last_read = None;
            self.problem = None;
        }
        if self.config.masq_dir.is_none() {
            self.unmasqueraded.clear();
        }
    }

    /// Prefixes that the files of `masq_dir` add.
    pub(crate) fn unmasqueraded(&self) -> &BTreeSet<IpNet> {
        &self.unmasqueraded
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

    /// What an operator should repair, in a sentence.
    pub fn problem(&self) -> Option<String> {
        self.problem.as_ref().map(|error| format!("routing.masq_dir: {error}; what was read before stays in force"))
    }
}

#[cfg(test)]
mod tests;
