//! STATUS: fails exactly if this node leaves pods without a network, and says what an operator has to do. A node that is full is
//! not one of those: a runtime would have its pods evicted.

use std::fs;

use azure_cni_tests::{CniCall, CniError, Fabric, FabricBuilder, Namespace, Result, Station, Vm, configure};
use nix::mount::{MntFlags, umount2};

/// The CNI specification, section "Error".
const TRY_AGAIN: u32 = 11;
const UNAVAILABLE: u32 = 50;
const LIMITED: u32 = 51;
/// "I/O failure"
const FULL_DISK: u32 = 5;

fn status(vm: &Vm) -> Result<CniCall> {
    Ok(CniCall::new("STATUS")?.netconf(&vm.netconf()))
}

fn assert_available(vm: &Vm) -> Result<()> {
    let output = vm.cni(&status(vm)?)?;
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let pod = vm.add_pod("available")?;
    pod.del()
}

/// STATUS fails with this code and these words. So does an ADD, and it leaves nothing.
fn assert_unavailable(vm: &Vm, code: u32, words: &[&str]) -> Result<CniError> {
    let error = vm.cni(&status(vm)?)?.error()?;
    assert_eq!(error.code, code, "{error}");
    for word in words {
        assert!(error.msg.contains(word), "{word}: {error}");
    }
    let namespace = Namespace::create("unavailable")?;
    let add = CniCall::new("ADD")?.attachment("unavailable", namespace.path(), "eth0").netconf(&vm.netconf());
    let refused = vm.cni(&add)?.error()?;
    assert_eq!(refused.code, TRY_AGAIN, "{refused}");
    for word in words {
        assert!(refused.msg.contains(word), "{word}: {refused}");
    }
    Ok(error)
}

fn fabric() -> FabricBuilder {
    Fabric::builder().agent_toml("pool.cooldown_secs = 0")
}

#[test]
fn status_succeeds_while_pods_can_be_added() -> Result<()> {
    for builder in [fabric(), fabric().dual_stack(), fabric().agent_toml("datapath.attach = 'clsact'")] {
        let net = builder.start()?;
        assert_available(net.vm(0))?;
        net.vm(0).expect_clean()?;
    }
    Ok(())
}

#[test]
fn status_without_an_agent_names_the_socket() -> Result<()> {
    let net = fabric().without_agents().start()?;
    let vm = net.vm(0);
    let socket = vm.socket();
    assert_unavailable(vm, UNAVAILABLE, &["agent", &socket.to_string_lossy()])?;
    vm.start_agent()?;
    assert_available(vm)
}

/// STATUS succeeds, an ADD fails with this code and word, and the operator's command has both words.
fn assert_refuses_pods_alone(vm: &Vm, code: u32, word: &str, problem: &str) -> Result<()> {
    let output = vm.cni(&status(vm)?)?;
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let namespace = Namespace::create("refused")?;
    let add = CniCall::new("ADD")?.attachment("refused", namespace.path(), "eth0").netconf(&vm.netconf());
    let refused = vm.cni(&add)?.error()?;
    assert_eq!(refused.code, code, "{refused}");
    assert!(refused.to_string().contains(word), "{refused}");
    let problems = vm.status()?["problems"].to_string();
    assert!(problems.contains(word) && problems.contains(problem), "{problems}");
    Ok(())
}

#[test]
fn full_node_is_healthy_and_refuses_one_pod_more() -> Result<()> {
    // The ADD names the family that it missed first.
    for (builder, family) in [(fabric(), "IPv4"), (fabric().dual_stack(), "IPv6")] {
        let net = builder.pool(2).start()?;
        let vm = net.vm(0);
        let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
        assert_refuses_pods_alone(vm, TRY_AGAIN, family, "2 are leased")?;
        pods[0].del()?;
        assert_available(vm)?;
    }
    Ok(())
}

#[test]
fn node_whose_free_addresses_all_cool_down_is_healthy() -> Result<()> {
    for (reuse, available) in [("false", false), ("true", true)] {
        let toml = format!("pool.cooldown_secs = 600\npool.reuse_cooling = {reuse}");
        let net = Fabric::builder().pool(1).agent_toml(&toml).start()?;
        let vm = net.vm(0);
        vm.add_pod("a")?.del()?;
        if available {
            assert_available(vm)?;
        } else {
            assert_refuses_pods_alone(vm, TRY_AGAIN, "IPv4", "1 were released")?;
        }
    }
    Ok(())
}

#[test]
fn status_with_forwarding_off_has_the_command_that_mends_it() -> Result<()> {
    let net = fabric().dual_stack().start()?;
    let vm = net.vm(0);
    for (key, command) in [
        ("net/ipv4/ip_forward", "sysctl -w net.ipv4.ip_forward=1"),
        ("net/ipv6/conf/all/forwarding", "sysctl -w net.ipv6.conf.all.forwarding=1"),
    ] {
        vm.namespace().sysctl(key, "0")?;
        assert_unavailable(vm, LIMITED, &["forwarding is off", command])?;
        vm.namespace().sysctl(key, "1")?;
        assert_available(vm)?;
    }
    Ok(())
}

#[test]
fn status_with_the_uplink_down_has_the_command_that_mends_it() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    configure(vm.namespace(), "link set eth0 down")?;
    assert_unavailable(vm, LIMITED, &["eth0 is down", "ip link set eth0 up"]).map(drop)
}

#[test]
fn status_without_the_bpf_file_system_names_it() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    let mount = vm.bpffs_dir().parent().expect("the agent has a directory of its own").to_owned();
    umount2(&mount, MntFlags::MNT_DETACH).expect("the fabric mounted it");
    assert_unavailable(vm, LIMITED, &[&mount.to_string_lossy(), "bpffs"])?;
    vm.restart_agent()?;
    assert_available(vm)
}

#[test]
fn node_with_a_full_disk_is_healthy_and_refuses_pods() -> Result<()> {
    let net = fabric().without_agents().start()?;
    let vm = net.vm(0);
    let dir = vm.state_dir();
    let size = Some("size=8m");
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &dir, Some("tmpfs"), flags, size).expect("a mount namespace of our own");
    vm.start_agent()?;
    assert_available(vm)?;
    let filler = dir.join("filler");
    // Until the disk is full, which is an error.
    fs::write(&filler, vec![0; 16 << 20]).expect_err("the disk is smaller");
    assert_refuses_pods_alone(vm, FULL_DISK, "No space", "attachments cannot be recorded")?;
    fs::remove_file(&filler).expect("it was written");
    assert_available(vm)
}

#[test]
fn operators_command_shows_the_same_problems() -> Result<()> {
    let net = fabric().start()?;
    let vm = net.vm(0);
    vm.namespace().sysctl("net/ipv4/ip_forward", "0")?;
    let error = vm.cni(&status(vm)?)?.error()?;
    let problems = vm.status()?["problems"].clone();
    assert_eq!(problems, serde_json::json!([error.msg]));
    Ok(())
}
