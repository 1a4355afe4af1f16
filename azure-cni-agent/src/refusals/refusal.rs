//! A flow that the data path refused.

use std::net::IpAddr;

use azure_cni_api::cni::AttachmentId;
use azure_cni_common::drop_reason::DropReason;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// `None`: no attachment has the source's address, or has it any more.
    pub pod: Option<AttachmentId>,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Zero if the protocol has no ports.
    pub destination_port: u16,
    pub protocol: u8,
    pub reason: DropReason,
}
