//! Reads the refused flows that the data path reports, and finds the pod of each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use azure_cni_api::cni::AttachmentId;
use azure_cni_datapath::Event;

use crate::agent::Agent;
use crate::refusals::Refusal;
use crate::wall_clock::unix_ms;

/// How long the names that were read from the records are used: a full table reports many flows at once.
const MAX_NAMES_AGE: Duration = Duration::from_secs(1);

/// Runs until the agent ends.
pub(super) async fn watch_refusals(agent: Arc<Agent>) {
    let mut source = match agent.datapath.events() {
        Ok(source) => source,
        Err(error) => return tracing::error!(%error, "refused flows are counted only: their events cannot be read"),
    };
    let mut names = Names::default();
    loop {
        let event = source.next().await;
        let pod = names.of(&agent, event.source);
        let count = event.count.into();
        let mut refusals = agent.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.add(refusal(event, pod), count, agent.now(), unix_ms());
    }
}

fn refusal(event: Event, pod: Option<AttachmentId>) -> Refusal {
    Refusal {
        pod,
        source: event.source,
        destination: event.destination,
        destination_port: event.destination_port,
        protocol: event.protocol,
        reason: event.reason,
    }
}

/// Which attachment has which address.
#[derive(Default)]
struct Names {
    by_address: HashMap<IpAddr, AttachmentId>,
    read_at: Option<Instant>,
}

impl Names {
    fn of(&mut self, agent: &Agent, address: IpAddr) -> Option<AttachmentId> {
        if self.read_at.is_none_or(|read_at| read_at.elapsed() > MAX_NAMES_AGE) {
            let named = |id: AttachmentId| move |address| (address, id.clone());
            let records = agent.records().into_iter();
            self.by_address = records.flat_map(|record| record.addresses.into_iter().map(named(record.id))).collect();
            self.read_at = Some(Instant::now());
        }
        self.by_address.get(&address).cloned()
    }
}
