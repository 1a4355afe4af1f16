//! A guest behind a pod's interface, as Kata puts one there: what arrives at the interface goes on to it as it is (tc mirred), and it
//! has the pod's MAC and addresses. It takes in no frame for another MAC.

use std::net::{Ipv4Addr, Ipv6Addr};

use azure_cni_tests::{
    Fabric,
    IpVersion::{V4, V6},
    Namespace, Pod, Result, Station, configure,
    probe::{self, Connection, ECHO_PORT, EchoServer},
    query, traffic_control,
};

struct Guest {
    namespace: Namespace,
    address: Ipv4Addr,
    address6: Ipv6Addr,
}

impl Guest {
    /// Takes over a pod's interface.
    fn behind(pod: &Pod) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-guest", pod.name()))?;
        let mac = query(pod.namespace(), "link show dev eth0")?[0]["address"].clone();
        let mac = mac.as_str().expect("a link has a MAC").to_owned();
        let (address, address6) = (pod.address(), pod.address6().expect("dual stack"));
        let of_pod = format!(
            "link add tap0 type veth peer name eth0 address {mac} netns {}\n\
             link set tap0 up\naddr flush dev eth0\n",
            namespace.name()
        );
        configure(pod.namespace(), &of_pod)?;
        for (from, to) in [("eth0", "tap0"), ("tap0", "eth0")] {
            traffic_control(pod.namespace(), &format!("qdisc add dev {from} ingress"))?;
            let redirect = format!("u32 match u32 0 0 action mirred egress redirect dev {to}");
            let filter = format!("filter add dev {from} parent ffff: protocol all {redirect}");
            traffic_control(pod.namespace(), &filter)?;
        }
        for key in ["accept_dad", "accept_ra"] {
            namespace.sysctl(&format!("net/ipv6/conf/eth0/{key}"), "0")?;
        }
        // It looks for its gateway itself.
        let of_guest = format!(
            "link set eth0 up\naddr add {address}/32 dev eth0\naddr add {address6}/128 dev eth0 nodad\n\
             route add 169.254.1.1 dev eth0\nroute add default via 169.254.1.1 dev eth0\n\
             neigh replace 169.254.1.1 lladdr aa:aa:aa:aa:aa:aa dev eth0 nud permanent\n\
             route add default via fe80::1234:5678:9abc dev eth0\n\
             neigh replace fe80::1234:5678:9abc lladdr aa:aa:aa:aa:aa:aa dev eth0 nud permanent\n"
        );
        configure(&namespace, &of_guest)?;
        Ok(Self { namespace, address, address6 })
    }
}

impl Station for Guest {
    fn name(&self) -> &str {
        self.namespace.name()
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

#[test]
fn guest_behind_a_pods_interface_reaches_and_is_reached_by_every_path() -> Result<()> {
    let builder = Fabric::builder().vms(2).dual_stack().agent_toml("routing.service_prefixes = []");
    let net = builder.agent_toml("snat.ipv6 = true").start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?, net.vm(1).add_pod("c")?];
    let guest = Guest::behind(&pods[0])?;
    for version in [V4, V6] {
        let own = EchoServer::start_on(&guest, (guest.ip(version), ECHO_PORT))?;
        let ends: [(&dyn Station, bool); 5] =
            [(&pods[1], true), (&pods[2], true), (vm, true), (net.peer(), true), (net.internet(), false)];
        for (end, reaches_pods) in ends {
            let echo = EchoServer::start_on(end, (end.ip(version), ECHO_PORT))?;
            Connection::open(&guest, echo.address())?.round_trip(&[7; 100_000])?;
            probe::udp(&guest, echo.address())?;
            probe::ping(&guest, end.ip(version))?;
            if reaches_pods {
                assert_eq!(probe::tcp(end, own.address())?.source_seen.ip(), end.ip(version), "{}", end.name());
                probe::udp(end, own.address())?;
                probe::ping(end, guest.ip(version))?;
            }
        }
    }
    assert_eq!(vm.dropped()?, [].into());
    drop(guest);
    pods.iter().try_for_each(Pod::del)?;
    net.vms().iter().try_for_each(|vm| vm.expect_clean())
}
