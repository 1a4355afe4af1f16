//! A record for tests.

use std::net::{IpAddr, Ipv4Addr};

use azure_cni_api::Bandwidth;
use azure_cni_api::boot_time::BootTime;

use super::AttachmentRecord;
use crate::net::NetnsId;

/// Of interface `eth0` of this container in network `azure`.
pub(crate) fn record(container: &str) -> AttachmentRecord {
    AttachmentRecord {
        id: azure_cni_api::cni::sample::attachment(container),
        addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 240, 0, 5))],
        host_interface: "azv0123456789a".to_owned(),
        host_ifindex: 17,
        pod_mac: [2, 0, 0, 0, 0, 1],
        netns: "/run/netns/pod".into(),
        netns_id: Some(NetnsId { device: 4, inode: 4_026_532_000 }),
        boot_id: "6e7c7ab1-6b2f-4b0a-8a3e-b7d7dfb1b0a5".to_owned(),
        mtu: 1500,
        via_host: vec![IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10))],
        own_table: false,
        keep_source: true,
        bandwidth: Bandwidth::UNLIMITED,
        requested_at: BootTime::BOOT,
        recorded_at: BootTime::BOOT,
    }
}
