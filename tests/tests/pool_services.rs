//! Services with an address of the NIC's own pool.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use azure_cni_tests::{
    IpVersion::{V4, V6},
    ProxyMode, Result, Station, Vm, configure, kube_proxy_by,
    probe::{self, ECHO_PORT, EchoServer, PATIENCE},
};
use serde_json::{Value, json};

use crate::service_addresses::{PORT, assert_reached, await_rules, builder, end, known, prefix, service};

/// The platform's own, for all of them.
const ROUTER: &str = "12:34:56:78:9a:bc";

/// One that goes round would be counted for every round.
fn await_dropped(vm: &Vm, packets: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let dropped = vm.dropped()?;
        if dropped == [("no_such_pod".to_owned(), packets)].into() {
            return Ok(());
        }
        assert!(Instant::now() < deadline, "{packets} packets, but {dropped:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Azure leads every address of the NIC to this node, so one of them is as good for a load balancer as any other.
#[test]
fn address_of_the_pool_that_a_service_has_is_served_and_no_pods_until_rules_let_it_go() -> Result<()> {
    for (mode, builder) in [(ProxyMode::Nftables, builder()), (ProxyMode::Iptables, known())] {
        let net = builder.pool(3).agent_toml("pool.cooldown_secs = 0").start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
        let [pod, neighbour] = &pods;
        let addresses: [IpAddr; 2] = [vm.pool()[2].into(), vm.pool6()[2].into()];
        let write = |external: bool| -> Result<()> {
            for (version, address) in [V4, V6].into_iter().zip(addresses) {
                let rules = external.then(|| service(version, &[address], &[neighbour]));
                kube_proxy_by(mode, vm.namespace(), version, prefix(version), rules.as_slice())?;
            }
            await_rules(vm, if external { 4 } else { 0 })
        };
        let _servers = [V4, V6].map(|version| EchoServer::start_on(neighbour, (neighbour.ip(version), ECHO_PORT)));

        write(true)?;
        let problem = |status: &Value| {
            let problems = status["problems"].to_string();
            addresses.iter().all(|address| problems.contains(&address.to_string()))
                && problems.contains("for a service")
        };
        vm.await_status("one that says why", problem)?;
        for (version, address) in [V4, V6].into_iter().zip(addresses) {
            for from in [pod as &dyn Station, net.peer()] {
                assert_reached(from, (address, PORT), vm.ip(version))?;
            }
        }
        assert_eq!(vm.dropped()?, [].into());
        // What no rule is about goes to nobody, instead of to the router and back. On the platform the router answers for each address.
        for (nth, address) in addresses.into_iter().enumerate() {
            configure(vm.namespace(), &format!("neigh replace {address} lladdr {ROUTER} dev eth0 nud permanent"))?;
            for from in [pod as &dyn Station, net.peer()] {
                probe::udp_send_from_each(from, [5000], (address, ECHO_PORT))?;
            }
            await_dropped(vm, 2 * (nth as u64 + 1))?;
            configure(vm.namespace(), &format!("neigh del {address} dev eth0"))?;
        }
        let refused = vm.add_pod("c").err().expect("there is no address for it");
        assert_eq!(refused.refusal().map(|refusal| refusal.code), Some(11), "{refused}");

        write(false)?;
        vm.await_status("well", |status| status["pool"]["free"] == 1 && status["pool6"]["free"] == 1)?;
        let third = vm.add_pod("c")?;
        write(true)?;
        let problem = |status: &Value| {
            let problems = status["problems"].to_string();
            problem(status) && problems.contains("a pod has it") && problems.contains(third.container_id())
        };
        vm.await_status("one that names the pod", problem)?;
        for (version, address) in [V4, V6].into_iter().zip(addresses) {
            assert_eq!(third.ip(version), address);
            let _server = EchoServer::start_on(&third, (address, PORT));
            assert_reached(pod, (address, PORT), pod.ip(version))?;
            assert_reached(net.peer(), (address, PORT), net.peer().ip(version))?;
        }
        third.check()?;
        write(false)?;
        third.del()?;
        vm.await_status("well", |status| status["problems"] == json!([]))?;
        end(vm, &pods)?;
    }
    Ok(())
}
