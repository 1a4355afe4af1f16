//! Addresses of load balancers and `externalIPs`: what the node's rules translate is reached from its pods, in whatever form the
//! rules are, and live.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use azure_cni_tests::{
    Fabric, FabricBuilder, Forwarded,
    IpVersion::{self, V4, V6},
    Pod, ProxyMode, Result, Service, Station, VNET_PREFIX, VNET_PREFIX6, Vm, configure, kube_proxy_by, nft,
    probe::{self, Connection, ECHO_PORT, EchoServer},
    restore_rules,
};
use serde_json::{Value, json};

/// Of each service.
pub const PORT: u16 = 80;
const MODES: [ProxyMode; 3] = [ProxyMode::Nftables, ProxyMode::Iptables, ProxyMode::LegacyIptables];

pub fn builder() -> FabricBuilder {
    Fabric::builder().vms(2).dual_stack().agent_toml("snat.ipv6 = true")
}

pub fn known() -> FabricBuilder {
    builder().agent_toml("routing.service_prefixes = ['10.0.0.0/16', 'fd00:5::/108']")
}

pub fn prefix(version: IpVersion) -> &'static str {
    if version == V4 { VNET_PREFIX } else { VNET_PREFIX6 }
}

/// In the VNet, and no machine's.
fn balancer(version: IpVersion) -> IpAddr {
    let address = if version == V4 { "10.240.9.9" } else { "fd00:10:240::99:9" };
    address.parse().expect("an address")
}

pub fn service(version: IpVersion, external: &[IpAddr], backends: &[&dyn Station]) -> Service {
    let cluster: IpAddr = if version == V4 { "10.0.0.10" } else { "fd00:5::10" }.parse().expect("an address");
    Service {
        name: "web",
        address: (cluster, PORT).into(),
        external: external.to_vec(),
        backends: backends.iter().map(|backend| SocketAddr::new(backend.ip(version), ECHO_PORT)).collect(),
        node_port: None,
    }
}

fn rules_known(status: &Value) -> u64 {
    let services = &status["services"];
    services["nftables"].as_u64().unwrap_or_default() + services["iptables"].as_u64().unwrap_or_default()
}

pub fn await_rules(vm: &Vm, count: u64) -> Result<()> {
    vm.await_status(&format!("one with {count} destinations in rules"), |status| rules_known(status) == count).map(drop)
}

pub fn assert_reached(from: &dyn Station, to: impl Into<SocketAddr>, promised: IpAddr) -> Result<()> {
    let to = to.into();
    assert_eq!(probe::tcp(from, to)?.source_seen.ip(), promised, "{} -> {to}", from.name());
    assert_eq!(probe::udp(from, to)?.source_seen.ip(), promised, "{} -> {to}", from.name());
    Ok(())
}

