//! Cluster services as kube-proxy makes them: the host's stack translates the destination, and the replies come back
//! through it. With and without checksum offload.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
};

use azure_cni_tests::{
    Fabric, FabricBuilder, IpVersion, Pod, Result, Service, Station, VNET_PREFIX, configure, kube_proxy, nft,
    probe::{self, Arrivals, Connection, ECHO_PORT, EchoServer},
};

const SERVICE_PORT: u16 = 80;

/// A service address and its backend: a pod, a host or an Internet address.
fn service(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, number), SERVICE_PORT)
}

/// With and without known service prefixes, one of them with checksum offload.
fn both_ways() -> [FabricBuilder; 2] {
    [
        Fabric::builder().vms(2).checksum_offload(true),
        Fabric::builder().vms(2).checksum_offload(false).agent_toml("routing.service_prefixes = ['10.0.0.0/16']"),
    ]
}

/// The rules that kube-proxy writes for services and node ports, as far as a packet can tell.
fn proxy(services: &[(SocketAddrV4, Ipv4Addr)], masqueraded: &str) -> String {
    let rules: String = services
        .iter()
        .map(|(service, backend)| {
            let (address, port) = (service.ip(), service.port());
            format!("ip daddr {address} meta l4proto {{ tcp, udp }} th dport {port} dnat to {backend}:{ECHO_PORT}\n")
        })
        .collect();
    format!(
        "table ip proxy {{\n\
           chain prerouting {{ type nat hook prerouting priority dstnat;\n{rules}}}\n\
           chain output {{ type nat hook output priority -100;\n{rules}}}\n\
           chain postrouting {{ type nat hook postrouting priority srcnat;\n{masqueraded}}}\n\
         }}\n"
    )
}

fn assert_serves(from: &dyn Station, service: impl Into<SocketAddr>, promised: Ipv4Addr) -> Result<()> {
    let service = service.into();
    let data: Vec<u8> = (0..200_000u32).map(|byte| byte as u8).collect();
    let mut connection = Connection::open(from, service)?;
    assert_eq!(connection.reached().source_seen.ip(), promised, "{} -> {service}", from.name());
    connection.round_trip(&data)?;
    assert_eq!(probe::udp(from, service)?.source_seen.ip(), promised, "{} -> {service}", from.name());
    Ok(())
}

#[test]
fn service_reaches_backends_everywhere_and_its_answers_come_back_translated() -> Result<()> {
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        let internet = net.internet();
        let [same_vm, other_vm, beyond, itself, host] = [10, 11, 12, 13, 14].map(service);
        let rules = proxy(
            &[
                (same_vm, neighbour.address()),
                (other_vm, remote.address()),
                (beyond, internet.address()),
                (itself, pod.address()),
                (host, vm.address()),
            ],
            &format!("ip saddr {0} ip daddr {0} masquerade\n", pod.address()),
        );
        nft(vm.namespace(), &rules)?;
        let backends: [&dyn Station; 5] = [pod, neighbour, remote, internet, vm];
        let servers = backends.into_iter().map(EchoServer::start).collect::<Result<Vec<_>>>()?;

        assert_serves(pod, same_vm, pod.address())?;
        assert_serves(pod, other_vm, pod.address())?;
        assert_serves(pod, beyond, vm.address())?;
        assert_serves(pod, host, pod.address())?;
        assert_serves(pod, itself, vm.address())?;
        assert_serves(vm, same_vm, vm.address())?;
        assert_serves(vm, other_vm, vm.address())?;
        // Other traffic is as before, also to the backends themselves.
        assert_serves(pod, servers[1].address(), pod.address())?;
        assert_serves(pod, servers[2].address(), pod.address())?;
        assert_serves(pod, servers[3].address(), vm.address())?;

        assert_eq!(vm.dropped()?, [].into());
        drop(servers);
        pods.iter().try_for_each(Pod::del)?;
        net.vms().iter().try_for_each(|vm| vm.expect_clean())?;
    }
    Ok(())
}

