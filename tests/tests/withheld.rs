//! What no pod gets: addresses that no host can have, addresses that the host has, and what a listing says oddly. None of them
//! keeps the rest of the pool from being used.

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use azure_cni_tests::{Fabric, Pod, Result, Station, VNET_PREFIX, Vm, configure, platform::Service, probe};
use serde_json::{Value, json};

const INVALID: u32 = 7;
const TRY_AGAIN: u32 = 11;

fn write_pool(vm: &Vm, text: &str) {
    let path = vm.dir().join("pool.xml");
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Every address that pods get until there is none left, as a runtime would find out.
fn all_that_pods_get(vm: &Vm) -> Result<Vec<Ipv4Addr>> {
    let mut pods = Vec::new();
    loop {
        match vm.add_pod(&format!("p{}", pods.len())) {
            Ok(pod) => pods.push(pod),
            Err(error) if error.refusal().is_some_and(|refusal| refusal.code == TRY_AGAIN) => break,
            Err(error) => return Err(error),
        }
    }
    let mut addresses: Vec<_> = pods.iter().map(Station::address).collect();
    addresses.sort();
    pods.iter().try_for_each(Pod::del)?;
    Ok(addresses)
}

fn problems(vm: &Vm) -> Result<String> {
    Ok(vm.status()?["problems"].to_string())
}

/// The interface of the VM, and these elements in its subnet.
fn own(vm: &Vm, inside: &str) -> String {
    let address = vm.address();
    format!(
        "<Interface MacAddress=\"*\"><IPSubnet Prefix=\"{VNET_PREFIX}\"><IPAddress Address=\"{address}\" IsPrimary=\"true\"/>{inside}\
         </IPSubnet></Interface>"
    )
}

#[test]
fn address_that_no_host_can_have_is_never_a_pods_whatever_lists_it() -> Result<()> {
    let net = Fabric::builder().pool(1).agent_toml("pool.cooldown_secs = 0").without_agents().start()?;
    let vm = net.vm(0);
    let free = vm.pool()[0];
    let never = ["168.63.129.16", "169.254.169.254", "127.0.0.5", "0.0.0.7", "224.0.0.7", "240.0.0.7"];
    let subnets = never.map(|address| {
        let prefix = match address.split('.').next() {
            Some("169") => "169.254.0.0/16".to_owned(),
            first => format!("{}.0.0.0/8", first.unwrap_or_default()),
        };
        format!("<IPSubnet Prefix=\"{prefix}\"><IPAddress Address=\"{address}\"/></IPSubnet>")
    });
    let listing = own(vm, &format!("<IPAddress Address=\"{free}\"/>"));
    let listing = listing.replace("</Interface>", &format!("{}</Interface>", subnets.concat()));
    write_pool(vm, &format!("<Interfaces>{listing}</Interfaces>"));
    vm.start_agent()?;
    assert_eq!(all_that_pods_get(vm)?, [free]);
    let shown = problems(vm)?;
    for address in never {
        assert!(shown.contains(address), "{address} is not in {shown}");
        let mut asking = vm.netconf();
        asking["runtimeConfig"] = json!({"ips": [address]});
        let error = vm.add_pod_with("asking", asking).err().expect("no pod gets it");
        assert_eq!(error.refusal().map(|refusal| refusal.code), Some(INVALID), "{error}");
    }
    vm.expect_clean()
}

#[test]
fn stored_pool_of_an_earlier_agent_gives_no_pod_such_an_address_either() -> Result<()> {
    let net = Fabric::builder().service(Service::WireServer).pool(1).agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    let free = vm.pool()[0];
    vm.stop_agent()?;
    net.lister().down();
    let path = vm.state_dir().join("pool.json");
    let mut stored: Value = serde_json::from_slice(&fs::read(&path).expect("it is stored")).expect("JSON");
    let own = vm.address().to_string();
    stored["pool"]["subnets"][0]["addresses"] =
        json!(["168.63.129.16", "169.254.169.254", own, free, "10.240.0.1", "255.0.0.1"]);
    fs::write(&path, stored.to_string()).expect("it can be written");
    vm.start_agent()?;
    assert_eq!(all_that_pods_get(vm)?, [free]);
    vm.expect_clean()
}

/// cloud-init puts every secondary address on the NIC.
#[test]
fn address_that_the_host_has_is_leased_once_the_host_gives_it_up() -> Result<()> {
    let net = Fabric::builder().dual_stack().pool(2).agent_toml("pool.cooldown_secs = 0").without_agents().start()?;
    let vm = net.vm(0);
    let host = vm.namespace();
    let (held, held6) = (vm.pool()[0], vm.pool6()[1]);
    configure(host, &format!("addr add {held}/32 dev eth0"))?;
    configure(host, &format!("addr add {held6}/128 dev lo"))?;
    vm.start_agent()?;
    let mut asking = vm.netconf();
    asking["runtimeConfig"] = json!({"ips": [held]});
    let error = vm.add_pod_with("c", asking).err().expect("the host has it");
    assert!(error.to_string().contains("an interface of the host has it"), "{error}");
    assert_eq!(error.refusal().map(|refusal| refusal.code), Some(TRY_AGAIN), "{error}");
    let pod = vm.add_pod("a")?;
    assert_eq!((pod.address(), pod.address6()), (vm.pool()[1], Some(vm.pool6()[0])));
    let shown = problems(vm)?;
    for words in [held.to_string(), held6.to_string(), "an interface of the host has it".into(), "cloud-init".into()] {
        assert!(shown.contains(&words), "{words:?} is not in {shown}");
    }
    // Not IPv4 alone either: the pod would lack what its neighbours have.
    assert_eq!(vm.add_pod("b").err().and_then(|error| error.refusal().map(|refusal| refusal.code)), Some(TRY_AGAIN));

    configure(host, &format!("addr del {held}/32 dev eth0"))?;
    configure(host, &format!("addr del {held6}/128 dev lo"))?;
    vm.await_status("without problems", |status| status["problems"] == json!([]))?;
    let next = vm.add_pod("b")?;
    assert_eq!((next.address(), next.address6()), (held, Some(held6)));
    probe::ping(vm, held)?;
    [pod, next].iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}

#[test]
fn address_that_the_host_took_a_moment_ago_is_not_leased() -> Result<()> {
    for family in ["IPv4", "IPv6"] {
        let net = Fabric::builder().dual_stack().pool(3).agent_toml("pool.cooldown_secs = 0").start()?;
        let vm = net.vm(0);
        // The agent observes the host's addresses every ten seconds; these are there for less.
        let mut taken = Vec::new();
        for (v4, v6) in vm.pool().iter().zip(vm.pool6()).take(2) {
            // Before duplicate address detection has ended, the kernel does not take the address for its own.
            let address =
                if family == "IPv4" { format!("{v4}/32 dev eth0") } else { format!("{v6}/128 dev eth0 nodad") };
            configure(vm.namespace(), &format!("addr add {address}"))?;
            taken.push(address.replace(" nodad", ""));
        }
        let pod = vm.add_pod("a")?;
        match family {
            "IPv4" => assert_eq!(pod.address(), vm.pool()[2]),
            _ => assert_eq!(pod.address6(), Some(vm.pool6()[2])),
        }
        pod.del()?;
        taken.iter().try_for_each(|address| configure(vm.namespace(), &format!("addr del {address}")))?;
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn address_of_a_pod_that_the_host_takes_is_reported() -> Result<()> {
    let net = Fabric::builder().dual_stack().pool(2).start()?;
    let vm = net.vm(0);
    let pod = vm.add_pod("a")?;
    for address in [format!("{}/32", pod.address()), format!("{}/128", pod.address6().expect("dual stack"))] {
        configure(vm.namespace(), &format!("addr add {address} dev eth0"))?;
        let bare = address.split('/').next().unwrap_or_default();
        let reported = |status: &Value| {
            let problems = status["problems"].to_string();
            problems.contains(bare) && problems.contains("which a pod has too") && problems.contains(pod.container_id())
        };
        vm.await_status("reported", reported)?;
        configure(vm.namespace(), &format!("addr del {address} dev eth0"))?;
        vm.await_status("without problems", |status| status["problems"] == json!([]))?;
    }
    pod.check()?;
    pod.del()?;
    vm.expect_clean()
}

/// A first start: there is no pool that an earlier agent stored.
#[test]
fn oddities_of_another_interface_leave_the_first_start_served() -> Result<()> {
    let other = json!({"macAddress": "020000000077", "ipv4": {"ipAddress": [{"privateIpAddress": "10.99.0.4"}],
        "subnet": [{"address": "10.99.0.0", "prefix": "24"}]}});
    let with = |place: &str, value: Value| {
        let mut odd = other.clone();
        *odd.pointer_mut(place).expect("a place") = value;
        odd
    };
    let long = "x".repeat(1 << 20);
    let json_oddities = vec![
        Value::Null,
        json!(7),
        json!({}),
        with("/macAddress", json!("")),
        with("/macAddress", json!(long)),
        with("/macAddress", Value::Null),
        with("/ipv4/subnet/0/prefix", json!("32")),
        with("/ipv4/subnet/0/prefix", json!(32)),
        with("/ipv4", json!([])),
        with("/ipv4/ipAddress/0", json!({"privateIpAddress": long})),
    ];
    let xml = |attributes: &str| format!("<Interface {attributes}/>");
    let in_subnet =
        |prefix: &str| format!("<Interface MacAddress=\"020000000077\"><IPSubnet Prefix=\"{prefix}\"/></Interface>");
    let xml_oddities = [
        xml(""),
        xml("MacAddress=\"\""),
        xml(&format!("MacAddress=\"{long}\"")),
        in_subnet("10.99.0.4/32"),
        in_subnet("10.99.0.4/24"),
        in_subnet(&long),
    ];
    let net = Fabric::builder().pool(2).agent_toml("pool.cooldown_secs = 0").without_agents().start()?;
    let vm = net.vm(0);
    let mut forms = Vec::new();
    for odd in json_oddities {
        let mut listing = vm.listing().imds();
        let own = listing["interface"][0].clone();
        listing["interface"] = json!([odd, own]);
        forms.push(listing.to_string());
    }
    forms.extend(
        xml_oddities.iter().map(|odd| vm.listing().xml().replacen("<Interfaces>", &format!("<Interfaces>{odd}"), 1)),
    );
    for text in forms {
        let beginning: String = text.chars().take(200).collect();
        // No pool of an earlier agent.
        let _ = fs::remove_file(vm.state_dir().join("pool.json"));
        write_pool(vm, &text);
        vm.start_agent()?;
        let pod = vm.add_pod("a")?;
        pod.check()?;
        pod.del()?;
        let began = Instant::now();
        let status = vm.status()?;
        assert!(began.elapsed() < Duration::from_secs(10));
        let shown = status["problems"].to_string();
        assert!(shown.contains("the source lists something odd"), "{beginning}: {shown}");
        assert!(shown.len() < 4096, "{beginning}: {} bytes", shown.len());
        assert_eq!(status["pool"]["total"], 2, "{beginning}");
        vm.stop_agent()?;
    }
    vm.start_agent()?;
    vm.expect_clean()
}

#[test]
fn address_of_the_uplink_that_cannot_be_read_is_left_out_alone() -> Result<()> {
    let net = Fabric::builder().pool(2).agent_toml("pool.cooldown_secs = 0").without_agents().start()?;
    let vm = net.vm(0);
    let [one, two] = [vm.pool()[0], vm.pool()[1]];
    for odd in ["", "x", "fd00::9", "10.99.0.4", "10.240.0.05"] {
        let inside =
            format!("<IPAddress Address=\"{one}\"/><IPAddress Address=\"{odd}\"/><IPAddress Address=\"{two}\"/>");
        write_pool(vm, &format!("<Interfaces>{}</Interfaces>", own(vm, &inside)));
        vm.start_agent()?;
        assert_eq!(all_that_pods_get(vm)?, [one, two], "{odd:?}");
        assert!(problems(vm)?.contains("the source lists something odd"), "{odd:?}");
        vm.stop_agent()?;
    }
    vm.start_agent()?;
    vm.expect_clean()
}

/// A wrong document that quotes a megabyte is reported, and `status` answers.
#[test]
fn long_values_of_a_source_leave_status_an_answer() -> Result<()> {
    let net = Fabric::builder().pool(2).agent_toml("pool.refresh_min_secs = 1\npool.refresh_max_secs = 1").start()?;
    let vm = net.vm(0);
    let long = "x".repeat(1 << 20);
    for text in [
        format!("<Interfaces><Interface MacAddress=\"{long}\"/></Interfaces>"),
        format!("<{long}/>"),
        format!("<Interfaces>&{long};</Interfaces>"),
        json!({"interface": long}).to_string(),
        json!({"interface": [{"macAddress": long}]}).to_string(),
        long.clone(),
    ] {
        write_pool(vm, &text);
        let status = vm.await_status("stale", |status| status["source"]["stale"] == true)?;
        assert!(status.to_string().len() < 16_384, "{} bytes", status.to_string().len());
        write_pool(vm, &vm.listing().xml());
        vm.await_status("fresh", |status| status["source"]["stale"] == false)?;
    }
    vm.expect_clean()
}