pub fn end(vm: &Vm, pods: &[Pod<'_>]) -> Result<()> {
    pods.iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn address_of_a_load_balancer_in_the_vnet_is_served_as_soon_as_rules_name_it_and_no_longer() -> Result<()> {
    for (mode, builder) in MODES.into_iter().zip([builder(), known(), builder()]) {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
        let [pod, neighbour, remote] = &pods;
        for version in [V4, V6] {
            let servers = [neighbour as &dyn Station, remote]
                .map(|backend| EchoServer::start_on(backend, (backend.ip(version), ECHO_PORT)));
            let balancer = SocketAddr::new(balancer(version), PORT);
            assert!(probe::udp(pod, balancer).is_err(), "{mode:?}: nobody has {balancer} yet");

            let rules = service(version, &[balancer.ip()], &[neighbour, remote]);
            kube_proxy_by(mode, vm.namespace(), version, prefix(version), &[rules])?;
            await_rules(vm, 2)?;
            for _ in 0..4 {
                assert_reached(pod, balancer, vm.ip(version))?;
            }
            // Other destinations are as before, the backends themselves too.
            assert_reached(pod, (remote.ip(version), ECHO_PORT), pod.ip(version))?;
            let mut lasting = Connection::open(pod, balancer)?;

            kube_proxy_by(mode, vm.namespace(), version, prefix(version), &[])?;
            await_rules(vm, 0)?;
            let by_the_stack = Forwarded::count(vm.namespace(), balancer.ip())?;
            assert!(probe::udp(pod, balancer).is_err(), "{mode:?}: {balancer} is nobody's again");
            assert_eq!(by_the_stack.packets()?, 0, "{mode:?}: it is the VNet's again");
            // A flow keeps its way.
            lasting.round_trip(b"still here")?;
            drop(servers);
        }
        end(vm, &pods)?;
    }
    Ok(())
}

#[test]
fn public_address_of_a_service_is_served_and_the_rest_of_it_is_the_internets() -> Result<()> {
    let net = known().start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
    let [pod, neighbour] = &pods;
    for version in [V4, V6] {
        let public = net.internet().ip(version);
        let _servers = [neighbour as &dyn Station, net.internet()]
            .map(|station| EchoServer::start_on(station, (station.ip(version), ECHO_PORT)));
        kube_proxy_by(
            ProxyMode::Nftables,
            vm.namespace(),
            version,
            prefix(version),
            &[service(version, &[public], &[neighbour])],
        )?;
        await_rules(vm, if version == V4 { 2 } else { 4 })?;
        // The neighbour sees the node: the rules masquerade.
        assert_reached(pod, (public, PORT), vm.ip(version))?;
        // Another port of the same address, which no rule is about.
        assert_reached(pod, (public, ECHO_PORT), vm.ip(version))?;
    }
    assert_eq!(vm.dropped()?, [].into());
    end(vm, &pods)
}

#[test]
fn rules_that_were_there_before_the_agent_are_known_to_the_first_pod() -> Result<()> {
    let net = known().without_agents().start()?;
    let vm = net.vm(0);
    let backend = net.peer();
    let servers = [V4, V6].map(|version| EchoServer::start_on(backend, (backend.ip(version), ECHO_PORT)));
    for version in [V4, V6] {
        let rules = service(version, &[balancer(version)], &[backend]);
        kube_proxy_by(ProxyMode::Iptables, vm.namespace(), version, prefix(version), &[rules])?;
    }
    vm.start_agent()?;
    let pods = [vm.add_pod("a")?];
    for version in [V4, V6] {
        assert_reached(&pods[0], (balancer(version), PORT), vm.ip(version))?;
    }
    drop(servers);
    end(vm, &pods)
}

#[test]
fn while_rules_cannot_be_read_every_service_is_served_and_status_says_why() -> Result<()> {
    for builder in [builder(), known()] {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
        let [pod, neighbour] = &pods;
        // More destinations than the agent keeps, two of them of services.
        let many: Vec<_> = (0..33_000_u32).map(|host| Ipv4Addr::from(0xc612_0000 + host).to_string()).collect();
        nft(
            vm.namespace(),
            &format!(
                "table ip many {{\n\
                   chain pre {{\n type nat hook prerouting priority dstnat;\n ip daddr {{ {} }} redirect\n }}\n\
                 }}\n",
                many.join(", ")
            ),
        )?;
        for version in [V4, V6] {
            let rules = service(version, &[balancer(version)], &[neighbour]);
            kube_proxy_by(ProxyMode::Nftables, vm.namespace(), version, prefix(version), &[rules])?;
        }
        vm.await_status("one with the problem", |status| status["problems"].to_string().contains("more than 32768"))?;
        for version in [V4, V6] {
            let _servers = [neighbour as &dyn Station, net.peer(), net.internet()]
                .map(|station| EchoServer::start_on(station, (station.ip(version), ECHO_PORT)));
            assert_reached(pod, (balancer(version), PORT), vm.ip(version))?;
            assert_reached(pod, (neighbour.ip(version), ECHO_PORT), pod.ip(version))?;
            let by_the_stack = Forwarded::count(vm.namespace(), net.peer().ip(version))?;
            assert_reached(pod, (net.peer().ip(version), ECHO_PORT), pod.ip(version))?;
            assert!(by_the_stack.packets()? > 0, "by the host's stack");
            assert_reached(pod, (net.internet().ip(version), ECHO_PORT), vm.ip(version))?;
            // From outside straight into the pod, as ever.
            let inbound = EchoServer::start_on(pod, (pod.ip(version), ECHO_PORT))?;
            assert_reached(net.peer(), inbound.address(), net.peer().ip(version))?;
        }
        nft(vm.namespace(), "delete table ip many\n")?;
        vm.await_status("well", |status| status["problems"] == json!([]) && rules_known(status) == 4)?;
        end(vm, &pods)?;
    }
    Ok(())
}

#[test]
fn services_that_the_route_table_has_no_room_for_are_served_and_status_says_how_to_make_room() -> Result<()> {
    let net = known().agent_toml("datapath.max_routes = 1024").start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
    let [pod, neighbour] = &pods;
    let v4: Vec<_> = (1..2000_u32).map(|host| Ipv4Addr::from(0xc612_0000 + host).to_string()).collect();
    let v6: Vec<_> = (1..2000_u32).map(|host| format!("2001:db8:77::{host:x}")).collect();
    for (family, many) in [("ip", v4.join(", ")), ("ip6", v6.join(", "))] {
        let chain = format!("type nat hook prerouting priority dstnat;\n {family} daddr {{ {many} }} redirect");
        nft(vm.namespace(), &format!("table {family} many {{\n chain pre {{\n {chain}\n }}\n }}\n"))?;
    }
    for version in [V4, V6] {
        let rules = service(version, &[balancer(version)], &[neighbour]);
        kube_proxy_by(ProxyMode::Nftables, vm.namespace(), version, prefix(version), &[rules])?;
    }
    let said = |status: &Value| {
        let problems = status["problems"].to_string();
        problems.contains("route table of IPv4 and IPv6 has no room") && problems.contains("datapath.max_routes")
    };
    vm.await_status("one that says so", said)?;
    let reached = |by_the_stack: bool| -> Result<()> {
        for version in [V4, V6] {
            let _servers = [neighbour as &dyn Station, net.peer(), net.internet()]
                .map(|station| EchoServer::start_on(station, (station.ip(version), ECHO_PORT)));
            assert_reached(pod, (balancer(version), PORT), vm.ip(version))?;
            let forwarded = Forwarded::count(vm.namespace(), net.peer().ip(version))?;
            let before = forwarded.packets()?;
            assert_reached(pod, (net.peer().ip(version), ECHO_PORT), pod.ip(version))?;
            assert_eq!(forwarded.packets()? > before, by_the_stack, "{version:?}");
            assert_reached(pod, (net.internet().ip(version), ECHO_PORT), vm.ip(version))?;
        }
        Ok(())
    };
    reached(true)?;
    vm.overlay_agent_toml("datapath.max_routes = 4096")?;
    vm.restart_agent()?;
    vm.await_status("well", |status| status["problems"] == json!([]))?;
    reached(false)?;
    assert_eq!(vm.dropped()?, [].into());
    end(vm, &pods)
}

/// A program that bans addresses changes a set of its own all the time, and few readings of many rules are whole.
#[test]
fn services_are_known_while_other_rules_change_all_the_time() -> Result<()> {
    let net = builder().start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
    let [pod, neighbour] = &pods;
    let _server = EchoServer::start_on(neighbour, (neighbour.ip(V4), ECHO_PORT))?;
    let many: Vec<_> = (0..25_000_u32).map(|host| Ipv4Addr::from(0xc612_0000 + host).to_string()).collect();
    nft(
        vm.namespace(),
        &format!(
            "table ip many {{\n\
               chain pre {{\n type nat hook prerouting priority dstnat;\n ip daddr {{ {} }} redirect\n }}\n\
             }}\n\
             table ip banned {{\n set banned {{ type ipv4_addr; }}\n }}\n",
            many.join(", ")
        ),
    )?;
    await_rules(vm, 25_000)?;
    let rules = [service(V4, &[balancer(V4)], &[neighbour])];
    let reached = || assert_reached(pod, (balancer(V4), PORT), vm.ip(V4));
    let ends = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let changes = scope.spawn(|| -> Result<()> {
            let each = "add element ip banned banned { 192.0.2.1 }\ndelete element ip banned banned { 192.0.2.1 }\n";
            while !ends.load(Ordering::Relaxed) {
                nft(vm.namespace(), each)?;
            }
            Ok(())
        });
        let meanwhile = || -> Result<()> {
            kube_proxy_by(ProxyMode::Nftables, vm.namespace(), V4, prefix(V4), &rules)?;
            await_rules(vm, 25_002)?;
            // Routes are published after what they are made of is known: of so many, and beside others' work, that takes a while.
            (0..10).find_map(|_| reached().ok()).map_or_else(reached, Ok)
        };
        let result = meanwhile();
        ends.store(true, Ordering::Relaxed);
        changes.join().expect("changes rules").and(result)
    })?;
    nft(vm.namespace(), "delete table ip many\n")?;
    vm.await_status("well", |status| status["problems"] == json!([]) && rules_known(status) == 2)?;
    reached()?;
    end(vm, &pods)
}

