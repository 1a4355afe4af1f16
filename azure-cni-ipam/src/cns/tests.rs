use proptest::prelude::*;

use super::*;

fn claim(container: &str) -> Claim {
    let id = azure_cni_api::cni::sample::attachment(container);
    Claim { id, pod_name: "p".into(), pod_namespace: "n".into() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn info(address: &str, subnet: &str, length: u8) -> Value {
    json!({"PodIPConfig": {"IPAddress": address, "PrefixLength": 24},
        "NetworkContainerPrimaryIPConfig": {"IPSubnet": {"IPAddress": subnet, "PrefixLength": length},
            "DNSServers": null, "GatewayIPAddress": "10.0.0.1"},
        "HostPrimaryIPInfo": {"Gateway": "10.0.0.1", "PrimaryIP": "10.0.0.4", "Subnet": "10.0.0.0/24"},
        "NICType": "InfraNIC", "SkipDefaultRoutes": false, "Routes": null})
}

fn answer(infos: Value) -> Value {
    json!({"podIPInfo": infos, "response": {"ReturnCode": 0, "Message": ""}})
}

#[test]
fn requests_have_the_form_of_azure_vnet() {
    let claim = claim("98f722bb1c94c0b1");
    assert_eq!(
        claim.request(Form::Many, &[]),
        json!({"desiredIPAddresses": null, "podInterfaceID": "98f722bb-eth0", "infraContainerID": "98f722bb1c94c0b1",
            "orchestratorContext": {"podName": "p", "podNamespace": "n"}, "ifname": "eth0"})
    );
    let one = claim.request(Form::One, &[]);
    assert_eq!((&one["desiredIPAddress"], one.get("desiredIPAddresses")), (&json!(""), None));

    let desired = [ip("10.0.1.10"), ip("fd00::9")];
    assert_eq!(claim.request(Form::Many, &desired)["desiredIPAddresses"], json!(["10.0.1.10", "fd00::9"]));
    assert_eq!(claim.request(Form::One, &desired)["desiredIPAddress"], "10.0.1.10");
}

#[test]
fn a_container_id_shorter_than_eight_characters_is_used_whole() {
    assert_eq!(claim("c1").request(Form::Many, &[])["podInterfaceID"], "c1-eth0");
}

#[test]
fn an_address_of_each_family_is_read_with_its_subnet() {
    let text = answer(json!([info("10.0.1.10", "10.0.1.4", 24), info("fd00::9", "fd00::", 64)])).to_string();
    let assigned = parse_assigned(&text).unwrap();
    assert_eq!(assigned.addresses.iter().collect::<Vec<_>>(), [ip("10.0.1.10"), ip("fd00::9")]);
    let prefixes: Vec<_> = assigned.subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
    assert_eq!(prefixes, ["10.0.1.0/24", "fd00::/64"]);
    assert_eq!(assigned.subnets[0].gateway, Some(ip("10.0.0.1")));
    assert_eq!(assigned.host_primary, Some(ip("10.0.0.4")));
}

#[test]
fn the_form_of_old_servers_is_read_too() {
    let mut old = info("10.0.1.10", "10.0.1.0", 24);
    old.as_object_mut().unwrap().remove("NICType");
    for text in [
        json!({"PodIpInfo": old, "Response": {"ReturnCode": 0, "Message": ""}}),
        json!({"podIpInfo": old, "response": {"ReturnCode": 0}}),
    ] {
        let assigned = parse_assigned(&text.to_string()).unwrap();
        assert_eq!(assigned.addresses.v4.to_string(), "10.0.1.10");
    }
}

#[test]
fn a_refusal_is_reported_with_code_and_message() {
    let refused =
        |code| json!({"podIPInfo": null, "response": {"ReturnCode": code, "Message": "none left"}}).to_string();
    let error = parse_assigned(&refused(32)).unwrap_err().to_string();
    assert!(error.contains("ReturnCode 32 (failed to allocate an address): none left"), "{error}");
    assert!(matches!(parse_released(&refused(45)), Err(CnsAnswerError::Refused { code: 45, .. })));
    assert!(parse_released(&refused(14)).is_ok(), "an unknown address counts as released");
    assert!(parse_released(&refused(0)).is_ok());
}

#[test]
fn an_invalid_answer_is_refused_as_a_whole() {
    let delegated = {
        let mut other = info("10.0.1.10", "10.0.1.0", 24);
        other["NICType"] = "DelegatedVMNIC".into();
        other
    };
    for (text, complaint) in [
        (answer(json!([])), "no IPv4 address"),
        (answer(Value::Null), "no IPv4 address"),
        (answer(json!([info("fd00::9", "fd00::", 64)])), "no IPv4 address"),
        (answer(json!([info("10.0.1", "10.0.1.0", 24)])), "PodIPConfig.IPAddress = \"10.0.1\""),
        (answer(json!([info("10.0.1.1", "10.0.1.0", 33)])), "IPSubnet.PrefixLength = \"33\""),
        (answer(json!([delegated])), "\"DelegatedVMNIC\""),
        (json!({"podIPInfo": []}), "missing field `response`"),
        (answer(json!("x")), "not an answer of azure-cns"),
    ] {
        let error = parse_assigned(&text.to_string()).expect_err(complaint).to_string();
        assert!(error.contains(complaint), "{text}: {error}");
    }
}

/// What an answer asks for is done, or refused by name.
#[test]
fn nothing_that_an_answer_asks_for_is_ignored() {
    let with = |key: &str, value: Value| {
        let mut info = info("10.0.1.10", "10.0.1.0", 24);
        info[key] = value;
        answer(json!([info]))
    };
    let route = |destination: &str, gateway: &str, interface: &str| {
        with("Routes", json!([{"IPAddress": destination, "GatewayIPAddress": gateway, "InterfaceToUse": interface}]))
    };
    for (text, complaint) in [
        (with("SkipDefaultRoutes", true.into()), "SkipDefaultRoutes"),
        (with("EndpointPolicies", json!([{"type": "ACLPolicy"}])), "EndpointPolicies"),
        (route("10.9.0.0/16", "10.0.1.99", ""), "(Routes), which is not supported: 10.9.0.0/16 via 10.0.1.99"),
        (route("10.9.0.0/16", "", "eth1"), "InterfaceToUse), which is not supported: eth1"),
        (route("10.9.0.0/16", "x", ""), "Routes.GatewayIPAddress = \"x\""),
        (route("x", "", ""), "Routes.IPAddress = \"x\""),
        (
            answer(json!([info("10.0.1.10", "10.0.1.0", 24), info("10.0.1.11", "10.0.1.0", 24)])),
            "10.0.1.10 and 10.0.1.11, and a pod has one",
        ),
        (
            answer(json!([
                info("10.0.1.10", "10.0.1.0", 24),
                info("fd00::9", "fd00::", 64),
                info("fd00::8", "fd00::", 64)
            ])),
            "fd00::9 and fd00::8",
        ),
        (answer(json!([info("10.0.2.10", "10.0.1.0", 24)])), "outside of the subnet 10.0.1.0/24"),
        (
            answer(json!([info("10.0.1.10", "10.0.1.0", 24), info("fd01::9", "fd00::", 64)])),
            "outside of the subnet fd00::/64",
        ),
        (answer(json!([info("10.0.1.10", "0.0.0.0", 0)])), "is no length of a virtual network's subnet"),
        (with("NICType", "x".repeat(1 << 20).into()), "and only InfraNIC is supported"),
        (with("NICType", "BackendNIC".into()), "\"BackendNIC\""),
    ] {
        let error = parse_assigned(&text.to_string()).expect_err(complaint).to_string();
        assert!(error.contains(complaint) && error.len() < 1200, "{complaint}: {error}");
    }
    // These say what is so.
    for text in [
        with("Routes", Value::Null),
        with("SkipDefaultRoutes", Value::Null),
        with("EndpointPolicies", json!([])),
        route("10.9.0.0/16", "", ""),
        route("10.9.0.0/16", "10.0.0.1", ""),
        route("0.0.0.0/0", "169.254.1.1", ""),
        answer(json!([info("10.0.1.10", "10.0.1.10", 32)])),
    ] {
        assert!(parse_assigned(&text.to_string()).is_ok(), "{text}");
    }
    let long =
        json!({"podIPInfo": null, "response": {"ReturnCode": 32, "Message": "x\u{1b}".repeat(1 << 19)}}).to_string();
    assert!(parse_assigned(&long).unwrap_err().to_string().len() < 1200);
}

proptest! {
    #[test]
    fn no_answer_makes_the_parser_panic(
        text in "([{}\\[\\],:\"0-9.]|podIPInfo|response|ReturnCode){0,40}", address in "\\PC{0,12}", length: u8,
    ) {
        let _ = parse_assigned(&text);
        let _ = parse_released(&text);
        let _ = parse_assigned(&answer(json!([info(&address, &address, length)])).to_string());
    }
}
