//! Networks of the node that are not behind its uplink: a bridge, a VPN, a second NIC. Its routes are obeyed, live.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use azure_cni_tests::{
    Fabric, Forwarded,
    IpVersion::{V4, V6},
    Namespace, Pod, Result, Station, Vm, configure,
    probe::{self, Connection, ECHO_PORT, EchoServer},
};

/// A machine behind another interface of the node.
struct Behind {
    namespace: Namespace,
    address: Ipv4Addr,
    address6: Ipv6Addr,
}

impl Station for Behind {
    fn name(&self) -> &str {
        "behind"
    }

    fn address(&self) -> Ipv4Addr {
        self.address
    }

    fn address6(&self) -> Option<Ipv6Addr> {
        Some(self.address6)
    }

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl Behind {
    /// With the prefixes 24 and 64 of these, of which the node has the first address and the machine the second.
    fn attach(vm: &Vm, v4: [u8; 3], v6: &str) -> Result<Self> {
        let namespace = Namespace::create("behind")?;
        let [a, b, c] = v4;
        configure(
            vm.namespace(),
            &format!(
                "link add second0 type veth peer name eth0 netns behind\n\
                 addr add {a}.{b}.{c}.1/24 dev second0\naddr add {v6}::1/64 dev second0 nodad\nlink set second0 up\n"
            ),
        )?;
        configure(
            &namespace,
            &format!(
                "addr add {a}.{b}.{c}.2/24 dev eth0\naddr add {v6}::2/64 dev eth0 nodad\nlink set eth0 up\n\
                 route add default via {a}.{b}.{c}.1\nroute add ::/0 via {v6}::1 dev eth0\n"
            ),
        )?;
        let address6 = format!("{v6}::2").parse().expect("an address");
        Ok(Self { namespace, address: Ipv4Addr::new(a, b, c, 2), address6 })
    }
}

fn await_elsewhere(vm: &Vm, count: u64) -> Result<()> {
    let what = format!("one with {count} prefixes elsewhere");
    vm.await_status(&what, |status| status["routesElsewhere"].as_u64() == Some(count)).map(drop)
}

fn assert_reached(from: &dyn Station, to: &dyn Station, at: IpAddr, promised: IpAddr) -> Result<()> {
    assert_eq!(probe::tcp(from, (at, ECHO_PORT))?.source_seen.ip(), promised, "{} -> {}", from.name(), to.name());
    assert_eq!(probe::udp(from, (at, ECHO_PORT))?.source_seen.ip(), promised, "{} -> {}", from.name(), to.name());
    Ok(())
}

#[test]
fn network_behind_another_interface_is_reached_while_a_route_leads_there() -> Result<()> {
    let known = "routing.service_prefixes = ['10.0.0.0/16', 'fd00:5::/108']";
    for (overlay, v4, v6) in [
        (known, [172, 17, 0], "fd00:17"),
        // A part of the VNet, which the uplink has a route for too.
        (known, [10, 240, 77], "fd00:10:240:77"),
        ("", [10, 240, 77], "fd00:10:240:77"),
    ] {
        let net = Fabric::builder().dual_stack().agent_toml("snat.ipv6 = true").agent_toml(overlay).start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?];
        let pod = &pods[0];
        await_elsewhere(vm, 0)?;
        let behind = Behind::attach(vm, v4, v6)?;
        await_elsewhere(vm, 2)?;
        for version in [V4, V6] {
            let to = behind.ip(version);
            let _servers = [&behind as &dyn Station, pod, net.internet()]
                .map(|station| EchoServer::start_on(station, (station.ip(version), ECHO_PORT)));
            assert_reached(pod, &behind, to, pod.ip(version))?;
            assert_reached(&behind, pod, pod.ip(version), to)?;
            assert_reached(pod, net.internet(), net.internet().ip(version), vm.ip(version))?;
            let mut lasting = Connection::open(pod, (to, ECHO_PORT))?;
            lasting.round_trip(b"a large answer comes up as well")?;
        }
        assert_eq!(vm.dropped()?, [].into());
        configure(vm.namespace(), "link del second0\n")?;
        await_elsewhere(vm, 0)?;
        for version in [V4, V6] {
            let by_the_stack = Forwarded::count(vm.namespace(), behind.ip(version))?;
            assert!(probe::udp(pod, (behind.ip(version), ECHO_PORT)).is_err());
            assert_eq!(by_the_stack.packets()?, 0, "it is the uplink's again");
        }
        pods.iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn what_the_node_refuses_is_refused_and_a_default_route_elsewhere_says_nothing() -> Result<()> {
    let known = "routing.service_prefixes = ['10.0.0.0/16', 'fd00:5::/108']";
    let net = Fabric::builder().dual_stack().agent_toml("snat.ipv6 = true").agent_toml(known).start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?];
    configure(
        vm.namespace(),
        "link add other0 type veth peer name unused\nlink set unused up\nlink set other0 up\nroute add default dev other0 metric 5000\n\
         route add unreachable 10.240.88.0/24\nroute add unreachable fd00:10:240:88::/64\n",
    )?;
    await_elsewhere(vm, 2)?;
    for (version, refused) in [(V4, "10.240.88.1"), (V6, "fd00:10:240:88::1")] {
        let echo = EchoServer::start_on(net.internet(), (net.internet().ip(version), ECHO_PORT))?;
        assert_reached(&pods[0], net.internet(), echo.address().ip(), vm.ip(version))?;
        let refused: IpAddr = refused.parse().expect("an address");
        let began = std::time::Instant::now();
        assert!(probe::tcp(&pods[0], (refused, ECHO_PORT)).is_err());
        assert!(began.elapsed() < probe::PATIENCE, "the node's answer comes at once");
    }
    pods.iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}
