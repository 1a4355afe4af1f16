//! The result of ADD in every version of the protocol.

use azure_cni_api::cni::{CniVersion, Invocation};
use serde_json::{Value, json};

use super::*;
use crate::state::sample::record;

fn call(version: CniVersion) -> AddCall {
    let environment = azure_cni_api::cni::sample::environment();
    let config = json!({"cniVersion": version, "name": "azure", "type": "azure-cni"});
    match Invocation::parse(&environment, &config) {
        Ok(Invocation::Add(call)) => *call,
        other => panic!("{other:?}"),
    }
}

fn add_result(version: CniVersion, addresses: &[&str]) -> Value {
    let call = call(version);
    let record = AttachmentRecord {
        id: call.attachment.clone(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        netns: call.netns.clone(),
        ..record("c1")
    };
    result(&call, &record).unwrap().to_json(version)
}

/// As the version writes it: `version` was said until 1.0.0.
fn ip(version: CniVersion, family: &str, address: &str, gateway: &str) -> Value {
    let mut ip = json!({"address": address, "gateway": gateway, "interface": 1});
    if version < CniVersion::V1_0_0 {
        ip["version"] = json!(family);
    }
    ip
}

#[test]
fn a_dual_stack_pod_has_two_addresses_and_two_default_routes_in_every_version() {
    for version in CniVersion::SUPPORTED {
        let result = add_result(version, &["10.240.0.5", "fd00::5"]);
        let expected = json!([
            ip(version, "4", "10.240.0.5/32", "169.254.1.1"),
            ip(version, "6", "fd00::5/128", "fe80::1234:5678:9abc"),
        ]);
        assert_eq!(result["ips"], expected, "{version}");
        let routes = json!([
            {"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1234:5678:9abc"},
        ]);
        assert_eq!(result["routes"], routes, "{version}");
        assert_eq!(result["interfaces"][1]["sandbox"], "/run/netns/p", "{version}");
    }
}

#[test]
fn the_result_of_a_further_attachment_claims_no_default_route_for_all() {
    for version in CniVersion::SUPPORTED {
        let call = call(version);
        let record = AttachmentRecord { id: call.attachment.clone(), own_table: true, ..record("c1") };
        let routes = result(&call, &record).unwrap().to_json(version)["routes"].clone();
        if version < CniVersion::V1_1_0 {
            assert_eq!(routes, json!([]), "{version}");
        } else {
            let table = names::route_table(&record.host_interface);
            assert_eq!(routes, json!([{"dst": "0.0.0.0/0", "gw": "169.254.1.1", "table": table}]), "{version}");
        }
    }
}

#[test]
fn the_result_of_a_pod_with_ipv4_alone_has_nothing_else() {
    for version in CniVersion::SUPPORTED {
        let result = add_result(version, &["10.240.0.5"]);
        assert_eq!(result["ips"], json!([ip(version, "4", "10.240.0.5/32", "169.254.1.1")]), "{version}");
        assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]), "{version}");
    }
}
