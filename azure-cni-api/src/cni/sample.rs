//! Samples of what a runtime sends, for tests.

use super::attachment::AttachmentId;
use super::environment::{Command, Environment};

/// Interface `eth0` of this container in network `azure`.
pub fn attachment(container: &str) -> AttachmentId {
    AttachmentId {
        network: "azure".parse().unwrap(),
        container_id: container.parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

/// The environment of an ADD for interface `eth0` of container `c1`.
pub fn environment() -> Environment {
    Environment {
        command: Command::Add,
        container_id: Some("c1".into()),
        netns: Some("/run/netns/p".into()),
        ifname: Some("eth0".into()),
        args: None,
        path: Some("/opt/cni/bin".into()),
        traceparent: None,
    }
}
