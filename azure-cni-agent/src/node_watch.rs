//! What is known of how the node has changed since the programs were loaded, and what the agent's tasks tell each other about it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use azure_cni_ipam::Pool;
use tokio::sync::{Notify, watch};

use crate::deviations::Deviation;

#[derive(Debug, Default)]
pub struct NodeWatch {
    /// As last observed.
    deviations: Mutex<Vec<Deviation>>,
    /// The pool that the source lists, if the programs were loaded for another.
    listed: Mutex<Option<Pool>>,
    asked: Notify,
    repaired: Notify,
    start_again: watch::Sender<Option<String>>,
}

impl NodeWatch {
    /// Hold it briefly.
    pub(crate) fn deviations(&self) -> MutexGuard<'_, Vec<Deviation>> {
        self.deviations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn listed(&self) -> Option<Pool> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The source lists a pool that takes a start; `None`: it lists the one in use.
    pub(crate) fn set_listed(&self, pool: Option<Pool>) {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if *listed != pool {
            *listed = pool;
            self.look_soon();
        }
    }

    /// Asks for a look at the node.
    pub(crate) fn look_soon(&self) {
        self.asked.notify_one();
    }

    /// Returns once [`NodeWatch::look_soon`] was called.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Something that pods' routes depend on is there again.
    pub(crate) fn hurry_reconciler(&self) {
        self.repaired.notify_one();
    }

    /// Returns once [`NodeWatch::hurry_reconciler`] was called.
    pub(crate) async fn hurried(&self) {
        self.repaired.notified().await;
    }

    /// The agent has to start again, for this reason.
    pub(crate) fn demand_start(&self, why: String) {
        self.start_again.send_replace(Some(why));
    }

    /// Returns once the agent has to start again, with the reason.
    pub async fn start_demanded(&self) -> String {
        let mut demand = self.start_again.subscribe();
        let why = demand.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        // The sender is this value's own, so there is one.
        why.unwrap_or_default()
    }
}
