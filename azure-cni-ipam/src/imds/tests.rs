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
    let Listing { nics, oddities } = parse(&sample().to_string()).unwrap();
    assert_eq!(oddities, Oddities::default());
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
    let nics = parse(&document.to_string()).unwrap().nics;
    assert_eq!(nics[0].subnets[0].secondaries, [ip("10.240.0.5")]);
    assert_eq!(nics[0].subnets[1].secondaries, [ip("10.241.0.6")]);
}

/// The addresses of each interface, without the interface at `place`'s own.
fn addresses(listing: &Listing) -> Vec<Vec<String>> {
    let of_subnet = |subnet: &Subnet| {
        let own = subnet.primary.map(|address| format!("{address} own"));
        own.into_iter().chain(subnet.secondaries.iter().map(ToString::to_string)).collect::<Vec<_>>()
    };
    listing.nics.iter().map(|nic| nic.subnets.iter().flat_map(of_subnet).collect()).collect()
}

#[test]
fn an_oddity_takes_away_what_it_is_about_and_nothing_else() {
    let (first, second) = ("/interface/0", "/interface/1");
    let whole = addresses(&parse(&sample().to_string()).unwrap());
    for (place, value, complaint, lost) in [
        // An interface that cannot be told from others is left out as a whole.
        (second, json!(null), "interface[1] = null: the value is not an interface", &["10.9.0.4 own"][..]),
        (second, json!(7), "interface[1] = 7", &["10.9.0.4 own"]),
        (second, json!({}), "interface[1].macAddress = null: the value is not a MAC", &["10.9.0.4 own"]),
        (
            "/interface/1/macAddress",
            json!(""),
            "interface[1].macAddress = \"\": the value is not a MAC",
            &["10.9.0.4 own"],
        ),
        ("/interface/1/macAddress", json!(null), "interface[1].macAddress = null", &["10.9.0.4 own"]),
        ("/interface/1/macAddress", json!(12), "interface[1].macAddress = 12", &["10.9.0.4 own"]),
        (
            "/interface/1/macAddress",
            json!("000D3AF9DCA6FF"),
            "\"000D3AF9DCA6FF\": the value is not a MAC",
            &["10.9.0.4 own"],
        ),
        ("/interface/1/macAddress", json!("0".repeat(1 << 20)), "...: the value is not a MAC", &["10.9.0.4 own"]),
        ("/interface/1/ipv4", json!([]), "interface[1].ipv4 = []: the value is not a family", &["10.9.0.4 own"]),
        ("/interface/1/ipv4/ipAddress", json!("x"), "ipAddress = \"x\": the value is not a list", &["10.9.0.4 own"]),
        ("/interface/1/ipv4/ipAddress/0", json!(null), "ipAddress[0] = null", &["10.9.0.4 own"]),
        ("/interface/1/ipv4/subnet/0/prefix", json!("32"), "\"32\": the value is no length", &["10.9.0.4 own"]),
        (
            "/interface/1/ipv4/subnet/0/prefix",
            json!(null),
            "prefix = null: the value is not the length",
            &["10.9.0.4 own"],
        ),
        // What says the same in another form is no oddity.
        ("/interface/1/macAddress", json!("00-0D-3A-F9-DC-A7"), "", &[]),
        ("/interface/1/ipv4/subnet/0/prefix", json!(24), "", &[]),
        ("/interface/1/ipv6", json!(null), "", &[]),
        ("/interface/1/ipv4/ipAddress/0/publicIpAddress", json!(null), "", &[]),
        ("/interface/1/macAddress", json!("000D3AF9DCA6"), "", &[]),
        ("/interface/1/extra", json!([[[{"a": null}]]]), "", &[]),
        // Of the uplink's own addresses, one that cannot be read is left out alone.
        (
            "/interface/0/ipv4/ipAddress/1/privateIpAddress",
            json!("10.240.0"),
            "[1].privateIpAddress = \"10.240.0\"",
            &["10.240.0.5"],
        ),
        ("/interface/0/ipv4/ipAddress/1/privateIpAddress", json!("fd00::9"), "is of the other family", &["10.240.0.5"]),
        ("/interface/0/ipv4/ipAddress/1/privateIpAddress", json!(null), "[1].privateIpAddress = null", &["10.240.0.5"]),
        (
            "/interface/0/ipv4/ipAddress/1/privateIpAddress",
            json!("10.99.0.4"),
            "lies in none of the interface's subnets",
            &["10.240.0.5"],
        ),
        ("/interface/0/ipv4/ipAddress/1", json!(5), "ipv4.ipAddress[1] = 5", &["10.240.0.5"]),
        ("/interface/0/ipv4/ipAddress/2/publicIpAddress", json!(5), "publicIpAddress = 5", &[]),
        ("/interface/0/ipv6/ipAddress/1/privateIpAddress", json!("fd00:1:5"), "ipv6.ipAddress[1]", &["fd00:1::5"]),
        ("/interface/0/ipv6/ipAddress/1", json!(null), "ipv6.ipAddress[1] = null", &["fd00:1::5"]),
        // The first address is the VM's own. If it cannot be read, the second is not.
        ("/interface/0/ipv4/ipAddress/0", json!(null), "ipv4.ipAddress[0] = null", &["10.240.0.4 own"]),
        ("/interface/0/ipv6/ipAddress/0/privateIpAddress", json!("x"), "ipv6.ipAddress[0]", &["fd00:1::4 own"]),
        // A subnet that cannot be read takes its addresses along.
        (
            "/interface/0/ipv4/subnet/1/prefix",
            json!("33"),
            "subnet[1].prefix = \"33\": the value is longer",
            &["10.241.0.6"],
        ),
        (
            "/interface/0/ipv4/subnet/1/prefix",
            json!("31"),
            "is no length of a virtual network's subnet",
            &["10.241.0.6"],
        ),
        ("/interface/0/ipv4/subnet/1/prefix", json!("-1"), "is not the length of a prefix", &["10.241.0.6"]),
        (
            "/interface/0/ipv4/subnet/1/address",
            json!("10.241.0.1"),
            "subnet[1].address = 10.241.0.1: the value has host",
            &["10.241.0.6"],
        ),
        (
            first,
            json!(null),
            "interface[0] = null",
            &["10.240.0.4 own", "10.240.0.5", "10.241.0.6", "fd00:1::4 own", "fd00:1::5"][..],
        ),
    ] {
        let mut document = sample();
        match document.pointer_mut(place) {
            Some(part) => *part = value,
            None => {
                let (parent, key) = place.rsplit_once('/').unwrap();
                document.pointer_mut(parent).unwrap()[key] = value;
            }
        }
        let listing = parse(&document.to_string()).unwrap_or_else(|error| panic!("{place}: {error}"));
        let sentences = listing.oddities.sentences().join("; ");
        assert!(sentences.contains(complaint) && complaint.is_empty() == sentences.is_empty(), "{place}: {sentences}");
        assert!(sentences.len() < 1000, "{place}: {} characters", sentences.len());
        let expected: Vec<&String> =
            whole.iter().flatten().filter(|address| !lost.contains(&address.as_str())).collect();
        let used = addresses(&listing);
        assert_eq!(used.iter().flatten().collect::<Vec<_>>(), expected, "{place}");
    }
}

