//! Takes what the data path reports, and names the pod.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use azure_cni_api::cni::AttachmentId;
use azure_cni_datapath::Event;

use super::Refusal;
use crate::agent::Agent;

/// How long names are taken from the last look at the records: a table that is full reports many flows at once.
const NAMES_AGE: Duration = Duration::from_secs(1);

/// Runs until the agent ends.
pub async fn follow_events(agent: Arc<Agent>) {
    let mut source = match agent.datapath.events() {
        Ok(source) => source,
        Err(error) => return tracing::error!(%error, "refused flows cannot be told, only counted"),
    };
    let mut names = Names::default();
    loop {
        let event = source.next().await;
        let pod = names.of(&agent, event.source);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut refusals = agent.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.take(refusal(event, pod), agent.now(), now.as_millis() as u64);
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
    known: HashMap<IpAddr, AttachmentId>,
    read: Option<Instant>,
}

impl Names {
    fn of(&mut self, agent: &Agent, address: IpAddr) -> Option<AttachmentId> {
        if self.read.is_none_or(|read| read.elapsed() > NAMES_AGE) {
            let named = |id: AttachmentId| move |address| (address, id.clone());
            let records = agent.records().into_iter();
            self.known = records.flat_map(|record| record.addresses.into_iter().map(named(record.id))).collect();
            self.read = Some(Instant::now());
        }
        self.known.get(&address).cloned()
    }
}
