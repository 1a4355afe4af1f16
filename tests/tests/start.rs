//! An agent that cannot work does not start. It says what is missing and how to fix it, and it changes nothing.

use std::{
    fs,
    net::Ipv4Addr,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
};

use aya::programs::{SchedClassifier, TcAttachType};
use azure_cni_tests::{
    Fabric, FabricBuilder, Result, Station, Vm, configure,
    probe::{self, EchoServer},
    query,
};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

fn without_agents() -> FabricBuilder {
    Fabric::builder().without_agents()
}

/// The agent's error must have all of these words, and the agent must not have touched anything.
fn assert_refused(vm: &Vm, words: &[&str]) -> Result<()> {
    let said = vm.refused_start(&[])?;
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(!vm.pins("maps").exists(), "it loaded its maps before it looked");
    assert!(!vm.socket().exists());
    let mut tc = vm.namespace().command("tc")?;
    let filters = tc.args(["qdisc", "show", "dev", "eth0", "clsact"]).output().expect("tc is part of iproute2");
    assert!(filters.stdout.is_empty(), "{filters:?}");
    Ok(())
}

fn overwrite(vm: &Vm, name: &str, text: &str) {
    let path = vm.dir().join(name);
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[test]
fn forwarding_that_is_off_is_named_with_the_command_that_mends_it() -> Result<()> {
    let net = without_agents().start()?;
    let vm = net.vm(0);
    vm.namespace().sysctl("net/ipv4/ip_forward", "0")?;
    assert_refused(vm, &["forwarding", "sysctl -w net.ipv4.ip_forward=1"])?;
    vm.namespace().sysctl("net/ipv4/ip_forward", "1")?;
    vm.start_agent()?;
    vm.expect_clean()
}

#[test]
fn strict_reverse_path_filter_off_the_default_route_is_named_with_the_command_that_mends_it() -> Result<()> {
    let net = without_agents().start()?;
    let vm = net.vm(0);
    configure(
        vm.namespace(),
        "route del default\nlink add other type veth peer name end\nlink set end up\nlink set other up\nroute add default dev other\n",
    )?;
    vm.namespace().sysctl("net/ipv4/conf/all/rp_filter", "0")?;
    vm.namespace().sysctl("net/ipv4/conf/eth0/rp_filter", "1")?;
    assert_refused(vm, &["rp_filter", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"])
}

#[test]
fn uplink_that_is_down_or_missing_is_named_with_what_there_is() -> Result<()> {
    let net = without_agents().start()?;
    let vm = net.vm(0);
    configure(vm.namespace(), "link set eth0 down")?;
    assert_refused(vm, &["eth0 is down", "ip link set eth0 up"])?;
    configure(vm.namespace(), "link set eth0 name nic0")?;
    assert_refused(vm, &["uplink \"eth0\" does not exist", "nic0"])
}

#[test]
fn unknown_configuration_key_is_named_with_its_line() -> Result<()> {
    let net = without_agents().agent_toml("datapath.max_flow = 65536").start()?;
    let vm = net.vm(0);
    let text = fs::read_to_string(vm.dir().join("agent.toml")).expect("the fabric wrote it");
    let line = 1 + text.lines().position(|line| line.starts_with("max_flow")).expect("the key is there");
    assert_refused(vm, &["agent.toml", &format!("line {line}"), "unknown field `max_flow`", "max_flows"])
}

#[test]
fn pool_file_that_is_missing_or_malformed_is_named_with_the_place() -> Result<()> {
    let net = without_agents().start()?;
    let vm = net.vm(0);
    let path = vm.dir().join("pool.xml");
    let file = path.to_string_lossy();
    fs::remove_file(&path).expect("the fabric wrote it");
    assert_refused(vm, &[&file, "No such file", "pool.file"])?;
    overwrite(vm, "pool.xml", "<Interfaces>\n<Interface MacAddress=\"*\">\n");
    assert_refused(vm, &[&file])?;
    let broken = "<Interfaces>\n<Interface MacAddress=\"*\">\n<IPSubnet Prefix=\"10.240.0.0/16\">\n<IPAddress Address=\"10.240.0.256\"/>\n</IPSubnet></Interface></Interfaces>";
    overwrite(vm, "pool.xml", broken);
    assert_refused(vm, &[&file, "line 4", "10.240.0.256"])?;
    overwrite(vm, "pool.xml", "<Interfaces><Interface MacAddress=\"0200DEADBEEF\"/></Interfaces>");
    assert_refused(vm, &[&file, "eth0", "02:00:de:ad:be:ef"])
}

#[test]
fn primary_address_that_the_uplink_lacks_is_named_with_those_it_has() -> Result<()> {
    let net = without_agents().start()?;
    let vm = net.vm(0);
    let elsewhere = Ipv4Addr::new(10, 240, 9, 9);
    configure(vm.namespace(), &format!("addr flush dev eth0\naddr add {elsewhere}/16 dev eth0\n"))?;
    assert_refused(vm, &["eth0", &vm.address().to_string(), &elsewhere.to_string()])
}

#[test]
fn port_range_that_the_hosts_own_sockets_use_is_named_with_the_ports_in_common() -> Result<()> {
    let net = without_agents().agent_toml("snat.port_range = '40000-40999'").start()?;
    assert_refused(net.vm(0), &["snat.port_range 40000-40999", "ip_local_port_range", "40000-40999"])
}

/// In a namespace of its own, where the lock of the namespace does not tell.
#[test]
fn agent_loses_nothing_of_another_whose_directories_it_would_use() -> Result<()> {
    let net = Fabric::builder().vms(2).start()?;
    let (vm, other) = (net.vm(0), net.vm(1));
    let pods = [vm.add_pod("a")?, vm.add_pod("b")?];
    other.stop_agent()?;
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let (socket, state, bpffs) = (text(vm.socket()), text(vm.state_dir()), text(vm.bpffs_dir()));
    let thefts: [&[&str]; 3] = [&["--socket", &socket], &["--state-dir", &state], &["--bpffs-dir", &bpffs]];
    for arguments in thefts {
        let said = other.refused_start(arguments)?;
        assert!(said.contains(arguments[1]), "{arguments:?}: {said}");
        let echo = EchoServer::start(&pods[1])?;
        probe::tcp(&pods[0], echo.address())?;
        pods.iter().try_for_each(|pod| pod.check())?;
    }
    pods.iter().try_for_each(|pod| pod.del())?;
    vm.expect_clean()
}

#[test]
fn network_configuration_of_the_runtime_is_written_once_the_agent_serves_and_never_over_another() -> Result<()> {
    let net = without_agents().start()?;
    let vm = net.vm(0);
    let path = vm.dir().join("net.d/10-azure.conflist");
    vm.overlay_agent_toml(&format!("conflist = '{}'", path.display()))?;
    vm.namespace().sysctl("net/ipv4/ip_forward", "0")?;
    vm.refused_start(&[])?;
    assert!(!path.exists(), "the node would be taken for ready");
    vm.namespace().sysctl("net/ipv4/ip_forward", "1")?;
    vm.start_agent()?;
    vm.await_log("the configuration", std::time::Duration::from_secs(5), |log| {
        log.contains("configuration is written")
    })?;

    // What a runtime makes of it: the configuration of one plugin, in the newest version that it offers.
    let conflist: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).expect("written")).expect("JSON");
    let mut netconf = conflist["plugins"][0].clone();
    netconf["name"] = conflist["name"].clone();
    netconf["cniVersion"] =
        conflist["cniVersions"].as_array().and_then(|versions| versions.last()).cloned().unwrap_or_default();
    let pod = vm.add_pod_with("a", netconf)?;
    pod.check()?;
    pod.del()?;

    fs::write(&path, "the operator's").expect("ours");
    vm.restart_agent()?;
    assert_eq!(fs::read_to_string(&path).expect("still there"), "the operator's");
    vm.expect_clean()
}

/// A runtime calls every plugin of the chain in the newest version that the conflist offers.
#[test]
fn network_configuration_offers_the_versions_that_all_plugins_of_the_chain_speak() -> Result<()> {
    let net = without_agents().start()?;
    let vm = net.vm(0);
    let (path, bin) = (vm.dir().join("net.d/10-azure.conflist"), vm.dir().join("bin"));
    fs::create_dir(&bin).expect("new");
    vm.overlay_agent_toml(&format!("conflist = '{}'\ncni_bin_dirs = ['{}']", path.display(), bin.display()))?;
    let portmap = |versions: &str| {
        let script = format!("#!/bin/sh\necho '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[{versions}]}}'\n");
        fs::write(bin.join("portmap"), script).expect("writable");
        fs::set_permissions(bin.join("portmap"), fs::Permissions::from_mode(0o755)).expect("ours");
    };
    let offers = |wanted: &[&str]| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let conflist: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            if conflist["cniVersions"] == serde_json::json!(wanted) {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{wanted:?} is not offered by {text}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    // Debian 12's portmap, one of today, and Debian's again.
    let debian = r#""0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0""#;
    let today = r#""0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0""#;
    for (versions, wanted) in [
        (debian, &["0.3.1", "0.4.0", "1.0.0"][..]),
        (today, &["0.3.1", "0.4.0", "1.0.0", "1.1.0"]),
        (debian, &["0.3.1", "0.4.0", "1.0.0"]),
    ] {
        portmap(versions);
        vm.start_agent()?;
        offers(wanted);
        assert_eq!(vm.status()?["problems"], serde_json::json!([]));
        vm.stop_agent()?;
    }
    portmap(today);
    vm.start_agent()?;
    offers(&["0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    vm.stop_agent()?;
    fs::remove_file(bin.join("portmap")).expect("ours");
    vm.start_agent()?;
    offers(&["0.3.1", "0.4.0", "1.0.0"]);
    vm.await_status("told", |status| status["problems"].to_string().contains("plugin portmap is in none of"))?;
    vm.expect_clean()
}

#[test]
fn bpf_file_system_is_mounted_where_there_is_none() -> Result<()> {
    let net = without_agents().start()?;
    let vm = net.vm(0);
    let dir = vm.dir().join("elsewhere");
    let on_bpffs = || statfs(&dir).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
    let text = fs::read_to_string(vm.dir().join("agent.toml")).expect("the fabric wrote it");
    let moved = text.replace(&*vm.bpffs_dir().to_string_lossy(), &dir.to_string_lossy());
    assert_ne!(moved, text);
    overwrite(vm, "agent.toml", &moved);
    for _ in 0..2 {
        vm.start_agent()?;
        assert!(on_bpffs());
        let pod = vm.add_pod("a")?;
        pod.check()?;
        pod.del()?;
        vm.stop_agent()?;
    }
    // The second start found the first one's mount.
    let mounts = fs::read_to_string("/proc/thread-self/mounts").expect("a table");
    assert_eq!(mounts.lines().filter(|line| line.contains(&*dir.to_string_lossy())).count(), 1);
    assert_eq!(query(vm.namespace(), "link show type veth")?.len(), 1, "only the uplink is left");
    Ok(())
}

/// As numbered in include/uapi/linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;

#[test]
fn capabilities_that_a_container_lacks_are_named_and_two_are_enough() -> Result<()> {
    let net = without_agents().start()?;
    let vm = net.vm(0);
    let lacking: [(&[u32], &[&str]); 3] = [
        (&[], &["lacks CAP_NET_ADMIN and CAP_SYS_ADMIN", "privileged"]),
        (&[CAP_SYS_ADMIN], &["lacks CAP_NET_ADMIN,"]),
        (&[CAP_NET_ADMIN], &["lacks CAP_SYS_ADMIN,"]),
    ];
    for (capabilities, words) in lacking {
        let said = vm.refused_start_with_only(capabilities)?;
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
        assert!(!vm.pins("maps").exists(), "it loaded its maps before it looked");
    }
    vm.start_agent_with_only(&[CAP_NET_ADMIN, CAP_SYS_ADMIN])?;
    let echo = EchoServer::start(net.internet())?;
    let pod = vm.add_pod("a")?;
    assert_eq!(probe::tcp(&pod, echo.address())?.source_seen.ip(), vm.address());
    pod.check()?;

    // Of a process with more rights than the agent has: what is behind it is behind the kernel's check for tracing (proc_pid_fd(5)).
    let namespace = fs::File::open(pod.namespace().path()).expect("it is there");
    let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
    let check = pod.call("CHECK")?.with("CNI_NETNS", &path);
    let refused = vm.cni(&check)?;
    let said = &refused.stdout;
    assert!(!refused.status.success() && said.contains(&path) && said.contains("ermission denied"), "{said}");
    vm.stop_agent()?;
    vm.start_agent_with_only(&[CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE])?;
    let served = vm.cni(&check)?;
    assert!(served.status.success(), "{served:?}");
    pod.del()?;
    vm.expect_clean()
}

/// The kernel takes filters for what goes out beside an `ingress` qdisc and shows them what comes in.
#[test]
fn qdisc_in_the_place_of_clsact_is_named_with_the_command_that_removes_it() -> Result<()> {
    let net = without_agents().agent_toml("datapath.attach = 'clsact'").start()?;
    let vm = net.vm(0);
    let tc = |arguments: &str| -> Result<String> {
        let output = vm.namespace().command("tc")?.args(arguments.split(' ')).output().expect("tc is part of iproute2");
        assert!(output.status.success(), "tc {arguments}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    tc("qdisc add dev eth0 ingress")?;
    let said = vm.refused_start(&[])?;
    let removal = "tc qdisc del dev eth0 ingress";
    assert!(said.contains("`ingress`") && said.contains(removal), "{said}");
    assert_eq!(tc("filter show dev eth0 ingress")?, "", "it attached something");
    tc(removal.strip_prefix("tc ").expect("it begins so"))?;
    vm.start_agent()?;
    vm.add_pod("a")?.del()?;
    vm.expect_clean()
}

/// `cargo xtask kernels` runs it where that module is not there.
#[test]
fn module_that_pods_need_serves_where_it_is_and_is_named_where_it_is_not() -> Result<()> {
    let net = without_agents().start()?;
    let vm = net.vm(0);
    configure(vm.namespace(), "link add trial type veth peer name end")?;
    let mut tc = vm.namespace().command("tc")?;
    let made = tc.args(["qdisc", "add", "dev", "trial", "clsact"]).output().expect("tc is part of iproute2");
    configure(vm.namespace(), "link del trial")?;
    let is_hidden = std::env::var("AZURE_CNI_KERNEL_LACKS").is_ok_and(|module| module == "sch_ingress");
    assert_eq!(made.status.success(), !is_hidden, "{made:?}");
    if made.status.success() {
        vm.start_agent()?;
        vm.add_pod("a")?.del()?;
        vm.expect_clean()
    } else {
        let said = vm.refused_start(&[])?;
        let words = ["trying what each pod's start needs of the kernel", "sch_ingress", "clsact qdisc"];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert!(!vm.socket().exists());
        Ok(())
    }
}

/// `cargo xtask kernels` runs it where there is no TCX.
#[test]
fn tcx_serves_where_the_kernel_has_it_and_is_refused_by_name_where_it_has_not() -> Result<()> {
    let net = without_agents().agent_toml("datapath.attach = 'tcx'").start()?;
    let vm = net.vm(0);
    if vm.namespace().run(|| SchedClassifier::query_tcx("lo", TcAttachType::Ingress)).is_ok() {
        vm.start_agent()?;
        vm.add_pod("a")?.del()
    } else {
        assert_refused(vm, &["no TCX", "6.6", "datapath.attach"])
    }
}