#[test]
fn a_document_of_another_form_is_refused_with_a_short_error() {
    let long = "x".repeat(1 << 20);
    for (text, complaint) in [
        (json!({"interface": {}}).to_string(), "invalid type"),
        (json!({"interface": long}).to_string(), "invalid type"),
        (json!({}).to_string(), "missing field `interface`"),
        ("{\"interface\": [".to_owned(), "EOF"),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(complaint) && error.len() < 1200, "{error}");
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

    /// Of two interfaces, one is spoilt in any way; the other is read as if it stood alone.
    #[test]
    fn nothing_in_one_interface_takes_from_another(
        place in 0usize..6,
        value in prop_oneof![
            Just(json!(null)), Just(json!(7)), Just(json!([])), Just(json!({})), Just(json!(true)),
            "[0-9a-f:./-]{0,20}".prop_map(Value::String),
        ],
    ) {
        let places = ["", "/macAddress", "/ipv4", "/ipv4/ipAddress/0", "/ipv4/subnet/0/prefix", "/ipv6"];
        let mut document = sample();
        *document.pointer_mut(&format!("/interface/1{}", places[place])).unwrap() = value;
        let listing = parse(&document.to_string()).unwrap();
        prop_assert_eq!(&listing.nics[0], &parse(&sample().to_string()).unwrap().nics[0]);
    }

    #[test]
    fn a_document_cut_short_is_refused(at in 0usize..600) {
        let whole = sample().to_string();
        prop_assume!(at < whole.len());
        prop_assert!(matches!(parse(&whole[..at]), Err(ImdsError::Json(_))));
    }
}
