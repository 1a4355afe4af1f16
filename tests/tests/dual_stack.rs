//! The promises of IPv4 for IPv6: which station reaches which, by TCP, UDP and ICMP, and which source the far end sees.
//! The VNet's IPv6 addresses are routed, so pods keep their own address everywhere unless source NAT is configured.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use azure_cni_agent::{endpoint::await_usable, net::Netlink};
use azure_cni_tests::{
    Fabric, FabricBuilder, Forwarded, GATEWAY6,
    IpVersion::{self, V4, V6},
    Namespace, Pod, Result, Sandbox, Service, Station, VNET_PREFIX6, kube_proxy,
    probe::{self, Arrivals, Connection, ECHO_PORT, EchoServer},
    query,
};
use tokio::runtime::Builder;

const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5);

/// TCP, UDP and ICMP, by IP protocol number.
fn protocols(version: IpVersion) -> [u8; 3] {
    [6, 17, if version == V4 { 1 } else { 58 }]
}

/// `from` reaches `to` by every protocol, and each packet that arrives there has the source `promised`.
fn assert_path(from: &dyn Station, to: &dyn Station, version: IpVersion, promised: IpAddr) -> Result<()> {
    let at = to.ip(version);
    let echo = EchoServer::start_on(to, (at, ECHO_PORT))?;
    let witness = Arrivals::watch(to)?;
    let path = format!("{} -> {} ({at})", from.name(), to.name());
    let data: Vec<u8> = (0..200_000u32).map(|byte| byte as u8).collect();
    let mut connection = Connection::open(from, echo.address())?;
    assert_eq!(connection.reached().source_seen.ip(), promised, "{path} by TCP");
    connection.round_trip(&data)?;
    assert_eq!(probe::udp(from, echo.address())?.source_seen.ip(), promised, "{path} by UDP");
    probe::ping(from, at)?;
    let arrivals = witness.finish().into_iter().filter(|arrival| arrival.destination == at);
    let seen: BTreeSet<(u8, IpAddr)> = arrivals.map(|arrival| (arrival.protocol, arrival.source)).collect();
    assert_eq!(seen, protocols(version).map(|protocol| (protocol, promised)).into(), "{path}");
    drop(connection);
    // The next path may have the same far end.
    [from, to].into_iter().try_for_each(probe::await_endings)
}

fn keeps_source(from: &dyn Station, to: &dyn Station, version: IpVersion) -> Result<()> {
    assert_path(from, to, version, from.ip(version))
}

/// Where the services of the tests are.
const SERVICE_PREFIXES: &str = "routing.service_prefixes = ['10.0.0.0/16', 'fd00:10::/64']";

/// Every configuration of the data path, with and without checksum offload.
fn all_ways() -> Vec<FabricBuilder> {
    let builder = || Fabric::builder().vms(2).dual_stack().internet_routes_pods6();
    let with = |text: &str| builder().agent_toml(text);
    vec![
        builder(),
        with("datapath.attach = 'clsact'").checksum_offload(false),
        with(SERVICE_PREFIXES).checksum_offload(false),
        with("datapath.attach = 'clsact'\nrouting.service_prefixes = []"),
    ]
}

/// Ends a test: nothing was dropped, and nothing is left.
fn assert_ends_clean(net: &Fabric, pods: &[Pod]) -> Result<()> {
    for vm in net.vms() {
        assert_eq!(vm.dropped()?, [].into(), "{}", vm.name());
    }
    pods.iter().try_for_each(Pod::del)?;
    net.vms().iter().try_for_each(|vm| vm.expect_clean())
}

