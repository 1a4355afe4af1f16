//! A result has in each version all that the version can express, and nothing else.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

/// The result of our ADD: the host interface without sandbox, the pod's with it.
fn transparent_pod() -> AddResult {
    let interface = |name: &str, mac: &str, sandbox: Option<&str>| Interface {
        name: name.into(),
        mac: Some(mac.into()),
        mtu: Some(1500),
        sandbox: sandbox.map(str::to_owned),
        ..Interface::default()
    };
    AddResult {
        interfaces: vec![
            interface("azv0123456789a", "aa:aa:aa:aa:aa:aa", None),
            interface("eth0", "0a:58:0a:f0:00:05", Some("/run/netns/p")),
        ],
        ips: vec![IpConfig {
            address: "10.240.0.5/16".parse().unwrap(),
            gateway: Some("169.254.1.1".parse().unwrap()),
            interface: Some(1),
        }],
        routes: vec![Route {
            mtu: Some(1400),
            ..Route::new("0.0.0.0/0".parse().unwrap(), Some("169.254.1.1".parse().unwrap()))
        }],
        dns: Dns { nameservers: vec!["168.63.129.16".into()], ..Dns::default() },
    }
}

#[test]
fn each_version_gets_its_own_form() {
    for version in CniVersion::SUPPORTED {
        let mut host = json!({"name": "azv0123456789a", "mac": "aa:aa:aa:aa:aa:aa"});
        let mut pod = json!({"name": "eth0", "mac": "0a:58:0a:f0:00:05", "sandbox": "/run/netns/p"});
        let mut ip = json!({"address": "10.240.0.5/16", "gateway": "169.254.1.1", "interface": 1});
        let mut route = json!({"dst": "0.0.0.0/0", "gw": "169.254.1.1"});
        match version {
            CniVersion::V0_3_0 | CniVersion::V0_3_1 | CniVersion::V0_4_0 => ip["version"] = json!("4"),
            CniVersion::V1_0_0 => (),
            CniVersion::V1_1_0 => {
                (host["mtu"], pod["mtu"], route["mtu"]) = (json!(1500), json!(1500), json!(1400));
            }
        }
        let expected = json!({
            "cniVersion": version.as_str(), "interfaces": [host, pod], "ips": [ip], "routes": [route],
            "dns": {"nameservers": ["168.63.129.16"]},
        });
        assert_eq!(transparent_pod().to_json(version), expected, "{version}");
    }
}

#[test]
fn an_ipv6_address_is_marked_as_such_where_the_version_wants_a_mark() {
    let mut result = transparent_pod();
    result.ips[0] = IpConfig { address: "fd00::5/64".parse().unwrap(), gateway: None, interface: Some(1) };
    assert_eq!(
        result.to_json(CniVersion::V0_4_0)["ips"][0],
        json!({"version": "6", "address": "fd00::5/64", "interface": 1})
    );
}

#[test]
fn results_of_earlier_plugins_are_passed_on_with_correct_indices() {
    let earlier = AddResult {
        interfaces: vec![Interface { name: "lo".into(), ..Interface::default() }],
        ips: vec![IpConfig { address: "127.0.0.1/8".parse().unwrap(), gateway: None, interface: Some(0) }],
        routes: vec![Route::new("192.0.2.0/24".parse().unwrap(), None)],
        dns: Dns { domain: Some("earlier".into()), ..Dns::default() },
    };
    let all = transparent_pod().after(earlier.clone());
    let named = |index: usize| all.interfaces[all.ips[index].interface.unwrap()].name.as_str();
    assert_eq!((all.interfaces.len(), all.ips.len(), all.routes.len()), (3, 2, 2));
    assert_eq!((named(0), named(1)), ("lo", "eth0"));
    assert_eq!(all.dns, transparent_pod().dns);

    let without_dns = AddResult { dns: Dns::default(), ..transparent_pod() };
    assert_eq!(without_dns.after(earlier.clone()).dns, earlier.dns);
}

