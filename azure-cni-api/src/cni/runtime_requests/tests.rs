//! Requests by place: how each is given, which one wins, which ones contradict each other.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cni::NetConf;

/// Addresses, whether a public one is requested, MAC.
type Read = (Vec<String>, bool, Option<[u8; 6]>);

fn read(extra: &Value, variable: &str) -> Result<Read, CniError> {
    let mut config = json!({"cniVersion": "1.0.0", "name": "azure", "type": "azure-cni"});
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let (config, _) = NetConf::parse(&config, Some(variable))?;
    let addresses = config.address_request.addresses.iter().map(ToString::to_string).collect();
    Ok((addresses, config.address_request.public, config.mac))
}

#[test]
fn nothing_is_requested_by_default() {
    let nothing =
        json!({"runtimeConfig": {"ips": [], "mac": ""}, "args": {"cni": {"ips": []}}, "ipam": {"ipAddress": ""}});
    for extra in [json!({}), nothing] {
        assert_eq!(read(&extra, "IP=;K8S_POD_NAME=p"), Ok((vec![], false, None)), "{extra}");
    }
}

#[test]
fn an_address_can_be_requested_in_every_place_with_or_without_prefix_length() {
    for (extra, variable) in [
        (json!({"runtimeConfig": {"ips": ["10.1.2.3/16"]}}), ""),
        (json!({"args": {"cni": {"ips": ["10.1.2.3"]}}}), ""),
        (json!({"args": {"cni": {"IP": "10.1.2.3"}}}), ""),
        (json!({"ipam": {"ipAddress": "10.1.2.3"}}), ""),
        (json!({}), "IgnoreUnknown=1;IP=10.1.2.3/16"),
        (json!({"runtimeConfig": {"ips": ["10.1.2.3"]}, "ipam": {"ipAddress": "10.1.2.3"}}), "IP=10.1.2.3"),
    ] {
        assert_eq!(read(&extra, variable).unwrap().0, ["10.1.2.3"], "{extra} {variable}");
    }
}

#[test]
fn one_address_of_each_family_can_be_requested_and_ipv4_comes_first() {
    for (extra, variable) in [
        (json!({"runtimeConfig": {"ips": ["fd00::5/64", "10.1.2.3"]}}), ""),
        (json!({"runtimeConfig": {"ips": ["fd00::5"]}, "args": {"cni": {"ips": ["10.1.2.3"]}}}), ""),
        (json!({}), "IP=fd00::5, 10.1.2.3"),
    ] {
        assert_eq!(read(&extra, variable).unwrap().0, ["10.1.2.3", "fd00::5"], "{extra} {variable}");
    }
}

#[test]
fn the_configuration_wins_over_the_variable() {
    let args = json!({"args": {"cni": {"ips": ["10.1.2.3"]}}});
    assert_eq!(read(&args, "IP=10.1.2.4").unwrap().0, ["10.1.2.3"]);
}