/// The kernel acknowledges an IPv6 address before packets for it are taken in: on a busy node many milliseconds before.
#[test]
fn add_waits_until_the_pods_ipv6_address_is_taken_in() -> Result<()> {
    let _sandbox = Sandbox::enter()?;
    let pod = Namespace::create("pod")?;
    let ip = |arguments: &str| {
        let done = pod.command("ip")?.args(arguments.split(' ')).status().expect("ip is there");
        assert!(done.success(), "{arguments}");
        Ok(())
    };
    ip("link add up name eth0 type veth peer name other")?;
    ip("link set other up")?;
    ip("route add default dev eth0")?;
    let wait = || {
        pod.run(|| {
            let runtime = Builder::new_current_thread().enable_all().build().expect("the kernel has room for it");
            let waited = async { await_usable("eth0", Some(ADDRESS), &Netlink::here().expect("a socket")).await };
            runtime.block_on(waited).map_err(|error| error.to_string())
        })
    };
    assert_eq!(wait(), Err("interface eth0 in the pod cannot send and receive 2s after it was set up".to_owned()));
    let is_added = AtomicBool::new(false);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| (wait(), is_added.load(Relaxed)));
        thread::sleep(Duration::from_millis(200));
        is_added.store(true, Relaxed);
        ip(&format!("address add {ADDRESS}/128 dev eth0 nodad"))?;
        assert_eq!(waiter.join().expect("does not panic"), (Ok(()), true));
        Ok(())
    })
}

