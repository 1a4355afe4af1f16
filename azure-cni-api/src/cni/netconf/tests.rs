//! Existing configurations work unchanged; an error about an unsupported feature names its key.

use serde_json::json;

use super::*;
use crate::bandwidth::RateLimit;

/// A configuration with `extra` laid over it.
fn with(extra: Value) -> Value {
    let mut config = json!({"cniVersion": "1.0.0", "name": "azure", "type": "azure-cni"});
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    config
}

fn parse(extra: Value) -> Result<NetConf, CniError> {
    NetConf::parse(&with(extra), None).map(|(config, _)| config)
}

#[test]
fn the_configuration_that_users_have_works_unchanged() {
    let config = json!({
        "cniVersion": "0.3.0", "name": "azure", "type": "azure-vnet", "mode": "transparent",
        "ipsToRouteViaHost": ["169.254.20.10"], "ipam": {"type": "azure-vnet-ipam"},
    });
    let (config, args) = NetConf::parse(&config, None).unwrap();
    let expected = NetConf {
        cni_version: CniVersion::V0_3_0,
        name: "azure".parse().unwrap(),
        plugin_type: "azure-vnet".into(),
        agent_socket: None,
        mtu: None,
        ips_to_route_via_host: vec!["169.254.20.10".parse().unwrap()],
        keep_source: false,
        address_request: AddressRequest::default(),
        mac: None,
        bandwidth: Bandwidth::UNLIMITED,
        master: None,
        prev_result: None,
        dns: Dns::default(),
        ignored: vec![],
    };
    assert_eq!((config, args), (expected, CniArgs::default()));
}

#[test]
fn fields_without_meaning_are_accepted_and_listed() {
    let config = parse(json!({
        "mode": "bridge", "master": "eth0", "bridge": "azure0", "mtu": 1400, "multiTenancy": false,
        "ipam": {"type": "azure-vnet-ipam", "environment": "azure", "subnet": "10.1.0.0/16", "ipAddress": ""},
        "vnetCidrs": "10.0.0.0/8", "serviceCidrs": "10.0.0.0/16", "enableSnatOnHost": true, "executionMode": "v4swift",
        "cnsurl": "http://localhost:10090", "disableHairpinOnHostInterface": true, "disableIPTableLock": false,
        "logLevel": "info", "logTarget": "syslog", "runtimeConfig": {"portMappings": [{"HostPort": 80}]},
        "somethingOfTomorrow": {"a": [1]}, "bandwidth": null,
    }))
    .unwrap();
    assert_eq!(
        config.ignored,
        [
            "bridge",
            "cnsurl",
            "disableHairpinOnHostInterface",
            "disableIPTableLock",
            "enableSnatOnHost",
            "executionMode",
            "logLevel",
            "logTarget",
            "serviceCidrs",
            "vnetCidrs",
            "mode",
            "ipam.environment",
            "ipam.subnet",
        ]
    );
    assert_eq!((config.mtu, config.master.as_deref()), (Some(1400), Some("eth0")));
}

#[test]
fn a_network_opts_out_of_source_nat_only_by_saying_so() {
    for (snat, keep_source) in [(json!({}), false), (json!({"snat": true}), false), (json!({"snat": false}), true)] {
        assert_eq!(parse(snat.clone()).unwrap().keep_source, keep_source, "{snat}");
    }
    assert_eq!(u32::from(parse(json!({"snat": "no"})).unwrap_err().code), 6);
}

#[test]
fn modes_and_ipam_types_of_the_reference_are_served() {
    for mode in ["", "transparent", "bridge", "tunnel"] {
        assert_eq!(parse(json!({"mode": mode})).map(|_| ()), Ok(()), "{mode}");
    }
    for ipam in [json!(null), json!({}), json!({"type": ""})] {
        assert_eq!(parse(json!({"ipam": ipam})).map(|_| ()), Ok(()), "{ipam}");
    }
    for kind in ["azure-vnet-ipam", "azure-cns", "azure-cni"] {
        assert_eq!(parse(json!({"ipam": {"type": kind}})).map(|_| ()), Ok(()), "{kind}");
    }
}

