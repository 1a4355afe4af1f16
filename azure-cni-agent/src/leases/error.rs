//! Why an attachment got no addresses.

use std::net::IpAddr;

use azure_cni_ipam::{NoAddress, Reserved};

use super::cns::CnsError;

#[derive(Debug, thiserror::Error)]
pub enum NotLeased {
    /// The cause says whether a retry helps.
    #[error(transparent)]
    Pool(#[from] NoAddress),
    /// A retry helps once the reason has gone, which only the node's own use of it makes likely.
    #[error("requested address {address} is withheld from pods: {reason}")]
    Withheld { address: IpAddr, reason: Reserved },
    /// An interface of the host has got the address since it was observed. A retry helps.
    #[error("no pod gets {address}: {}", Reserved::HeldByHost)]
    HeldByHost { address: IpAddr },
    /// The cause says whether a retry helps.
    #[error(transparent)]
    Cns(#[from] CnsError),
}