#[test]
fn node_port_reaches_a_pod_of_this_vm_and_of_another() -> Result<()> {
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, net.vm(1).add_pod("b")?];
        let [pod, remote] = &pods;
        let [local, cluster] = [30_080, 30_081].map(|port| SocketAddrV4::new(vm.address(), port));
        let rules = proxy(
            &[(local, pod.address()), (cluster, remote.address())],
            &format!("ip daddr {} oifname eth0 masquerade\n", remote.address()),
        );
        nft(vm.namespace(), &rules)?;
        let servers = [EchoServer::start(pod)?, EchoServer::start(remote)?];
        for outside in [net.peer(), net.internet()] {
            assert_serves(outside, local, outside.address())?;
            assert_serves(outside, cluster, vm.address())?;
        }
        assert_serves(pod, cluster, vm.address())?;
        assert_eq!(vm.dropped()?, [].into());
        drop(servers);
        pods.iter().try_for_each(Pod::del)?;
        net.vms().iter().try_for_each(|vm| vm.expect_clean())?;
    }
    Ok(())
}

/// A service of the cluster with backends on their echo ports.
fn cluster_service(name: &'static str, number: u8, backends: &[&dyn Station], node_port: Option<u16>) -> Service {
    let backends = backends.iter().map(|backend| SocketAddr::from((backend.address(), ECHO_PORT))).collect();
    Service { name, address: service(number).into(), external: vec![], backends, node_port }
}

#[test]
fn services_of_kube_proxys_own_rules_are_served_and_answered() -> Result<()> {
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        let internet = net.internet();
        let services = [
            cluster_service("near", 10, &[neighbour], None),
            cluster_service("far", 11, &[remote], None),
            cluster_service("beyond", 12, &[internet], None),
            cluster_service("self", 13, &[pod], None),
            cluster_service("host", 14, &[vm], None),
            cluster_service("spread", 15, &[neighbour, remote], None),
        ];
        kube_proxy(vm.namespace(), IpVersion::V4, VNET_PREFIX, &services)?;
        let backends: [&dyn Station; 5] = [pod, neighbour, remote, internet, vm];
        let servers = backends.into_iter().map(EchoServer::start).collect::<Result<Vec<_>>>()?;

        assert_serves(pod, service(10), pod.address())?;
        assert_serves(pod, service(11), pod.address())?;
        // Translated twice: its destination by the stack, then its source at the uplink.
        assert_serves(pod, service(12), vm.address())?;
        // Through its service to itself: masqueraded, or the reply would never leave the pod.
        assert_serves(pod, service(13), vm.address())?;
        assert_serves(pod, service(14), pod.address())?;
        (0..8).try_for_each(|_| assert_serves(pod, service(15), pod.address()))?;
        assert_serves(vm, service(10), vm.address())?;
        assert_serves(vm, service(11), vm.address())?;
        assert_serves(pod, servers[1].address(), pod.address())?;
        assert_serves(pod, servers[2].address(), pod.address())?;
        assert_serves(pod, servers[3].address(), vm.address())?;

        assert_eq!(vm.dropped()?, [].into());
        drop(servers);
        pods.iter().try_for_each(Pod::del)?;
        net.vms().iter().try_for_each(|vm| vm.expect_clean())?;
    }
    Ok(())
}

#[test]
fn node_port_of_kube_proxys_own_rules_serves_outsiders_and_pods() -> Result<()> {
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        let [near, far] = [30_080, 30_081].map(|port| SocketAddr::from((vm.address(), port)));
        let services = [
            cluster_service("near", 10, &[neighbour], Some(near.port())),
            cluster_service("far", 11, &[remote], Some(far.port())),
        ];
        kube_proxy(vm.namespace(), IpVersion::V4, VNET_PREFIX, &services)?;
        let servers = [EchoServer::start(neighbour)?, EchoServer::start(remote)?];
        for client in [net.peer() as &dyn Station, net.internet(), pod] {
            assert_serves(client, near, vm.address())?;
            assert_serves(client, far, vm.address())?;
        }
        // A client outside of the cluster's prefix is masqueraded at the cluster IP too.
        assert_serves(vm, near, vm.address())?;
        assert_eq!(vm.dropped()?, [].into());
        drop(servers);
        pods.iter().try_for_each(Pod::del)?;
        net.vms().iter().try_for_each(|vm| vm.expect_clean())?;
    }
    Ok(())
}