#[test]
fn what_cannot_be_served_is_refused_by_name() {
    for (extra, code, named) in [
        (json!({"mode": "transparent-vlan"}), 7, "transparent-vlan"),
        (json!({"mode": "l2tunnel"}), 7, "l2tunnel"),
        (json!({"multiTenancy": true}), 7, "multiTenancy"),
        (json!({"ipv6Mode": "ipv6nat"}), 2, "ipv6Mode"),
        (json!({"ipam": {"type": "host-local"}}), 7, "ipam.type \"host-local\""),
        (json!({"ipam": {"type": "azure-vnet-ipamv6"}}), 7, "azure-vnet-ipamv6"),
        (json!({"runtimeConfig": {"bandwidth": {"ingressRate": 1}}}), 7, "runtimeConfig.bandwidth.ingressRate is 1"),
        (json!({"mtu": 67}), 7, "mtu is 67"),
        (json!({"mtu": 65536}), 7, "mtu is 65536"),
        (json!({"mtu": -1}), 7, "mtu is -1"),
        (json!({"mtu": "1500"}), 6, "mtu must be an integer"),
        (json!({"ipsToRouteViaHost": ["169.254.20"]}), 7, "ipsToRouteViaHost has \"169.254.20\""),
        (json!({"ipsToRouteViaHost": "169.254.20.10"}), 6, "ipsToRouteViaHost must be a list"),
        (json!({"type": ""}), 7, "type"),
        (json!({"name": "a/b"}), 7, "name has \"a/b\""),
        (json!({"name": null}), 7, "name"),
        (json!({"name": 5}), 6, "name"),
        (json!({"cniVersion": "0.2.0"}), 1, "0.2.0"),
        (json!({"cniVersion": null}), 1, "cniVersion"),
        (json!({"cniVersion": 1}), 6, "cniVersion"),
        (json!({"agentSocket": 1}), 6, "agentSocket"),
        (json!({"spoolDir": []}), 6, "spoolDir"),
        (json!({"prevResult": {"ips": [{"address": "x"}]}}), 7, "prevResult.ips[0].address"),
        (json!({"prevResult": {"cniVersion": "0.2.0"}}), 1, "prevResult.cniVersion"),
        (json!({"prevResult": []}), 6, "prevResult"),
        (json!({"args": []}), 6, "args"),
        (json!({"args": {"cni": "x"}}), 6, "args.cni"),
    ] {
        let error = parse(extra.clone()).unwrap_err();
        assert_eq!(u32::from(error.code), code, "{extra}: {error}");
        assert!(error.msg.contains(named), "{extra}: {error}");
    }
    for mtu in [68, 1500, 65535] {
        assert_eq!(parse(json!({"mtu": mtu})).unwrap().mtu, Some(mtu));
    }
}

#[test]
fn bandwidth_is_read_from_what_the_runtime_passes() {
    let given = json!({"runtimeConfig": {"bandwidth": {"egressRate": 10_000_000}}});
    let egress = Some(RateLimit { rate: 10_000_000, burst: None });
    assert_eq!(parse(given).unwrap().bandwidth, Bandwidth { ingress: None, egress });
}

#[test]
fn dns_of_the_runtime_wins_over_dns_of_the_network() {
    let network = json!({"nameservers": ["10.0.0.10"], "domain": "cluster", "search": ["a"], "options": ["ndots:5"]});
    let runtime = json!({"dns": {"servers": ["168.63.129.16"], "searches": ["b", "c"], "options": []}});
    let dns = |extra| parse(extra).unwrap().dns;
    let of_network = dns(json!({"dns": network}));
    assert_eq!(of_network.nameservers, ["10.0.0.10"]);
    let both = dns(json!({"dns": network, "runtimeConfig": runtime}));
    assert_eq!(both.nameservers, ["168.63.129.16"]);
    assert_eq!(both.domain.as_deref(), Some("cluster"));
    assert_eq!(both.search, ["b", "c"]);
    assert_eq!(both.options, ["ndots:5"]);
}

#[test]
fn input_that_is_not_json_is_refused_with_the_place() {
    let error = decode(b"{\"name\": \"a\",\n  oops}").unwrap_err();
    assert_eq!(u32::from(error.code), 6);
    assert!(error.msg.ends_with("at line 2 column 3"), "{error}");
    for input in [&b""[..], b"{", b"\xff", b"{} x", "[".repeat(1000).as_bytes()] {
        assert_eq!(u32::from(decode(input).unwrap_err().code), 6);
    }
}

#[test]
fn every_field_without_meaning_is_documented() {
    let document = include_str!("../../../../docs/cni.md");
    for field in IGNORED_FIELDS.into_iter().chain(IGNORED_IPAM_FIELDS) {
        assert!(document.contains(&format!("`{field}`")), "{field}");
    }
}
