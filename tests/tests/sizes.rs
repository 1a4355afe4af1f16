//! Tables get other sizes when the agent starts again, and nothing that is open notices.

use std::{thread, time::Duration};

use azure_cni_tests::{
    Fabric,
    IpVersion::{V4, V6},
    Result, Station, Vm,
    probe::{self, Connection, ECHO_PORT, EchoServer},
};

/// The size of a table as the operator is shown it.
fn size_of(vm: &Vm, table: &str) -> Result<u64> {
    let status = vm.status()?;
    let tables = status["tables"].as_array().expect("a list").clone();
    let found = tables.iter().find(|shown| shown["name"] == table).unwrap_or_else(|| panic!("{table}: {tables:?}"));
    Ok(found["max"].as_u64().expect("a number"))
}

fn expect_settled(vm: &Vm) -> Result<()> {
    for dir in ["filling", "swapping"] {
        assert!(!vm.pins(dir).exists(), "{dir} is left");
    }
    assert_eq!(vm.dropped()?, [].into());
    Ok(())
}

#[test]
fn open_connections_survive_tables_that_get_larger_and_smaller() -> Result<()> {
    for attach in ["auto", "clsact"] {
        let net = Fabric::builder()
            .dual_stack()
            .internet_routes_pods6()
            .agent_toml(&format!("datapath.attach = '{attach}'\ndatapath.max_flows = 8192"))
            .start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
        let servers =
            [V4, V6].map(|version| EchoServer::start_on(net.internet(), (net.internet().ip(version), ECHO_PORT)));
        let servers: Vec<_> = servers.into_iter().collect::<Result<_>>()?;
        let neighbour = EchoServer::start(&pods[1])?;
        let addresses = servers.iter().map(EchoServer::address).chain([neighbour.address()]);
        let mut open = addresses.map(|address| Connection::open(&pods[0], address)).collect::<Result<Vec<_>>>()?;
        for (overlay, table, size) in [
            ("datapath.max_flows = 16384\ndatapath.max_half_open = 2048", "FLOWS4", 16_384),
            ("snat.ipv6 = true", "NAT6", 16_384),
            ("datapath.max_flows = 2048\nsnat.ipv6 = false", "FLOWS6", 2048),
            ("datapath.max_half_open = 1024", "NAT_HALF_OPEN4", 1024),
        ] {
            vm.overlay_agent_toml(overlay)?;
            vm.restart_agent()?;
            assert_eq!(size_of(vm, table)?, size, "{overlay}");
            open.iter_mut().try_for_each(|connection| connection.round_trip(overlay.as_bytes()).map(drop))?;
            assert_eq!(probe::tcp(&pods[0], servers[0].address())?.source_seen.ip(), vm.address());
            assert_eq!(vm.status()?["problems"], serde_json::json!([]));
            expect_settled(vm)?;
        }
        drop((open, servers, neighbour));
        pods.iter().try_for_each(azure_cni_tests::Pod::del)?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn connections_survive_an_agent_that_is_killed_at_any_moment_of_a_change_of_sizes() -> Result<()> {
    let net = Fabric::builder().agent_toml("datapath.max_flows = 8192").start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    let echo = EchoServer::start(net.internet())?;
    let mut open = Connection::open(&pod, echo.address())?;
    for (round, wait_ms) in [20, 60, 120, 250, 400, 600, 900].into_iter().enumerate() {
        vm.overlay_agent_toml(&format!("datapath.max_flows = {}", 4096 + 1024 * (round % 3)))?;
        vm.kill_agent()?;
        vm.launch_agent(&[])?;
        thread::sleep(Duration::from_millis(wait_ms));
        open.round_trip(b"while the agent starts")?;
        vm.kill_agent()?;
        open.round_trip(b"while it is away")?;
        vm.start_agent()?;
        open.round_trip(b"while another has finished")?;
        expect_settled(vm)?;
    }
    drop((open, echo));
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn cache_that_others_zeroed_is_written_again_within_a_round() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
    let echo = EchoServer::start(&pods[1])?;
    vm.zero_endpoint_cache(pods[0].address().into())?;
    assert!(probe::tcp(&pods[0], echo.address()).is_err(), "the pod is gone for the programs");
    vm.await_log("the repair", Duration::from_secs(20), |log| log.contains("endpoint-cache-repaired"))?;
    probe::tcp(&pods[0], echo.address())?;
    assert_eq!(vm.status()?["repairs"]["endpoint-cache-repaired"], 1);
    drop(echo);
    pods.iter().try_for_each(azure_cni_tests::Pod::del)?;
    vm.expect_clean()
}