#[test]
fn a_broken_result_is_refused_with_the_path_of_the_error() {
    for (value, code, path) in [
        (json!({"cniVersion": "0.2.0", "ip4": {}}), 1, "cniVersion"),
        (json!({"ips": [{"address": "10.0.0.5"}]}), 7, "ips[0].address"),
        (json!({"ips": [{}]}), 7, "ips[0].address"),
        (json!({"ips": [{"address": "10.0.0.5/24", "interface": 0}]}), 7, "ips[0].interface"),
        (json!({"ips": [{"address": "10.0.0.5/24", "interface": -1}]}), 7, "ips[0].interface"),
        (json!({"interfaces": [{"mac": "x"}]}), 7, "interfaces[0].name"),
        (json!({"interfaces": [{"name": "a", "mtu": -5}]}), 7, "interfaces[0].mtu"),
        (json!({"routes": [{"gw": "10.0.0.1"}]}), 7, "routes[0].dst"),
        (json!({"routes": {}}), 6, "routes"),
        (json!({"dns": []}), 6, "dns"),
        (json!("result"), 6, "the result"),
    ] {
        let error = AddResult::from_json(&value).unwrap_err();
        assert_eq!(u32::from(error.code), code, "{value}");
        assert!(error.msg.contains(path), "{value}: {}", error.msg);
    }
}

/// The part of `result` that `version` can express.
fn expressible(mut result: AddResult, version: CniVersion) -> AddResult {
    if version < CniVersion::V1_1_0 {
        for interface in &mut result.interfaces {
            (interface.mtu, interface.socket_path, interface.pci_id) = (None, None, None);
        }
        result.routes = result.routes.into_iter().map(|route| Route::new(route.dst, route.gw)).collect();
    }
    result
}

fn text() -> impl Strategy<Value = String> {
    "[ -~]{1,8}|é\"\\\\"
}

fn prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32u8).prop_map(|(a, len)| IpNet::new(a.into(), len).unwrap()),
        (any::<[u8; 16]>(), 0..=128u8).prop_map(|(a, len)| IpNet::new(a.into(), len).unwrap()),
    ]
}

fn some_result() -> impl Strategy<Value = AddResult> {
    let number = || option::of(any::<u32>());
    let label = || option::of(text());
    let interface = (text(), label(), number(), label(), label(), label()).prop_map(
        |(name, mac, mtu, sandbox, socket_path, pci_id)| Interface { name, mac, mtu, sandbox, socket_path, pci_id },
    );
    let ip = (prefix(), option::of(any::<IpAddr>()), option::of(any::<prop::sample::Index>()));
    let route = (prefix(), option::of(any::<IpAddr>()), number(), number(), number(), number(), number()).prop_map(
        |(dst, gw, mtu, advmss, priority, table, scope)| Route { dst, gw, mtu, advmss, priority, table, scope },
    );
    let list = || vec(text(), 0..3);
    let dns = (list(), label(), list(), list()).prop_map(|(nameservers, domain, search, options)| Dns {
        nameservers,
        domain,
        search,
        options,
    });
    (vec(interface, 1..4), vec(ip, 0..4), vec(route, 0..4), dns).prop_map(|(interfaces, ips, routes, dns)| {
        let ip = |(address, gateway, index): (_, _, Option<prop::sample::Index>)| IpConfig {
            address,
            gateway,
            interface: index.map(|index| index.index(interfaces.len())),
        };
        AddResult { ips: ips.into_iter().map(ip).collect(), interfaces, routes, dns }
    })
}

proptest! {
    #[test]
    fn a_result_reads_back_as_far_as_the_version_can_express_it(result in some_result()) {
        for version in CniVersion::SUPPORTED {
            let written = result.to_json(version);
            prop_assert_eq!(AddResult::from_json(&written).unwrap(), expressible(result.clone(), version), "{}", version);
            // And through text.
            let reread: Value = serde_json::from_str(&written.to_string()).unwrap();
            prop_assert_eq!(reread, written);
        }
    }
}
