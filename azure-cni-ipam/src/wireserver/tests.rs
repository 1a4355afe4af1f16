use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

/// The interfaces of a document without oddities.
fn nics(xml: &str) -> Result<Vec<Nic>, ParseError> {
    parse(xml).map(|listing| {
        assert_eq!(listing.oddities, Oddities::default());
        listing.nics
    })
}

/// One NIC with one subnet 10.240.0.0/16 and these elements inside.
fn document(inside: &str) -> String {
    format!(
        "<Interfaces>\n<Interface MacAddress=\"000D3AF9DCA6\" IsPrimary=\"true\">\n\
         <IPSubnet Prefix=\"10.240.0.0/16\">\n{inside}\n</IPSubnet>\n</Interface>\n</Interfaces>"
    )
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(text: &str) -> NicMac {
    NicMac::Exact(text.parse().unwrap())
}

#[test]
fn the_platform_s_document_is_read_as_it_is() {
    let xml = r#"<Interfaces>
  <Interface MacAddress="000D3AF9DCA6" IsPrimary="true">
    <IPSubnet Prefix="10.240.0.0/16">
      <IPAddress Address="10.240.0.4" IsPrimary="true"/>
      <IPAddress Address="10.240.0.5" IsPrimary="false"/>
    </IPSubnet>
  </Interface>
</Interfaces>"#;
    let subnet = Subnet {
        prefix: "10.240.0.0/16".parse().unwrap(),
        primary: Some(ip("10.240.0.4")),
        secondaries: vec![ip("10.240.0.5")],
        public: Vec::new(),
    };
    let nic = Nic { mac: mac("00:0d:3a:f9:dc:a6"), primary: true, subnets: vec![subnet] };
    assert_eq!(nics(xml), Ok(vec![nic]));
}

#[test]
fn several_nics_and_subnets_are_kept_apart() {
    let nics = nics(
        r#"<?xml version="1.0" encoding="utf-8"?>
        <Interfaces>
          <Interface MacAddress="*" IsPrimary="True">
            <IPSubnet Prefix="10.1.0.0/24"><IPAddress Address="10.1.0.4" IsPrimary="TRUE"/></IPSubnet>
            <IPSubnet Prefix="10.2.0.0/24"><IPAddress Address="10.2.0.9"/></IPSubnet>
            <IPSubnet Prefix="fd00::/64"><IPAddress Address="fd00::4" IsPrimary="true"/>
              <IPAddress Address="FD00:0::5"/></IPSubnet>
          </Interface>
          <Interface MacAddress="00:0d:3a:00:00:01">
            <IPSubnet Prefix="10.1.0.0/24"><IPAddress Address="10.1.0.5" IsPrimary="true"/></IPSubnet>
          </Interface>
        </Interfaces>"#,
    )
    .unwrap();
    assert_eq!(nics.len(), 2);
    assert_eq!((nics[0].mac, nics[0].primary), (NicMac::First, true));
    assert_eq!(nics[0].subnets.len(), 3);
    assert_eq!(nics[0].subnets[1].primary, None);
    assert_eq!(nics[0].subnets[1].secondaries, [ip("10.2.0.9")]);
    assert_eq!(nics[0].subnets[2].prefix, "fd00::/64".parse().unwrap());
    assert_eq!(nics[0].subnets[2].primary, Some(ip("fd00::4")));
    assert_eq!(nics[0].subnets[2].secondaries, [ip("fd00::5")]);
    assert_eq!((nics[1].mac, nics[1].primary), (mac("000D3A000001"), false));
    assert_eq!(nics[1].subnets[0].primary, Some(ip("10.1.0.5")));
}

#[test]
fn unknown_parts_are_ignored() {
    let xml = document(
        "<!-- note --><IPAddress Address=\"10.240.0.5\" State=\"New\"><Inner/></IPAddress><Route Address=\"bad\"/>",
    );
    let nics = nics(&format!("\u{feff}{xml}")).unwrap();
    assert_eq!(nics[0].subnets[0].secondaries, [ip("10.240.0.5")]);
}

#[test]
fn no_interface_is_no_error_of_the_document() {
    assert_eq!(nics("<Interfaces/>"), Ok(vec![]));
}

#[test]
fn another_document_is_refused_with_reason_and_place() {
    let long = format!("<{}/>", "a".repeat(1 << 20));
    for (xml, complaint) in [
        (String::new(), "not an acceptable XML document"),
        ("<Interfaces>".to_owned(), "not an acceptable XML document"),
        (document("<IPAddress"), "not an acceptable XML document"),
        (document(&format!("&{};", "x".repeat(1 << 20))), "not an acceptable XML document"),
        ("\n <Error/>".to_owned(), "line 2, column 2: root element is <Error>, not <Interfaces>"),
        (long, "aaa...>, not <Interfaces>"),
    ] {
        let error = parse(&xml).unwrap_err().to_string();
        assert!(error.contains(complaint) && error.len() < 1200, "{error}\nnot:  {complaint}");
    }
}

/// An interface before and one after the odd part, which must stay.
#[test]
fn an_oddity_is_reported_with_its_place_and_takes_nothing_else_along() {
    let address = |attributes: &str| document(&format!("<IPAddress {attributes}/>"));
    let interface = |attributes: &str| format!("<Interfaces>\n<Interface {attributes}/></Interfaces>");
    let subnet = |attributes: &str| {
        format!("<Interfaces><Interface MacAddress=\"*\">\n<IPSubnet {attributes}/></Interface></Interfaces>")
    };
    let two_primaries = "<IPAddress Address=\"10.240.0.4\" IsPrimary=\"true\"/>\n\
                         <IPAddress Address=\"10.240.0.5\" IsPrimary=\"true\"/>";
    for (xml, complaint) in [
        (interface(""), "line 2, column 1: <Interface> has no attribute MacAddress"),
        (interface("MacAddress=\"\""), "<Interface> MacAddress = \"\": the value is not a MAC"),
        (interface("MacAddress=\"000D3AF9DCA\""), "<Interface> MacAddress = \"000D3AF9DCA\": the value is not a MAC"),
        (interface(&format!("MacAddress=\"{}\"", "0".repeat(1 << 20))), "...: the value is not a MAC"),
        (interface("IsPrimary=\"yes\" MacAddress=\"*\""), "line 2, column 12: <Interface> IsPrimary = \"yes\""),
        (subnet(""), "line 2, column 1: <IPSubnet> has no attribute Prefix"),
        (subnet("Prefix=\"10.0.0.0\""), "<IPSubnet> Prefix = \"10.0.0.0\": the value is not a prefix"),
        (subnet("Prefix=\"10.0.0.0/33\""), "is not a prefix"),
        (
            subnet("Prefix=\"10.0.0.1/24\""),
            "line 2, column 11: <IPSubnet> Prefix = \"10.0.0.1/24\": the value has host bits",
        ),
        (subnet("Prefix=\"10.0.0.0/32\""), "is no subnet of a virtual network"),
        (subnet("Prefix=\"10.0.0.0/31\""), "is no subnet of a virtual network"),
        (subnet("Prefix=\"0.0.0.0/0\""), "is no subnet of a virtual network"),
        (subnet("Prefix=\"fd00::/127\""), "its length is not in 3 to 126"),
        (subnet("Prefix=\"::/0\""), "is no subnet of a virtual network"),
        (subnet("Prefix=\"fd00::1/64\""), "has host bits"),
        (
            subnet("Prefix=\"fd00::/64\"><IPAddress Address=\"10.0.0.4\"/></IPSubnet><IPSubnet Prefix=\"10.0.0.0/8\""),
            "is IPv4 in an IPv6 subnet",
        ),
        (
            subnet("Prefix=\"fd00::/64\"><IPAddress Address=\"fd00:1::4\"/></IPSubnet><IPSubnet Prefix=\"10.0.0.0/8\""),
            "address fd00:1::4 lies outside of its subnet fd00::/64",
        ),
        (address(""), "line 4, column 1: <IPAddress> has no attribute Address"),
        (address("Address=\"10.240.0\""), "<IPAddress> Address = \"10.240.0\": the value is not an address"),
        (address("Address=\"10.240.0.05\""), "is not an address"),
        (address("Address=\"fd00::4\""), "is IPv6 in an IPv4 subnet"),
        // It may be the VM's own.
        (address("Address=\"10.240.0.5\" IsPrimary=\"\""), "<IPAddress> IsPrimary = \"\": the value is neither"),
        (
            address("Address=\"10.241.0.5\""),
            "line 4, column 1: address 10.241.0.5 lies outside of its subnet 10.240.0.0/16",
        ),
        (document(two_primaries), "line 5, column 1: address 10.240.0.5 is a second primary address"),
    ] {
        let before = "<Interface MacAddress=\"020000000001\"/>";
        let after = "<Interface MacAddress=\"020000000002\"><IPSubnet Prefix=\"10.3.0.0/24\"><IPAddress Address=\"10.3.0.9\"/>\
                     </IPSubnet></Interface></Interfaces>";
        let odd = parse(&xml).unwrap();
        let sentences = odd.oddities.sentences().join("; ");
        assert!(sentences.contains(complaint) && sentences.len() < 1000, "gave: {sentences}\nnot:  {complaint}");
        let used: Vec<_> =
            odd.nics.iter().flat_map(|nic| &nic.subnets).flat_map(|subnet| &subnet.secondaries).collect();
        assert!(used.is_empty(), "{complaint}: {used:?}");

        let among = xml.replacen("<Interfaces>", &format!("<Interfaces>{before}"), 1).replace("</Interfaces>", after);
        let others = parse(&among).unwrap().nics;
        assert_eq!(others.first().unwrap().mac, mac("02:00:00:00:00:01"), "{complaint}");
        assert_eq!(others.last().unwrap().subnets[0].secondaries, [ip("10.3.0.9")], "{complaint}");
    }
}

#[test]
fn a_subnet_in_two_parts_is_one() {
    let part = |host: u8| format!("<IPSubnet Prefix=\"10.0.0.0/24\"><IPAddress Address=\"10.0.0.{host}\"/></IPSubnet>");
    let xml = format!("<Interfaces><Interface MacAddress=\"*\">{}{}</Interface></Interfaces>", part(7), part(8));
    let nics = nics(&xml).unwrap();
    assert_eq!(nics[0].subnets.len(), 1);
    assert_eq!(nics[0].subnets[0].secondaries, [ip("10.0.0.7"), ip("10.0.0.8")]);
}

#[test]
fn entities_and_document_types_are_refused() {
    for doctype in [
        "<!DOCTYPE a [<!ENTITY x \"10.240.0.5\">]>",
        "<!DOCTYPE a SYSTEM \"http://169.254.169.254/\">",
        "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>",
    ] {
        let error = parse(&format!("{doctype}{}", document(""))).unwrap_err();
        assert_eq!(error, ParseError::Xml(roxmltree::Error::DtdDetected));
    }
    assert!(matches!(parse(&document("<IPAddress Address=\"&x;\"/>")), Err(ParseError::Xml(_))));
}

#[test]
fn the_pool_of_a_whole_virtual_network_is_read_and_more_is_refused() {
    let all: String = (0..16_000u32)
        .map(|i| format!("      <IPAddress Address=\"{}\" IsPrimary=\"false\"/>\n", Ipv4Addr::from(0x0af0_0004 + i)))
        .collect();
    assert_eq!(nics(&document(&all)).unwrap()[0].subnets[0].secondaries.len(), 16_000);

    let too_long = document(&" ".repeat(MAX_BYTES));
    assert_eq!(parse(&too_long), Err(ParseError::TooLarge { bytes: too_long.len() }));
    let too_many = document(&"<a/>".repeat(MAX_NODES as usize));
    assert_eq!(parse(&too_many), Err(ParseError::Xml(roxmltree::Error::NodesLimitReached)));
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let depth = 30_000;
    let xml = document(&format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth)));
    assert_eq!(nics(&xml).map(|nics| nics.len()), Ok(1));
}

