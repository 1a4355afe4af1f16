//! The file form of a spooled request: a DEL or a GC, with what the agent needs to execute it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::boot_time::BootTime;
use crate::cni::{AttachmentId, CniVersion, GcCall, Network, NetworkName};
use crate::names::host_interface;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpooledRequest {
    /// The boot that `requested_at` belongs to.
    pub boot_id: String,
    pub requested_at: BootTime,
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
    /// Names sort in the order of the requests. They contain the attachment's interface, by which ADD finds its own requests.
    pub fn file_name(&self) -> String {
        let subject = match &self.call {
            SpooledCall::Del { attachment } => host_interface(attachment),
            SpooledCall::Gc { .. } => "gc".to_owned(),
        };
        format!("{:020}-{subject}.json", self.requested_at.as_nanos())
    }

    /// Whether a file of this name is a request for this attachment alone.
    pub fn is_named_for(name: &str, attachment: &AttachmentId) -> bool {
        name.split_once('-').is_some_and(|(_, subject)| subject == format!("{}.json", host_interface(attachment)))
    }

    /// Whether what it would free is gone already: the machine has been booted since, or a later ADD has replaced it.
    /// `added`: when the ADD of the attachment's record was requested.
    pub fn is_overtaken(&self, boot_id: &str, added: Option<BootTime>) -> bool {
        self.boot_id != boot_id || added.is_some_and(|added| added > self.requested_at)
    }

    /// The GC call. Only CNI 1.1.0 has GC.
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
        SpooledRequest { boot_id: "b".to_owned(), requested_at: BootTime::from_nanos(nanos), call }
    }

    #[test]
    fn requests_have_the_form_that_is_documented() {
        let id = json!({"network": "azure", "containerId": "c1", "ifname": "eth0"});
        let gc = SpooledCall::Gc { network: "azure".parse().unwrap(), valid_attachments: [attachment("c1")].into() };
        for (request, written) in [
            (del(7), json!({"bootId": "b", "requestedAt": 7, "command": "DEL", "attachment": id})),
            (
                SpooledRequest { call: gc, ..del(7) },
                json!({"bootId": "b", "requestedAt": 7, "command": "GC", "network": "azure", "validAttachments": [id]}),
            ),
        ] {
            assert_eq!(serde_json::to_value(&request).unwrap(), written);
            assert_eq!(serde_json::from_value::<SpooledRequest>(written).unwrap(), request);
        }
    }

    #[test]
    fn only_del_and_gc_can_be_spooled_and_names_are_checked_when_read() {
        for text in [
            json!({"bootId": "b", "requestedAt": 7, "command": "ADD", "attachment": {}}),
            json!({"bootId": "b", "requestedAt": 7, "command": "GC", "network": "azure"}),
            json!({"bootId": "b", "requestedAt": 7, "command": "DEL",
                   "attachment": {"network": "azure", "containerId": "../x", "ifname": "eth0"}}),
        ] {
            assert!(serde_json::from_value::<SpooledRequest>(text.clone()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_is_found_by_its_attachment() {
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
