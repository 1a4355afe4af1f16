//! GC: frees the attachments of a network that the runtime no longer knows. Goes on past errors and reports them.
//!
//! The rule: the runtime made its list before it called. Attachments added since are not in it and are kept.

use std::sync::Arc;

use azure_cni_api::boot_time::BootTime;
use azure_cni_api::cni::{AttachmentId, CniError, GcCall};

use super::del::detach;
use super::lock::lock;
use super::step_runner::StepRunner;
use crate::agent::Agent;
use crate::state::AttachmentRecord;

/// Frees every attachment of this network that is not in the list and stood when the runtime made the call.
pub async fn collect(
    agent: &Arc<Agent>,
    call: &GcCall,
    requested_at: BootTime,
    steps: &mut StepRunner,
) -> Result<(), CniError> {
    let records = agent.records();
    let stale = records.into_iter().filter(|record| is_stale(record, call, requested_at));
    let mut failures = Vec::new();
    for record in stale {
        match free(agent, &record.id, call, requested_at, steps).await {
            Ok(true) => tracing::info!(attachment = %record.id, "not known to the runtime any more; freed"),
            Ok(false) => {}
            Err(error) => failures.push((record.id, error)),
        }
    }
    combined(failures)
}

/// Frees one attachment. Checks again under the lock, as an ADD or a DEL may have held it before. False if there was
/// nothing to free.
async fn free(
    agent: &Arc<Agent>,
    id: &AttachmentId,
    call: &GcCall,
    requested_at: BootTime,
    steps: &mut StepRunner,
) -> Result<bool, CniError> {
    let _lock = lock(agent, id, steps).await?;
    let record = agent.record(id);
    if !record.is_some_and(|record| is_stale(&record, call, requested_at)) {
        return Ok(false);
    }
    detach(agent, id, steps).await.map(|()| true)
}

fn is_stale(record: &AttachmentRecord, call: &GcCall, requested_at: BootTime) -> bool {
    record.id.network == call.network.name
        && !call.valid_attachments.contains(&record.id)
        && record.recorded_at < requested_at
}

/// One error that names every attachment that is still there, with the code of the first.
fn combined(failures: Vec<(AttachmentId, CniError)>) -> Result<(), CniError> {
    let Some((_, first)) = failures.first() else { return Ok(()) };
    let ids: Vec<String> = failures.iter().map(|(id, _)| id.to_string()).collect();
    let texts: Vec<String> = failures.iter().map(|(id, error)| format!("{id}: {error}")).collect();
    let msg = format!("{} attachments could not be freed: {}", failures.len(), ids.join(", "));
    Err(CniError::new(first.code, msg).with_details(texts.join("; ")))
}

#[cfg(test)]
mod tests {
    use azure_cni_api::spool::SpooledRequest;

    use super::*;
    use crate::state::sample::record;

    const ASKED: BootTime = BootTime::from_nanos(100);

    fn stale(record: &AttachmentRecord, valid: &[&AttachmentRecord]) -> bool {
        let valid = valid.iter().map(|record| record.id.clone()).collect();
        is_stale(record, &SpooledRequest::to_gc("azure".parse().unwrap(), valid), ASKED)
    }

    #[test]
    fn only_what_is_of_this_network_and_not_in_the_list_is_stale() {
        let (mut kept, known, unknown) = (record("kept"), record("known"), record("unknown"));
        kept.id.network = "other".parse().unwrap();
        assert_eq!([&kept, &known, &unknown].map(|record| stale(record, &[&known])), [false, false, true]);
        let mut other_interface = record("known");
        other_interface.id.ifname = "net1".parse().unwrap();
        assert!(stale(&other_interface, &[&known]));
    }

    #[test]
    fn what_was_made_since_the_runtime_asked_is_kept_also_if_it_was_asked_for_before() {
        for (requested_at, recorded_at, expected) in [(0, 0, true), (98, 99, true), (99, 100, false), (101, 102, false)]
        {
            let record = AttachmentRecord {
                requested_at: BootTime::from_nanos(requested_at),
                recorded_at: BootTime::from_nanos(recorded_at),
                ..record("a")
            };
            assert_eq!(stale(&record, &[]), expected, "{requested_at} {recorded_at}");
        }
    }

    #[test]
    fn every_failure_is_named_and_the_code_is_the_first_ones() {
        assert_eq!(combined(vec![]), Ok(()));
        let failures = vec![
            (record("a").id, CniError::io("disk")),
            (record("b").id, CniError::internal("program").with_details("busy")),
        ];
        let error = combined(failures).unwrap_err();
        assert_eq!(u32::from(error.code), 5);
        assert!(error.msg.contains("2 attachments") && error.msg.contains("azure/a/eth0, azure/b/eth0"), "{error}");
        assert!(error.details.contains("disk") && error.details.contains("program: busy"), "{error}");
    }
}