/// Any subnet a document may list, with distinct addresses in it.
fn any_subnet() -> impl Strategy<Value = Subnet> {
    let prefix = prop_oneof![
        (any::<u32>(), 2..=30u8).prop_map(|(base, length)| IpNet::new(Ipv4Addr::from(base).into(), length).unwrap()),
        (any::<u128>(), 3..=126u8).prop_map(|(base, length)| IpNet::new(Ipv6Addr::from(base).into(), length).unwrap()),
    ];
    (prefix, any::<bool>(), proptest::collection::btree_set(any::<u128>(), 0..8)).prop_map(
        |(prefix, has_primary, hosts)| {
            let prefix = prefix.trunc();
            let mut addresses: Vec<_> = hosts.into_iter().map(|host| inside(prefix, host)).collect();
            addresses.sort_unstable();
            addresses.dedup();
            let primary = if has_primary { addresses.pop() } else { None };
            Subnet { prefix, primary, secondaries: addresses, public: Vec::new() }
        },
    )
}

fn inside(prefix: IpNet, host: u128) -> IpAddr {
    match prefix {
        IpNet::V4(net) => Ipv4Addr::from(net.network().to_bits() | (host as u32 & net.hostmask().to_bits())).into(),
        IpNet::V6(net) => Ipv6Addr::from(net.network().to_bits() | (host & net.hostmask().to_bits())).into(),
    }
}

