//! What a call requests of the pod's bandwidth.

use serde::{Deserialize, Serialize};

/// Seen from the pod. `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    pub ingress: Option<RateLimit>,
    pub egress: Option<RateLimit>,
}

impl Bandwidth {
    pub const UNLIMITED: Self = Self { ingress: None, egress: None };

    pub fn is_limited(&self) -> bool {
        *self != Self::UNLIMITED
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Bits a second.
    pub rate: u64,
    /// Bits; `None`: nobody has chosen one.
    pub burst: Option<u64>,
}

impl RateLimit {
    /// The rates that Kubernetes takes for reasonable (k8s.io/kubernetes/pkg/util/bandwidth).
    pub const RATE_MIN: u64 = 1_000;
    pub const RATE_MAX: u64 = 1_000_000_000_000_000;

    /// One packet of Ethernet's usual size.
    pub const BURST_MIN: u64 = 1_500 * 8;

    /// From here on nobody has chosen the burst. Runtimes write it for a pod's annotations, which name none: 2^31 - 1 (dockershim,
    /// cri-dockerd), 2^32 - 1 (containerd), eight times that (CRI-O). Taken at its word it would let 256 MB or more through first.
    pub const BURST_UNCHOSEN: u64 = (1 << 31) - 1;
}
