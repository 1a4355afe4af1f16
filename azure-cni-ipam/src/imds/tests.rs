use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The sample of the platform's documentation, with a second interface and IPv6.
fn sample() -> Value {
    json!({"interface": [
        {"ipv4": {"ipAddress": [
            {"privateIpAddress": "10.240.0.4", "publicIpAddress": "20.1.2.3"},
            {"privateIpAddress": "10.240.0.5", "publicIpAddress": ""},
            {"privateIpAddress": "10.241.0.6", "publicIpAddress": "20.1.2.4"}],
          "subnet": [{"address": "10.240.0.0", "prefix": "16"}, {"address": "10.241.0.0", "prefix": "24"}]},
         "ipv6": {"ipAddress": [{"privateIpAddress": "fd00:1::4"}, {"privateIpAddress": "fd00:1::5"}]},
         "macAddress": "000D3AF9DCA6"},
        {"ipv4": {"ipAddress": [{"privateIpAddress": "10.9.0.4"}], "subnet": [{"address": "10.9.0.0", "prefix": "24"}]},
         "ipv6": {"ipAddress": []}, "macAddress": "000D3AF9DCA7"}]})
}

#[test]
fn interfaces_subnets_and_public_addresses_are_read() {
    let nics = parse(&sample().to_string()).unwrap();
    assert_eq!(nics.iter().map(|nic| nic.primary).collect::<Vec<_>>(), [true, false]);
    assert_eq!(nics[1].mac.to_string(), "00:0d:3a:f9:dc:a7");
    let subnets: Vec<_> = nics[0].subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
    assert_eq!(subnets, ["10.240.0.0/16", "10.241.0.0/24", "fd00:1::/64"]);
    let [first, second, v6] = &nics[0].subnets[..] else { panic!("three subnets") };
    assert_eq!((first.primary, &first.secondaries[..]), (Some(ip("10.240.0.4")), &[ip("10.240.0.5")][..]));
    assert_eq!((second.primary, &second.secondaries[..]), (None, &[ip("10.241.0.6")][..]));
    assert_eq!((v6.primary, &v6.secondaries[..]), (Some(ip("fd00:1::4")), &[ip("fd00:1::5")][..]));
    assert_eq!([&first.public[..], &second.public], [[ip("10.240.0.4")], [ip("10.241.0.6")]]);
}

#[test]
fn an_address_belongs_to_the_smallest_subnet_that_holds_it() {
    let mut document = sample();
    document["interface"][0]["ipv4"]["subnet"] =
        json!([{"address": "10.0.0.0", "prefix": "8"}, {"address": "10.241.0.0", "prefix": "24"}]);
    let nics = parse(&document.to_string()).unwrap();
    assert_eq!(nics[0].subnets[0].secondaries, [ip("10.240.0.5")]);
    assert_eq!(nics[0].subnets[1].secondaries, [ip("10.241.0.6")]);
}

#[test]
fn an_error_refuses_the_whole_document_and_names_its_place() {
    let address = "/interface/0/ipv4/ipAddress/1/privateIpAddress";
    let subnet = "/interface/0/ipv4/subnet/0";
    for (place, value, complaint) in [
        ("/interface/0/macAddress", json!("00-0D"), "interface[0].macAddress = \"00-0D\": the value is not a MAC"),
        ("/interface/1/macAddress", json!("000D3AF9DCA6"), "interface 00:0d:3a:f9:dc:a6 is listed a second time"),
        (address, json!("10.240.0"), "interface[0].ipv4.ipAddress[1].privateIpAddress = \"10.240.0\""),
        (address, json!("fd00::9"), "is of the other family"),
        (address, json!("10.240.0.4"), "ipAddress[1]: address 10.240.0.4 is listed a second time"),
        (address, json!("10.99.0.4"), "address 10.99.0.4 lies in none of the interface's subnets"),
        (
            "/interface/1/ipv4/ipAddress/0/privateIpAddress",
            json!("10.240.0.5"),
            "address 10.240.0.5 is listed a second time",
        ),
        (subnet, json!({"address": "10.240.0.0", "prefix": "33"}), "subnet[0].prefix = \"33\": the value is longer"),
        (subnet, json!({"address": "10.240.0.0", "prefix": "31"}), "is no length of a virtual network's subnet"),
        (subnet, json!({"address": "10.240.0.0", "prefix": "-1"}), "is not the length of a prefix"),
        (subnet, json!({"address": "10.240.0.1", "prefix": "16"}), "subnet[0].address = \"10.240.0.1\""),
        (subnet, json!({"address": "10.240.0.0", "prefix": 16}), "invalid type"),
        ("/interface/0", json!({}), "missing field `macAddress`"),
        ("/interface", json!({}), "invalid type"),
    ] {
        let mut document = sample();
        *document.pointer_mut(place).unwrap() = value;
        let error = parse(&document.to_string()).expect_err(place).to_string();
        assert!(error.contains(complaint), "{place}: {error}");
    }
}

#[test]
fn a_document_that_is_too_large_is_refused_unread() {
    let error = parse(&" ".repeat(MAX_BYTES + 1)).unwrap_err();
    assert!(matches!(error, ImdsError::TooLarge { .. }), "{error}");
}

proptest! {
    #[test]
    fn no_document_makes_the_parser_panic(
        text in "([{}\\[\\],:\"0-9.a-f]|interface|ipv4|ipAddress|subnet|macAddress|prefix|privateIpAddress){0,60}",
        place in 0usize..6, value in "[0-9a-f:./-]{0,12}",
    ) {
        let _ = parse(&text);
        let mut document = sample();
        let places = ["macAddress", "ipv4/ipAddress/0/privateIpAddress", "ipv4/ipAddress/0/publicIpAddress",
            "ipv4/subnet/1/address", "ipv4/subnet/1/prefix", "ipv6/ipAddress/1/privateIpAddress"];
        *document.pointer_mut(&format!("/interface/0/{}", places[place])).unwrap() = value.into();
        let _ = parse(&document.to_string());
    }

    #[test]
    fn a_document_cut_short_is_refused(at in 0usize..600) {
        let whole = sample().to_string();
        prop_assume!(at < whole.len());
        prop_assert!(matches!(parse(&whole[..at]), Err(ImdsError::Json(_))));
    }
}
