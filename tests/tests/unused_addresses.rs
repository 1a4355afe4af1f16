//! Addresses of the pool that no pod has: the platform's router sends packets for them to the VM, which must not send them back.

use std::{net::SocketAddr, net::UdpSocket, thread, time::Duration};

use azure_cni_tests::{
    Fabric,
    IpVersion::{V4, V6},
    Pod, Result, Station,
    probe::{self, Arrivals, ECHO_PORT, EchoServer},
};

#[test]
fn packet_for_an_unused_address_of_the_pool_does_not_go_round_and_the_next_pod_is_reached_there() -> Result<()> {
    for toml in ["routing.service_prefixes = []", ""] {
        let builder = Fabric::builder().pool(4).dual_stack();
        let net = if toml.is_empty() { builder } else { builder.agent_toml(toml) }.start()?;
        let vm = net.vm(0);
        let mut pods = vec![vm.add_pod("a")?];
        let last = vm.pool().len() - 1;
        let unused = |version| match version {
            V4 => vm.pool()[last].into(),
            V6 => std::net::IpAddr::from(vm.pool6()[last]),
        };
        for version in [V4, V6] {
            let unused = unused(version);
            let senders: [(&dyn Station, usize); 2] = [(net.peer(), 1), (&pods[0], 0)];
            for (from, at_most) in senders {
                let at_vm = Arrivals::watch(vm)?;
                let socket = from.namespace().run(|| UdpSocket::bind(SocketAddr::new(from.ip(version), 0)));
                let sent = socket.expect("its own address").send_to(b"is anybody there?", (unused, 4000));
                sent.expect("there is a route");
                thread::sleep(Duration::from_millis(200));
                let seen = at_vm.finish().into_iter().filter(|arrival| arrival.destination == unused).count();
                // Frames from the pod are seen at its interface.
                let own = usize::from(at_most == 0);
                assert_eq!(seen, at_most + own, "{} to {unused}", from.name());
            }
        }
        assert_eq!(vm.dropped()?, [("no_such_pod".to_owned(), 4)].into());
        // Whoever gets the addresses is reached.
        while pods.len() < vm.pool().len() {
            pods.push(vm.add_pod(&format!("late{}", pods.len()))?);
        }
        for version in [V4, V6] {
            let late = pods.iter().find(|pod| pod.ip(version) == unused(version)).expect("every address is used");
            let echo = EchoServer::start_on(late, (unused(version), ECHO_PORT))?;
            probe::udp(net.peer(), echo.address())?;
            probe::udp(&pods[1], echo.address())?;
        }
        pods.iter().try_for_each(Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}
