//! The pool: which addresses pods get, what happens when none is left, and when one is free again.

use std::{collections::BTreeSet, fs, net::Ipv4Addr};

use azure_cni_tests::{Fabric, Pod, Result, Station, VNET_PREFIX, Vm};

const TRY_AGAIN: u32 = 11;

/// The message of an ADD that must be refused for want of an address.
fn no_address(vm: &Vm, name: &str) -> Result<String> {
    let refusal = match vm.add_pod(name) {
        Ok(pod) => panic!("{name} got {}", pod.address()),
        Err(error) => error,
    };
    let Some(error) = refusal.refusal() else { return Err(refusal) };
    assert_eq!(error.code, TRY_AGAIN, "{error}");
    Ok(error.msg.clone())
}

#[test]
fn exhausted_pool_means_try_again_and_del_frees_an_address() -> Result<()> {
    let net = Fabric::builder().pool(2).agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    let (first, second) = (vm.add_pod("first")?, vm.add_pod("second")?);
    let addresses = BTreeSet::from([first.address(), second.address()]);
    assert_eq!(addresses, vm.pool().iter().copied().collect());
    assert_eq!(vm.status()?["pool"]["free"], 0);

    let before = vm.leftovers()?;
    for _ in 0..2 {
        let message = no_address(vm, "third")?;
        assert!(message.contains("all 2 addresses"), "{message}");
        assert_eq!(vm.leftovers()?, before);
    }
    first.del()?;
    let third = vm.add_pod("third")?;
    assert_eq!(third.address(), first.address());
    [&second, &third].into_iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn address_that_cools_down_is_not_leased_and_the_error_says_for_how_long() -> Result<()> {
    let net = Fabric::builder().pool(1).agent_toml("pool.cooldown_secs = 1000").start()?;
    let vm = net.vm(0);
    vm.add_pod("first")?.del()?;
    let message = no_address(vm, "second")?;
    assert!(message.contains("try again in 1000 s") || message.contains("try again in 999 s"), "{message}");
    // A second has passed, so that a cool-down that began again would show.
    std::thread::sleep(std::time::Duration::from_secs(1));
    // The cool-down continues through the end of the agent, by request or by force.
    vm.kill_agent()?;
    vm.start_agent()?;
    let message = no_address(vm, "second")?;
    assert!(message.contains("try again in 9"), "{message}");
    vm.expect_clean()
}

#[test]
fn addresses_of_the_vm_and_of_the_platform_are_never_a_pods() -> Result<()> {
    let net = Fabric::builder().pool(1).without_agents().start()?;
    let vm = net.vm(0);
    let free = vm.pool()[0];
    let reserved = [Ipv4Addr::new(10, 240, 0, 0), Ipv4Addr::new(10, 240, 0, 1), Ipv4Addr::new(10, 240, 255, 255)];
    let listed: String =
        reserved.iter().chain([&free]).map(|address| format!("<IPAddress Address=\"{address}\"/>")).collect();
    let pool = format!(
        "<Interfaces><Interface MacAddress=\"*\" IsPrimary=\"true\"><IPSubnet Prefix=\"{VNET_PREFIX}\">\
         <IPAddress Address=\"{}\" IsPrimary=\"true\"/>{listed}</IPSubnet></Interface></Interfaces>",
        vm.address()
    );
    let path = vm.dir().join("pool.xml");
    fs::write(&path, pool).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    vm.start_agent()?;
    let pod = vm.add_pod("only")?;
    assert_eq!(pod.address(), free);
    no_address(vm, "next")?;
    for address in reserved {
        assert!(vm.agent_log().contains(&address.to_string()), "the log names {address}");
    }
    pod.del()?;
    vm.expect_clean()
}

#[test]
fn pool_without_addresses_starts_and_refuses_every_pod() -> Result<()> {
    let net = Fabric::builder().pool(0).start()?;
    let vm = net.vm(0);
    let message = no_address(vm, "a")?;
    assert!(message.contains("no address for pods"), "{message}");
    vm.expect_clean()
}