/// A rule that catches what pods ask the platform for: the node's own proxy answers.
#[test]
fn platform_address_that_the_nodes_rules_translate_is_answered_by_the_node() -> Result<()> {
    for builder in [builder(), known()] {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?];
        let metadata: IpAddr = "169.254.169.254".parse().expect("an address");
        let _proxy = EchoServer::start_on(vm, (vm.ip(V4), ECHO_PORT))?;
        nft(
            vm.namespace(),
            &format!(
                "table ip proxy {{\n\
                   chain pre {{\n type nat hook prerouting priority dstnat;\n\
                     ip daddr {metadata} tcp dport 80 dnat to {}:{ECHO_PORT};\n\
                     ip daddr {metadata} udp dport 80 dnat to {}:{ECHO_PORT};\n\
                   }}\n\
                 }}\n",
                vm.ip(V4),
                vm.ip(V4)
            ),
        )?;
        await_rules(vm, 1)?;
        assert_reached(&pods[0], (metadata, PORT), pods[0].ip(V4))?;
        end(vm, &pods)?;
    }
    Ok(())
}

/// Legacy rules send no messages, and one address in the place of another changes no size.
#[test]
fn legacy_rules_that_change_in_place_are_found_too() -> Result<()> {
    let net = builder().start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
    let [pod, neighbour] = &pods;
    let server = EchoServer::start_on(neighbour, (neighbour.ip(V4), ECHO_PORT))?;
    let write = |last: u8| {
        let balancer = IpAddr::from([10, 240, 9, last]);
        let rules = service(V4, &[balancer], &[neighbour]);
        kube_proxy_by(ProxyMode::LegacyIptables, vm.namespace(), V4, prefix(V4), &[rules])?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while probe::udp(pod, (balancer, PORT)).is_err() {
            assert!(Instant::now() < deadline, "{balancer} is not known");
        }
        assert_reached(pod, (balancer, PORT), vm.ip(V4))
    };
    write(9)?;
    write(8)?;
    drop(server);
    end(vm, &pods)
}