fn render(subnet: &Subnet) -> String {
    let element =
        |address: &IpAddr, primary: bool| format!("<IPAddress Address=\"{address}\" IsPrimary=\"{primary}\"/>");
    let secondaries: String = subnet.secondaries.iter().map(|address| element(address, false)).collect();
    let primary: String = subnet.primary.iter().map(|address| element(address, true)).collect();
    format!("<IPSubnet Prefix=\"{}\">{secondaries}{primary}</IPSubnet>", subnet.prefix)
}

proptest! {
    #[test]
    fn a_document_reads_back_as_written(mac: [u8; 6], primary: bool, subnet in any_subnet()) {
        let nic = Nic { mac: NicMac::Exact(MacAddress(mac)), primary, subnets: vec![subnet] };
        let subnets: String = nic.subnets.iter().map(render).collect();
        let xml = format!(
            "<Interfaces><Interface MacAddress=\"{}\" IsPrimary=\"{primary}\">{subnets}</Interface></Interfaces>", nic.mac
        );
        prop_assert_eq!(nics(&xml), Ok(vec![nic]));
    }

    #[test]
    fn no_document_makes_the_parser_panic(pieces in proptest::collection::vec(prop_oneof![
        Just("<Interfaces>"), Just("</Interfaces>"), Just("<Interface MacAddress=\"*\">"), Just("</Interface>"),
        Just("<IPSubnet Prefix=\"10.0.0.0/8\">"), Just("</IPSubnet>"), Just("<IPAddress Address=\"10.0.0.9\"/>"),
        Just("<!DOCTYPE a>"), Just("&amp;"), Just("<![CDATA["), Just("]]>"), Just("é\u{0}"), Just(" xmlns:a=\"b\""),
    ], 0..12)) {
        let _ = parse(&pieces.concat());
    }

    #[test]
    fn a_document_cut_short_is_refused(at in 0usize..200) {
        let whole = document("<IPAddress Address=\"10.240.0.5\"/>");
        prop_assume!(at < whole.len());
        prop_assert!(matches!(parse(&whole[..at]), Err(ParseError::Xml(_))));
    }
}
