//! What is written down: only DEL and GC, which free, and of them only what the agent needs.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::boot_time::BootTime;
use crate::cni::{AttachmentId, CniVersion, GcCall, Network, NetworkName};
use crate::names::host_interface;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpooledRequest {
    /// Of the boot that `asked` belongs to.
    pub boot_id: String,
    pub asked: BootTime,
    #[serde(flatten)]
    pub call: SpooledCall,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "UPPERCASE", rename_all_fields = "camelCase")]
pub enum SpooledCall {
    Del { attachment: AttachmentId },
    Gc { network: NetworkName, valid_attachments: BTreeSet<AttachmentId> },
}

impl SpooledRequest {
    /// The order of the names is the order of the requests; the attachment's interface tells ADD which are its own.
    pub fn file_name(&self) -> String {
        let subject = match &self.call {
            SpooledCall::Del { attachment } => host_interface(attachment),
            SpooledCall::Gc { .. } => "gc".to_owned(),
        };
        format!("{:020}-{subject}.json", self.asked.as_nanos())
    }

    /// Whether a file of this name is about the attachment alone.
    pub fn is_named_for(name: &str, attachment: &AttachmentId) -> bool {
        name.split_once('-').is_some_and(|(_, subject)| subject == format!("{}.json", host_interface(attachment)))
    }

    /// Whether what it would free is gone already: with the boot of the kernel that it was made in, or replaced by an ADD
    /// that was asked for later. `added`: when the ADD of the attachment's record was asked for.
    pub fn is_overtaken(&self, boot_id: &str, added: Option<BootTime>) -> bool {
        self.boot_id != boot_id || added.is_some_and(|added| added > self.asked)
    }

    /// The GC as it was called. Only 1.1.0 has it.
    pub fn to_gc(network: NetworkName, valid_attachments: BTreeSet<AttachmentId>) -> GcCall {
        let network = Network { cni_version: CniVersion::V1_1_0, name: network, agent_socket: None, spool_dir: None };
        GcCall { network, valid_attachments, traceparent: None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn attachment(container: &str) -> AttachmentId {
        crate::cni::sample::attachment(container)
    }

    fn del(nanos: u64) -> SpooledRequest {
        let call = SpooledCall::Del { attachment: attachment("c1") };
        SpooledRequest { boot_id: "b".to_owned(), asked: BootTime::from_nanos(nanos), call }
    }

    #[test]
    fn requests_have_the_form_that_is_documented() {
        let id = json!({"network": "azure", "containerId": "c1", "ifname": "eth0"});
        let gc = SpooledCall::Gc { network: "azure".parse().unwrap(), valid_attachments: [attachment("c1")].into() };
        for (request, written) in [
            (del(7), json!({"bootId": "b", "asked": 7, "command": "DEL", "attachment": id})),
            (
                SpooledRequest { call: gc, ..del(7) },
                json!({"bootId": "b", "asked": 7, "command": "GC", "network": "azure", "validAttachments": [id]}),
            ),
        ] {
            assert_eq!(serde_json::to_value(&request).unwrap(), written);
            assert_eq!(serde_json::from_value::<SpooledRequest>(written).unwrap(), request);
        }
    }

    #[test]
    fn only_what_frees_can_be_written_down_and_names_are_checked_when_read() {
        for text in [
            json!({"bootId": "b", "asked": 7, "command": "ADD", "attachment": {}}),
            json!({"bootId": "b", "asked": 7, "command": "GC", "network": "azure"}),
            json!({"bootId": "b", "asked": 7, "command": "DEL",
                   "attachment": {"network": "azure", "containerId": "../x", "ifname": "eth0"}}),
        ] {
            assert!(serde_json::from_value::<SpooledRequest>(text.clone()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_is_found_by_the_attachment_it_is_for() {
        assert!(SpooledRequest::is_named_for(&del(7).file_name(), &attachment("c1")));
        assert!(!SpooledRequest::is_named_for(&del(7).file_name(), &attachment("c2")));
        assert!(!SpooledRequest::is_named_for("00000000000000000007-gc.json", &attachment("c1")));
        assert!(!SpooledRequest::is_named_for("x", &attachment("c1")));
    }

    proptest! {
        #[test]
        fn names_sort_as_the_requests_were_made(first: u64, second: u64) {
            prop_assert_eq!(del(first).file_name().cmp(&del(second).file_name()), first.cmp(&second));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = serde_json::from_slice::<SpooledRequest>(&bytes);
        }
    }

    #[test]
    fn a_request_is_overtaken_by_a_later_add_and_by_a_boot_and_by_nothing_else() {
        for (what, boot, added, overtaken) in [
            ("nothing is there", "b", None, false),
            ("it was added before", "b", Some(6), false),
            ("it was added again since", "b", Some(8), true),
            ("the machine was booted since", "c", None, true),
        ] {
            assert_eq!(del(7).is_overtaken(boot, added.map(BootTime::from_nanos)), overtaken, "{what}");
        }
    }
}