#[test]
fn status_says_how_to_configure_a_kube_proxy_that_takes_the_vnet_for_pods() -> Result<()> {
    let net = builder().start()?;
    let vm = net.vm(0);
    let rules =
        |local: &str| format!("*nat\n:KUBE-SVC-A -\n:KUBE-EXT-A -\n-A KUBE-EXT-A {local} -j KUBE-SVC-A\nCOMMIT\n");
    restore_rules(vm.namespace(), "iptables-nft-restore", &rules(&format!("-s {VNET_PREFIX}")))?;
    vm.await_status("one with the advice", |status| {
        let problems = status["problems"].to_string();
        problems.contains("detectLocalMode: InterfaceNamePrefix") && problems.contains(VNET_PREFIX)
    })?;
    restore_rules(vm.namespace(), "iptables-nft-restore", &rules("-i azv+"))?;
    vm.await_status("well", |status| status["problems"] == json!([])).map(drop)
}

/// kube-proxy in mode IPVS gives the addresses of services to an interface of the node.
#[test]
fn addresses_of_an_interface_that_comes_with_services_are_the_hosts() -> Result<()> {
    let net = known().start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?];
    configure(vm.namespace(), "link add kube-ipvs0 type veth peer name unused\nlink set kube-ipvs0 up\n")?;
    for version in [V4, V6] {
        let address = balancer(version);
        let length = if version == V4 { 32 } else { 128 };
        configure(vm.namespace(), &format!("addr add {address}/{length} dev kube-ipvs0 nodad\n"))?;
        let server = EchoServer::start_on(vm, (address, ECHO_PORT))?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while probe::udp(&pods[0], server.address()).is_err() {
            assert!(Instant::now() < deadline, "{address} is not the host's");
        }
        assert_reached(&pods[0], server.address(), pods[0].ip(version))?;
    }
    configure(vm.namespace(), "link del kube-ipvs0\n")?;
    end(vm, &pods)
}
