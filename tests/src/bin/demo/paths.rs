//! The paths that the demo shows, and the source address that each promises to the far end.

use std::net::IpAddr;

use azure_cni_tests::{Fabric, Pod, Station};

/// A way through the network.
pub(crate) struct Path<'net> {
    pub(crate) name: &'static str,
    pub(crate) from: &'net dyn Station,
    pub(crate) to: &'net dyn Station,
    /// The source that the far end must see.
    pub(crate) promised: IpAddr,
}

/// All paths, nearest first.
pub(crate) fn all<'net>(net: &'net Fabric, pods: &'net [[Pod<'net>; 2]]) -> Vec<Path<'net>> {
    let (vm, [pod, neighbour], [remote, _]) = (net.vm(0), &pods[0], &pods[1]);
    let keeps_source = |name, from: &'net dyn Station, to| Path { name, from, to, promised: from.address().into() };
    vec![
        keeps_source("pod to pod, same VM", pod, neighbour),
        keeps_source("pod to pod, across VMs", pod, remote),
        keeps_source("host to pod", vm, pod),
        keeps_source("pod to host", pod, vm),
        keeps_source("pod to peered VNet", pod, net.peer()),
        keeps_source("peered VNet to pod", net.peer(), pod),
        Path { name: "pod to Internet", from: pod, to: net.internet(), promised: vm.address().into() },
    ]
}
