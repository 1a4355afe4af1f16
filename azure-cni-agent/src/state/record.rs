//! What is remembered of one attachment: enough to answer the same ADD again, to undo it, and to tell after a restart
//! whether it is still alive.

use std::net::IpAddr;
use std::path::PathBuf;

use azure_cni_api::Bandwidth;
use azure_cni_api::boot_time::BootTime;
use azure_cni_api::cni::AttachmentId;
use serde::{Deserialize, Serialize};

use crate::net::NetnsId;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentRecord {
    pub id: AttachmentId,
    /// IPv4 first; IPv6 if the pod has it.
    pub addresses: Vec<IpAddr>,
    /// The host's end of the veth pair.
    pub host_interface: String,
    pub host_ifindex: u32,
    pub pod_mac: [u8; 6],
    /// Where the runtime keeps the pod's network namespace.
    pub netns: PathBuf,
    /// Which namespace that path led to: a path can be taken over by another pod's.
    pub netns_id: Option<NetnsId>,
    /// `/proc/sys/kernel/random/boot_id` of the boot that the namespace and the interfaces belong to.
    pub boot_id: String,
    pub mtu: u32,
    /// Addresses that the network asked to be reached through the host's stack.
    pub via_host: Vec<IpAddr>,
    /// The pod had a default route, so this attachment's routes are in a table of their own.
    pub own_table: bool,
    /// The network opted out of source NAT.
    pub keep_source: bool,
    pub bandwidth: Bandwidth,
    /// When the runtime made the ADD that it was answered last.
    pub requested_at: BootTime,
    /// When that ADD was recorded.
    pub recorded_at: BootTime,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_written_and_read_with_all_of_its_fields() {
        let written = json!({
            "id": {"network": "azure", "containerId": "c1", "ifname": "eth0"}, "addresses": ["10.240.0.5", "fd00::5"],
            "hostInterface": "azv0123456789a", "hostIfindex": 17, "podMac": [2, 0, 0, 0, 0, 1],
            "netns": "/run/netns/p", "netnsId": {"device": 4, "inode": 4_026_532_000_u64}, "bootId": "b", "mtu": 1500,
            "viaHost": ["fd00::10"], "ownTable": true, "keepSource": true, "requestedAt": 5, "recordedAt": 7,
            "bandwidth": {"ingress": {"rate": 10_000_000, "burst": 80_000}, "egress": {"rate": 5_000, "burst": null}},
        });
        let record: AttachmentRecord = serde_json::from_value(written.clone()).unwrap();
        assert!(record.addresses[0].is_ipv4() && record.addresses[1].is_ipv6() && record.via_host[0].is_ipv6());
        assert_eq!(serde_json::to_value(&record).unwrap(), written);
    }

    #[test]
    fn a_record_without_one_of_its_fields_is_not_read() {
        let written = serde_json::to_value(crate::state::sample::record("a")).unwrap();
        // Of an `Option`, absent says the same as null.
        for field in written.as_object().unwrap().keys().filter(|field| *field != "netnsId") {
            let mut other = written.clone();
            other.as_object_mut().unwrap().remove(field);
            assert!(serde_json::from_value::<AttachmentRecord>(other).is_err(), "{field}");
        }
    }
}
