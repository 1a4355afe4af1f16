//! The node's default route goes, comes back and changes, in both families.

use std::net::IpAddr;

use azure_cni_tests::{
    CniCall, Fabric, FabricBuilder, GATEWAY6,
    IpVersion::{self, V4, V6},
    Pod, Result, Station, Vm, configure,
    probe::{self, ECHO_PORT, EchoServer},
};
use serde_json::json;

const LIMITED: u32 = 51;

fn both_ways() -> [FabricBuilder; 2] {
    let builder = || Fabric::builder().dual_stack().agent_toml("snat.ipv6 = true\nreconcile.interval_secs = 1");
    [builder(), builder().agent_toml("routing.service_prefixes = []")]
}

fn router(version: IpVersion) -> IpAddr {
    match version {
        V4 => "10.240.0.1".parse().expect("an address"),
        V6 => GATEWAY6.into(),
    }
}

/// `ip -4` and `ip -6` are no lines of a batch: the default route is named by its prefix.
fn default_of(version: IpVersion) -> &'static str {
    if version == V4 { "0.0.0.0/0" } else { "::/0" }
}

fn status_fails(vm: &Vm) -> Result<bool> {
    let output = vm.cni(&CniCall::new("STATUS")?.netconf(&vm.netconf()))?;
    if output.status.success() {
        return Ok(false);
    }
    let error = output.error()?;
    assert_eq!(error.code, LIMITED, "{error}");
    Ok(true)
}

#[test]
fn default_route_that_is_gone_is_a_problem_and_its_return_is_enough() -> Result<()> {
    for (builder, past_the_stack) in both_ways().into_iter().zip([false, true]) {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        for version in [V4, V6] {
            let echo = EchoServer::start_on(net.internet(), (net.internet().ip(version), ECHO_PORT))?;
            probe::tcp(&pod, echo.address())?;
            configure(vm.namespace(), &format!("route del {}", default_of(version)))?;
            let named = |status: &serde_json::Value| {
                let problems = status["problems"].to_string();
                problems.contains("default route") && problems.contains(if version == V4 { "IPv4" } else { "IPv6" })
            };
            vm.await_status("named", named)?;
            assert!(status_fails(vm)?);
            // For a packet that has its interface already, the kernel takes an IPv4 destination without a route to be on the link
            // (net/ipv4/route.c, ip_route_output_key_hash_rcu), and this router answers for every address.
            if version == V6 || !past_the_stack {
                assert!(probe::udp(&pod, echo.address()).is_err(), "{version:?}");
            }
            configure(vm.namespace(), &format!("route add {} via {} dev eth0", default_of(version), router(version)))?;
            vm.await_status("well", |status| status["problems"] == json!([]))?;
            assert!(!status_fails(vm)?);
            probe::tcp(&pod, echo.address())?;
        }
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

/// As the clients of VPNs set up routes: a default route that is better, the halves of the Internet, and a table of their own.
#[test]
fn better_way_to_the_internet_than_the_uplinks_is_a_problem_where_pods_take_it_and_the_node_stays_ready() -> Result<()>
{
    for (builder, past_the_stack) in both_ways().into_iter().zip([false, true]) {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        configure(
            vm.namespace(),
            "link add vpn0 type veth peer name vpn1\nlink set vpn1 up\nlink set vpn0 up\n\
             addr add 172.30.0.2/24 dev vpn0\naddr add fd00:77::2/64 dev vpn0 nodad",
        )?;
        for version in [V4, V6] {
            let (default, uplinks) = (default_of(version), format!("via {} dev eth0", router(version)));
            let had = if version == V4 { "" } else { "metric 1024" };
            configure(
                vm.namespace(),
                &format!("route add {default} {uplinks} metric 2048\nroute del {default} {uplinks} {had}"),
            )?;
            let halves = if version == V4 { ["0.0.0.0/1", "128.0.0.0/1"] } else { ["2000::/4", "3000::/4"] };
            let [add_halves, del_halves] =
                ["add", "del"].map(|verb| halves.map(|half| format!("route {verb} {half} dev vpn0\n")).concat());
            let mut ways = vec![
                (
                    format!("route add {default} dev vpn0 metric 50"),
                    format!("route del {default} dev vpn0 metric 50"),
                    false,
                ),
                (add_halves, del_halves, true),
            ];
            if version == V4 {
                ways.push((
                    format!(
                        "route add {default} dev vpn0 table 77\nrule add table main suppress_prefixlength 0 priority 100\n\
                         rule add not fwmark 1 table 77 priority 101"
                    ),
                    format!("rule del priority 101\nrule del priority 100\nroute del {default} dev vpn0 table 77"),
                    false,
                ));
            }
            for (add, del, in_any_case) in ways {
                configure(vm.namespace(), &add)?;
                let family = if version == V4 { "IPv4" } else { "IPv6" };
                let named = |status: &serde_json::Value| {
                    status["problems"].to_string().contains(&format!("best way to the Internet by {family} is vpn0"))
                };
                if past_the_stack && !in_any_case {
                    // The halves may just have gone.
                    vm.await_status("well", |status| status["problems"] == json!([]))?;
                    let echo = EchoServer::start_on(net.internet(), (net.internet().ip(version), ECHO_PORT))?;
                    probe::tcp(&pod, echo.address())?;
                } else {
                    vm.await_status("named", named)?;
                }
                assert!(!status_fails(vm)?, "{add}");
                configure(vm.namespace(), &del)?;
                vm.await_status("well", |status| status["problems"] == json!([]))?;
            }
            // Of the Internet a part only.
            let part = if version == V4 { "91.0.0.0/8" } else { "2a00::/12" };
            configure(vm.namespace(), &format!("route add {part} dev vpn0"))?;
            assert_eq!(vm.status()?["problems"], json!([]));
            configure(vm.namespace(), &format!("route del {part} dev vpn0"))?;
        }
        configure(vm.namespace(), "link del vpn0")?;
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn node_that_has_no_default_route_from_the_start_is_meant_so() -> Result<()> {
    let net = Fabric::builder().without_agents().start()?;
    let vm = net.vm(0);
    configure(vm.namespace(), "route del default")?;
    vm.start_agent()?;
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
    let echo = EchoServer::start(&pods[1])?;
    probe::tcp(&pods[0], echo.address())?;
    assert!(!status_fails(vm)?);
    assert_eq!(vm.status()?["problems"], json!([]));
    pods.iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn another_gateway_is_followed() -> Result<()> {
    for builder in both_ways() {
        let net = builder.start()?;
        let vm = net.vm(0);
        let pod = vm.add_pod("a")?;
        // The platform's router answers for every address of the subnet.
        configure(net.router(), &format!("addr add fe80::99/64 dev {} nodad", vm.name()))?;
        for (version, gateway) in [(V4, "10.240.0.2"), (V6, "fe80::99")] {
            let echo = EchoServer::start_on(net.internet(), (net.internet().ip(version), ECHO_PORT))?;
            probe::tcp(&pod, echo.address())?;
            configure(vm.namespace(), &format!("route replace {} via {gateway} dev eth0", default_of(version)))?;
            let said = format!("\"{gateway}\"");
            vm.await_log("the new gateway", probe::PATIENCE, |log| log.contains(&said))?;
            probe::tcp(&pod, echo.address())?;
            probe::udp(&pod, echo.address())?;
            assert!(!status_fails(vm)?, "{gateway}");
        }
        pod.del()?;
        vm.expect_clean()?;
    }
    Ok(())
}