#[test]
fn invalid_and_contradictory_requests_are_refused_with_their_place() {
    for (extra, variable, named) in [
        (json!({"runtimeConfig": {"ips": ["10.1.2.3", "10.1.2.4"]}}), "", "one of each family"),
        (json!({"runtimeConfig": {"ips": ["fd00::5"]}, "args": {"cni": {"ips": ["fd00::6"]}}}), "", "args.cni.ips"),
        (json!({"runtimeConfig": {"ips": ["10.1.2.3"]}, "ipam": {"ipAddress": "10.1.2.4"}}), "", "ipam.ipAddress"),
        (json!({"runtimeConfig": {"ips": ["10.1.2.3"]}}), "IP=10.1.2.4", "IP of CNI_ARGS"),
        (json!({"runtimeConfig": {"ips": ["10.1.2"]}}), "", "runtimeConfig.ips"),
        (json!({"runtimeConfig": {"ips": ["10.1.2.3/33"]}}), "", "runtimeConfig.ips"),
        (json!({"ipam": {"ipAddress": "0.0.0.0"}}), "", "ipam.ipAddress"),
        (json!({}), "IP=224.0.0.1", "IP of CNI_ARGS"),
        (json!({}), "IP=::1", "IP of CNI_ARGS"),
        (json!({}), "IP=255.255.255.255", "IP of CNI_ARGS"),
        (json!({"runtimeConfig": {"mac": "01:00:5e:00:00:01"}}), "", "runtimeConfig.mac"),
        (json!({"runtimeConfig": {"mac": "00:00:00:00:00:00"}}), "", "runtimeConfig.mac"),
        (json!({"runtimeConfig": {"mac": "aa:aa:aa:aa:aa:aa"}}), "", "runtimeConfig.mac"),
        (json!({"runtimeConfig": {"mac": "02:00"}}), "", "runtimeConfig.mac"),
        (json!({"runtimeConfig": {"mac": "02:00:00:00:00:01"}}), "MAC=02:00:00:00:00:02", "MAC of CNI_ARGS"),
        (
            json!({"publicAddress": true, "runtimeConfig": {(ANNOTATIONS): {(PUBLIC_ANNOTATION): "yes"}}}),
            "",
            "annotation",
        ),
        (json!({}), "publicAddress=1", "publicAddress"),
    ] {
        let error = read(&extra, variable).unwrap_err();
        assert_eq!(u32::from(error.code), 7, "{extra} {variable}: {error}");
        assert!(error.msg.contains(named), "{extra} {variable}: {error}");
    }
    for extra in [
        json!({"runtimeConfig": {"ips": "10.1.2.3"}}),
        json!({"runtimeConfig": {"mac": 2}}),
        json!({"runtimeConfig": {(ANNOTATIONS): {(PUBLIC_ANNOTATION): true}}}),
        json!({"publicAddress": "true"}),
    ] {
        assert_eq!(u32::from(read(&extra, "").unwrap_err().code), 6, "{extra}");
    }
}

#[test]
fn a_mac_can_be_requested_in_every_place() {
    let mac = Some([0x02, 0, 0, 0, 0, 0x0a]);
    for (extra, variable) in [
        (json!({"runtimeConfig": {"mac": "02:00:00:00:00:0A"}}), ""),
        (json!({"args": {"cni": {"mac": "02:00:00:00:00:0a"}}}), ""),
        (json!({}), "MAC=02:00:00:00:00:0a"),
        (json!({"runtimeConfig": {"mac": "02:00:00:00:00:0a"}}), "MAC=02000000000A"),
    ] {
        assert_eq!(read(&extra, variable).unwrap().2, mac, "{extra} {variable}");
    }
}

#[test]
fn network_or_pod_can_request_a_public_address_and_the_pod_wins() {
    let annotated = |value: &str, network: bool| json!({"publicAddress": network, "runtimeConfig": {(ANNOTATIONS): {(PUBLIC_ANNOTATION): value, "other": "x"}}});
    for (extra, variable, public) in [
        (json!({"publicAddress": true}), "", true),
        (json!({"publicAddress": false}), "publicAddress=true", true),
        (json!({"args": {"cni": {"publicAddress": true}}}), "", true),
        (annotated("true", false), "", true),
        (annotated("false", true), "publicAddress=true", false),
        (json!({"runtimeConfig": {(ANNOTATIONS): {"other": "true"}}}), "", false),
    ] {
        assert_eq!(read(&extra, variable).unwrap().1, public, "{extra} {variable}");
    }
}

proptest! {
    #[test]
    fn a_request_has_at_most_one_address_of_each_family(
        texts in prop::collection::vec("(10\\.0\\.0\\.[1-3]|fd00::[1-3]|\\PC{0,9})(/[0-9]{1,3})?", 0..4),
    ) {
        if let Ok((addresses, ..)) = read(&json!({"runtimeConfig": {"ips": texts}}), "") {
            prop_assert!(addresses.iter().filter(|text| text.contains(':')).count() <= 1);
            prop_assert!(addresses.iter().filter(|text| text.contains('.') && !text.contains(':')).count() <= 1);
        }
    }
}