#[test]
fn host_port_of_the_standard_portmap_plugin_reaches_the_pod() -> Result<()> {
    const HOST_PORT: u16 = 8080;
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        // The newest version that Debian's plugins speak.
        let mut netconf = vm.netconf();
        netconf["cniVersion"] = "1.0.0".into();
        let pods = [vm.add_pod_with("a", netconf)?, vm.add_pod("b")?];
        let [pod, neighbour] = &pods;
        let mappings: Vec<_> = ["tcp", "udp"]
            .map(
                |protocol| serde_json::json!({"hostPort": HOST_PORT, "containerPort": ECHO_PORT, "protocol": protocol}),
            )
            .into();
        let keys = serde_json::json!({
            "snat": true,
            "capabilities": {"portMappings": true},
            "runtimeConfig": {"portMappings": mappings},
        });
        pod.chain("ADD", "portmap", keys.clone())?;
        let server = EchoServer::start(pod)?;
        let host_port = SocketAddr::from((vm.address(), HOST_PORT));
        assert_serves(net.peer(), host_port, net.peer().address())?;
        assert_serves(net.internet(), host_port, net.internet().address())?;
        assert_serves(neighbour, host_port, neighbour.address())?;
        assert_serves(vm, host_port, vm.address())?;
        assert_serves(pod, host_port, vm.address())?;
        assert_eq!(vm.dropped()?, [].into());
        drop(server);
        pod.chain("DEL", "portmap", keys)?;
        pods.iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn answers_of_a_service_come_from_its_address_alone() -> Result<()> {
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        let services = [cluster_service("spread", 15, &[neighbour, remote, net.internet()], None)];
        kube_proxy(vm.namespace(), IpVersion::V4, VNET_PREFIX, &services)?;
        let backends: [&dyn Station; 3] = [neighbour, remote, net.internet()];
        let servers = backends.into_iter().map(EchoServer::start).collect::<Result<Vec<_>>>()?;
        let witness = Arrivals::watch(pod)?;
        for _ in 0..24 {
            probe::tcp(pod, service(15))?;
            probe::udp(pod, service(15))?;
        }
        let sources: BTreeSet<IpAddr> = witness.finish().iter().map(|arrival| arrival.source).collect();
        assert_eq!(sources, [IpAddr::from(*service(15).ip())].into());
        drop(servers);
        pods.iter().try_for_each(Pod::del)?;
        net.vms().iter().try_for_each(|vm| vm.expect_clean())?;
    }
    Ok(())
}

/// Rules that ask for the node's source hide from whom a packet is: pods are kept from the platform's own all the same.
#[test]
fn what_pods_must_not_reach_is_out_of_reach_through_a_service_that_is_masqueraded() -> Result<()> {
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    let net = Fabric::builder().agent_toml("routing.block_imds = true").start()?;
    let (vm, platform) = (net.vm(0), net.platform());
    configure(platform.namespace(), &format!("addr add {metadata}/32 dev lo\n"))?;
    configure(
        net.router(),
        &format!("route add {metadata} via {} dev {} onlink\n", platform.address(), platform.name()),
    )?;
    let pods = [vm.add_pod("a")?];
    let backends = [(platform.address(), 80), (platform.address(), 32_526), (metadata, 80)];
    let rules: String = (10..)
        .zip(backends)
        .map(|(number, (backend, port))| {
            format!("ip daddr 10.0.0.{number} tcp dport {SERVICE_PORT} dnat to {backend}:{port}\n")
        })
        .collect();
    nft(
        vm.namespace(),
        &format!(
            "table ip proxy {{\n\
               chain prerouting {{ type nat hook prerouting priority dstnat;\n{rules}}}\n\
               chain postrouting {{ type nat hook postrouting priority srcnat;\n ip saddr {} masquerade\n}}\n\
             }}\n",
            pods[0].address()
        ),
    )?;
    for (number, (backend, port)) in (10..).zip(backends) {
        let server = EchoServer::start_on(platform, SocketAddrV4::new(backend, port))?;
        // The VM's own agents may.
        let reached = probe::tcp(vm, server.address())?;
        assert_eq!(reached.source_seen.ip(), vm.address(), "the host to {backend}:{port}");
        // The end of the host's own connection is not to be taken for the pod's.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let witness = Arrivals::watch(platform)?;
        let refused = probe::tcp(&pods[0], SocketAddr::from(service(number)));
        assert!(refused.is_err(), "a pod reached {backend}:{port} by {}", service(number));
        let arrived = witness.finish().into_iter().filter(|arrival| arrival.destination == backend).count();
        assert_eq!(arrived, 0, "packets of a pod arrived at {backend}:{port}");
    }
    let dropped = vm.dropped()?;
    assert!(dropped.contains_key("platform_blocked") && dropped.contains_key("metadata_blocked"), "{dropped:?}");
    pods.iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}