#[test]
fn pod_gets_an_address_of_each_version_v4_first() -> Result<()> {
    let net = Fabric::builder().dual_stack().start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let listed: Vec<&str> =
        pod.result()["ips"].as_array().expect("a list").iter().filter_map(|ip| ip["address"].as_str()).collect();
    assert_eq!(listed, [format!("{}/32", pod.ip(V4)), format!("{}/128", pod.ip(V6))]);
    assert!(vm.pool6().contains(&pod.address6().expect("dual stack")));
    pod.check()?;

    let routes = query(pod.namespace(), "-6 route show default")?;
    assert_eq!(routes[0]["gateway"], GATEWAY6.to_string());
    let neighbours = query(pod.namespace(), &format!("neigh show {GATEWAY6} dev eth0"))?;
    assert_eq!(neighbours[0]["state"][0], "PERMANENT");
    assert_eq!(neighbours[0]["lladdr"], "aa:aa:aa:aa:aa:aa");
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn every_path_keeps_the_pods_source_for_both_versions() -> Result<()> {
    for builder in all_ways() {
        let net = builder.start()?;
        let (vm, other_vm) = (net.vm(0), net.vm(1));
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?, other_vm.add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        let past_the_stack = [neighbour.ip(V6), remote.ip(V6), net.peer().ip(V6)]
            .map(|to| Forwarded::count(vm.namespace(), to))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        for version in [V4, V6] {
            keeps_source(pod, neighbour, version)?;
            keeps_source(pod, remote, version)?;
            keeps_source(remote, pod, version)?;
            keeps_source(pod, net.peer(), version)?;
            keeps_source(net.peer(), pod, version)?;
            keeps_source(pod, vm, version)?;
            keeps_source(vm, pod, version)?;
            keeps_source(pod, other_vm, version)?;
            keeps_source(other_vm, pod, version)?;
        }
        assert_path(pod, net.internet(), V4, vm.ip(V4))?;
        keeps_source(pod, net.internet(), V6)?;
        keeps_source(net.internet(), pod, V6)?;
        for forwarded in past_the_stack {
            assert_eq!(forwarded.packets()?, 0, "pods and the VNet are reached past the host's stack");
        }
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

#[test]
fn internet_sees_the_primary_address_where_source_nat_of_ipv6_is_on() -> Result<()> {
    for builder in all_ways() {
        let net = builder.agent_toml("snat.ipv6 = true").start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        assert_path(pod, net.internet(), V6, vm.ip(V6))?;
        assert_path(neighbour, net.internet(), V6, vm.ip(V6))?;
        assert_path(remote, net.internet(), V6, net.vm(1).ip(V6))?;
        keeps_source(pod, neighbour, V6)?;
        keeps_source(pod, remote, V6)?;
        keeps_source(pod, net.peer(), V6)?;
        // Replies to inbound connections have the pod's own address, while its outbound connections are translated.
        keeps_source(net.internet(), pod, V6)?;
        let sources = sources_of_replies(net.internet(), pod)?;
        assert_eq!(sources, [pod.ip(V6)].into());
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}

/// Opens a connection and a UDP flow to `to`; returns the sources of the replies.
fn sources_of_replies(from: &dyn Station, to: &dyn Station) -> Result<BTreeSet<IpAddr>> {
    let echo = EchoServer::start_on(to, (to.ip(V6), ECHO_PORT))?;
    let witness = Arrivals::watch(from)?;
    Connection::open(from, echo.address())?.round_trip(b"inbound")?;
    probe::udp(from, echo.address())?;
    probe::ping(from, to.ip(V6))?;
    Ok(witness.finish().into_iter().map(|arrival| arrival.source).collect())
}

#[test]
fn same_port_of_two_pods_leaves_from_two_ports_of_the_primary_address() -> Result<()> {
    const PORT: u16 = 5000;
    let whole_range = "snat.ipv6 = true\nsnat.pod_port_share = 100\nrouting.service_prefixes = []";
    let net = Fabric::builder().dual_stack().agent_toml(whole_range).start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
    let echo = EchoServer::start_on(net.internet(), (net.internet().ip(V6), ECHO_PORT))?;
    let from = |pod: &Pod| Connection::open_from(pod, (pod.ip(V6), PORT), echo.address());
    let (mut first, mut second) = (from(&pods[0])?, from(&pods[1])?);
    assert_eq!(first.reached().source_seen, SocketAddr::from((vm.ip(V6), PORT)));
    assert_eq!(second.reached().source_seen.ip(), vm.ip(V6));
    assert_ne!(second.reached().source_seen.port(), PORT);
    first.round_trip(b"the first's")?;
    second.round_trip(b"the second's")?;
    drop((first, second));
    assert_ends_clean(&net, &pods)
}

#[test]
fn hop_limit_of_one_is_answered_by_the_vm() -> Result<()> {
    let net = Fabric::builder().vms(2).dual_stack().internet_routes_pods6().start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
    let [pod, neighbour, remote] = &pods;
    for to in [neighbour.ip(V6), remote.ip(V6), net.internet().ip(V6), net.peer().ip(V6)] {
        let expired = probe::ping_with_ttl(pod, to, 1)?;
        assert_eq!(expired, probe::IcmpAnswer::TimeExceeded { router: vm.ip(V6) }, "to {to}");
    }
    assert!(matches!(probe::ping_with_ttl(pod, remote.ip(V6), 4)?, probe::IcmpAnswer::Reply { .. }));
    assert_ends_clean(&net, &pods)
}

#[test]
fn services_of_kube_proxy_lead_to_backends_everywhere() -> Result<()> {
    let service = |number: u16| SocketAddr::from((IpAddr::from([0xfd00, 0x10, 0, 0, 0, 0, 0, number]), 80));
    let mut ways = all_ways();
    // The last of them has no services, so that all packets take the short path. This test names some.
    let last = ways.pop().expect("there are ways").agent_toml(SERVICE_PREFIXES);
    ways.push(last);
    for builder in ways {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        let backends: [(&'static str, &dyn Station); 5] =
            [("near", neighbour), ("far", remote), ("beyond", net.internet()), ("self", pod), ("host", vm)];
        let services: Vec<Service> = (10..)
            .zip(backends)
            .map(|(number, (name, backend))| Service {
                name,
                address: service(number),
                external: vec![],
                backends: vec![(backend.ip(V6), ECHO_PORT).into()],
                node_port: None,
            })
            .collect();
        kube_proxy(vm.namespace(), V6, VNET_PREFIX6, &services)?;
        let servers = backends
            .map(|(_, backend)| EchoServer::start_on(backend, (backend.ip(V6), ECHO_PORT)))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        for (service, (name, _)) in services.iter().zip(backends) {
            let promised = if name == "self" { vm.ip(V6) } else { pod.ip(V6) };
            let mut connection = Connection::open(pod, service.address)?;
            assert_eq!(connection.reached().source_seen.ip(), promised, "{name} by TCP");
            connection.round_trip(&[0x5a; 100_000])?;
            assert_eq!(probe::udp(pod, service.address)?.source_seen.ip(), promised, "{name} by UDP");
        }
        drop(servers);
        assert_ends_clean(&net, &pods)?;
    }
    Ok(())
}
