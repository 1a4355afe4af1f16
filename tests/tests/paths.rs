//! Every path that the platform promises, in every configuration of the data path: which station reaches which, by TCP,
//! UDP and ICMP, and which source the far end sees.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
};

use azure_cni_tests::{
    Fabric, Forwarded, HOST_ADDRESS, Pod, Result, Station, configure,
    probe::{self, Arrivals, ECHO_PORT, EchoServer},
};

/// ICMP, TCP and UDP, by IP protocol number.
const PROTOCOLS: [u8; 3] = [1, 6, 17];

/// The agent's keys that decide how packets are carried.
struct Way {
    attach: &'static str,
    /// If they are known, packets to the Internet bypass the host's stack.
    service_prefixes: Option<&'static str>,
    /// Where the agent learns that the node-local address belongs to the host: from its own file, else from the netconf.
    host_address_configured: bool,
    /// Whether checksums are left to the device. Programs that rewrite packets must be correct for both.
    checksum_offload: bool,
}

#[test]
fn every_path_keeps_its_promise_through_tcx_and_the_stack() -> Result<()> {
    assert_promises(&Way {
        attach: "tcx",
        service_prefixes: None,
        host_address_configured: true,
        checksum_offload: true,
    })
}

#[test]
fn every_path_keeps_its_promise_through_tcx_on_the_short_way() -> Result<()> {
    assert_promises(&Way {
        attach: "tcx",
        service_prefixes: Some("['10.0.0.0/16']"),
        host_address_configured: false,
        checksum_offload: false,
    })
}

#[test]
fn every_path_keeps_its_promise_through_clsact_and_the_stack() -> Result<()> {
    assert_promises(&Way {
        attach: "clsact",
        service_prefixes: None,
        host_address_configured: false,
        checksum_offload: false,
    })
}

#[test]
fn every_path_keeps_its_promise_through_clsact_on_the_short_way() -> Result<()> {
    assert_promises(&Way {
        attach: "clsact",
        service_prefixes: Some("[]"),
        host_address_configured: true,
        checksum_offload: true,
    })
}

fn assert_promises(way: &Way) -> Result<()> {
    let net = network(way)?;
    let (vm, other_vm) = (net.vm(0), net.vm(1));
    assert_eq!(vm.status()?["uplinkAttachMode"], way.attach);
    configure(vm.namespace(), &format!("addr add {HOST_ADDRESS}/32 dev lo"))?;
    let pods = [add_pod(&net, 0, "a", way)?, add_pod(&net, 0, "b", way)?, add_pod(&net, 1, "c", way)?];
    let [pod, neighbour, remote] = &pods;

    let past_the_stack = [neighbour.address(), remote.address(), net.peer().address()]
        .map(|to| Forwarded::count(vm.namespace(), to))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let to_internet = Forwarded::count(vm.namespace(), net.internet().address())?;

    let keeps_source = |from: &dyn Station, to: &dyn Station| assert_path(from, to, to.address(), from.address());
    keeps_source(pod, neighbour)?;
    keeps_source(pod, remote)?;
    keeps_source(remote, pod)?;
    keeps_source(pod, net.peer())?;
    keeps_source(net.peer(), pod)?;
    keeps_source(net.platform(), pod)?;
    keeps_source(pod, vm)?;
    keeps_source(vm, pod)?;
    keeps_source(pod, other_vm)?;
    keeps_source(other_vm, pod)?;
    assert_path(pod, vm, HOST_ADDRESS, pod.address())?;
    assert_path(pod, net.internet(), net.internet().address(), vm.address())?;
    assert_path(remote, net.internet(), net.internet().address(), other_vm.address())?;

    for forwarded in past_the_stack {
        assert_eq!(forwarded.packets()?, 0, "pods and the VNet are reached past the host's stack");
    }
    assert_eq!(to_internet.packets()? == 0, way.service_prefixes.is_some(), "only known services open the short way");
    for vm in net.vms() {
        assert_eq!(vm.dropped()?, [].into());
    }
    pods.iter().try_for_each(Pod::del)?;
    net.vms().iter().try_for_each(|vm| vm.expect_clean())
}

fn network(way: &Way) -> Result<Fabric> {
    let attach = format!("datapath.attach = '{}'", way.attach);
    let mut builder = Fabric::builder().vms(2).checksum_offload(way.checksum_offload).agent_toml(&attach);
    if let Some(prefixes) = way.service_prefixes {
        builder = builder.agent_toml(&format!("routing.service_prefixes = {prefixes}"));
    }
    if !way.host_address_configured {
        builder = builder.agent_toml("routing.host_addresses = []");
    }
    builder.start()
}

fn add_pod<'net>(net: &'net Fabric, vm: usize, name: &str, way: &Way) -> Result<Pod<'net>> {
    let mut netconf = net.vm(vm).netconf();
    if way.host_address_configured {
        netconf["ipsToRouteViaHost"] = serde_json::json!([]);
    }
    net.vm(vm).add_pod_with(name, netconf)
}

/// `from` reaches the address `at` of `to` by every protocol, and each packet that arrives there has the source
/// `promised`.
fn assert_path(from: &dyn Station, to: &dyn Station, at: Ipv4Addr, promised: Ipv4Addr) -> Result<()> {
    let echo = EchoServer::start_on(to, SocketAddrV4::new(at, ECHO_PORT))?;
    let witness = Arrivals::watch(to)?;
    let path = format!("{} -> {} ({at})", from.name(), to.name());
    assert_eq!(probe::tcp(from, echo.address())?.source_seen.ip(), promised, "{path} by TCP");
    assert_eq!(probe::udp(from, echo.address())?.source_seen.ip(), promised, "{path} by UDP");
    probe::ping(from, at)?;
    let arrivals = witness.finish().into_iter().filter(|arrival| arrival.destination == at);
    let seen: BTreeSet<(u8, IpAddr)> = arrivals.map(|arrival| (arrival.protocol, arrival.source)).collect();
    assert_eq!(seen, PROTOCOLS.map(|protocol| (protocol, promised.into())).into(), "{path}");
    // The next path may have the same far end.
    [from, to].into_iter().try_for_each(probe::await_endings)
}
