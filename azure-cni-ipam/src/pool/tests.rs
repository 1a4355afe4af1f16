use std::collections::BTreeSet;
use std::time::Duration;

use azure_cni_api::cni::AttachmentId;
use proptest::prelude::*;

use super::*;
use crate::lease::{Choice, LeaseBook, LeaseError};

const UPLINK: MacAddress = MacAddress([0, 0x0d, 0x3a, 0, 0, 1]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn subnet(prefix: &str, primary: Option<&str>, secondaries: &[&str]) -> Subnet {
    Subnet {
        prefix: prefix.parse().unwrap(),
        primary: primary.map(ip),
        secondaries: secondaries.iter().map(|text| ip(text)).collect(),
        public: Vec::new(),
    }
}

fn nic(mac: NicMac, subnets: Vec<Subnet>) -> Nic {
    Nic { mac, primary: true, subnets }
}

fn pool_of(nics: &[Nic]) -> Result<Pool, PoolError> {
    Pool::for_uplink(&Listing { nics: nics.to_vec(), oddities: Oddities::default() }, UPLINK)
}

fn no_primary() -> PoolError {
    PoolError::NoPrimary { nic: NicMac::First, odd: String::new() }
}

#[test]
fn the_uplink_s_own_entry_wins_over_the_first_nic_s() {
    let other = nic(NicMac::Exact(MacAddress([2; 6])), vec![subnet("10.9.0.0/24", Some("10.9.0.4"), &[])]);
    let first = nic(NicMac::First, vec![subnet("10.1.0.0/24", Some("10.1.0.4"), &[])]);
    let exact = nic(NicMac::Exact(UPLINK), vec![subnet("10.2.0.0/24", Some("10.2.0.4"), &[])]);

    let of = |nics: &[Nic]| pool_of(nics).map(|pool| IpAddr::V4(pool.primary));
    assert_eq!(of(&[other.clone(), first.clone(), exact]), Ok(ip("10.2.0.4")));
    assert_eq!(of(&[other.clone(), first]), Ok(ip("10.1.0.4")));
    let error = of(&[other]).unwrap_err().to_string();
    assert!(error.contains("00:0d:3a:00:00:01") && error.contains("listed: 02:02:02:02:02:02"), "{error}");
    assert!(of(&[]).unwrap_err().to_string().contains("listed: none"));
}

#[test]
fn a_nic_without_primary_address_gives_no_pool() {
    let error = pool_of(&[nic(NicMac::First, vec![subnet("10.1.0.0/24", None, &["10.1.0.9"])])]);
    assert_eq!(error, Err(no_primary()));
}

#[test]
fn one_nic_s_subnets_make_one_pool() {
    let subnets = vec![
        subnet("10.1.0.0/24", None, &["10.1.0.9", "10.1.0.8"]),
        subnet("10.2.0.0/25", Some("10.2.0.4"), &["10.2.0.5"]),
    ];
    let pool = pool_of(&[nic(NicMac::First, subnets)]).unwrap();
    assert_eq!(pool.primaries().iter().collect::<Vec<_>>(), [ip("10.2.0.4")]);
    assert_eq!(pool.addresses().collect::<Vec<_>>(), [ip("10.1.0.9"), ip("10.1.0.8"), ip("10.2.0.5")]);
    assert_eq!(pool.subnet_of(ip("10.1.0.9")).unwrap().gateway, ip("10.1.0.1"));
    assert_eq!(pool.subnet_of(ip("10.2.0.5")).unwrap().prefix.to_string(), "10.2.0.0/25");
    assert_eq!(pool.subnet_of(ip("10.2.0.200")), None);
    assert_eq!(pool.withheld, []);
}

#[test]
fn reserved_addresses_are_withheld_and_named() {
    let listed = ["10.1.0.0", "10.1.0.1", "10.1.0.2", "10.1.0.255", "10.1.0.128", "10.1.0.129"];
    let subnets = vec![
        subnet("10.1.0.0/24", Some("10.1.0.4"), &listed),
        // Inside the other: its reserved addresses are not free there either.
        subnet("10.1.0.128/26", None, &[]),
    ];
    let pool = pool_of(&[nic(NicMac::First, subnets)]).unwrap();
    assert_eq!(pool.addresses().collect::<Vec<_>>(), [ip("10.1.0.2")]);
    let withheld: Vec<_> = pool.withheld.iter().map(|one| (one.address.to_string(), one.reason)).collect();
    assert_eq!(
        withheld,
        [
            ("10.1.0.0".to_owned(), Reserved::Network),
            ("10.1.0.1".to_owned(), Reserved::Gateway),
            ("10.1.0.255".to_owned(), Reserved::Broadcast),
            ("10.1.0.128".to_owned(), Reserved::Network),
            ("10.1.0.129".to_owned(), Reserved::Gateway),
        ]
    );
}

/// What no pod may have, of both families, in a subnet that holds it.
const NEVER: [(&str, &str); 16] = [
    ("168.0.0.0/8", "168.63.129.16"),
    ("169.254.0.0/16", "169.254.169.254"),
    ("169.254.0.0/16", "169.254.1.1"),
    ("127.0.0.0/8", "127.0.0.5"),
    ("0.0.0.0/2", "0.0.0.7"),
    ("224.0.0.0/4", "224.0.0.7"),
    ("240.0.0.0/4", "240.0.0.7"),
    ("240.0.0.0/4", "255.255.255.254"),
    ("::/3", "::"),
    ("::/64", "::1"),
    ("::/64", "::10.0.0.7"),
    ("::/64", "::ffff:10.0.0.7"),
    ("fe80::/64", "fe80::1234:5678:9abc"),
    ("fe80::/64", "fe80::7"),
    ("ff02::/16", "ff02::7"),
    ("ff02::/16", "ff02:1::7"),
];

/// No form of a listing gives a pod such an address; what else is listed is used.
#[test]
fn an_address_that_no_host_can_have_is_withheld_from_every_form_of_listing() {
    for (prefix, never) in NEVER {
        let [base, length] = prefix.split('/').collect::<Vec<_>>()[..] else { panic!("{prefix}") };
        let xml = format!(
            "<Interfaces><Interface MacAddress=\"{UPLINK}\"><IPSubnet Prefix=\"10.1.0.0/24\"><IPAddress Address=\"10.1.0.4\" \
             IsPrimary=\"true\"/><IPAddress Address=\"10.1.0.5\"/></IPSubnet><IPSubnet Prefix=\"{prefix}\"><IPAddress \
             Address=\"{never}\"/></IPSubnet></Interface></Interfaces>"
        );
        let own = ["10.1.0.4", "10.1.0.5"].map(|address| serde_json::json!({"privateIpAddress": address}));
        let listed = serde_json::json!({"privateIpAddress": never, "publicIpAddress": "20.0.0.1"});
        let v4 = serde_json::json!({"address": "10.1.0.0", "prefix": "24"});
        let also = serde_json::json!({"address": base, "prefix": length});
        let (ipv4, ipv6) = match ip(never) {
            IpAddr::V4(_) => (vec![own[0].clone(), own[1].clone(), listed], serde_json::json!({})),
            // The first of a family is the VM's own.
            IpAddr::V6(_) => {
                let own6 = serde_json::json!({"privateIpAddress": "fd00::4"});
                let subnets = [&serde_json::json!({"address": "fd00::", "prefix": "64"}), &also];
                (own.to_vec(), serde_json::json!({"ipAddress": [own6, listed], "subnet": subnets}))
            }
        };
        let json = serde_json::json!({"interface": [{"macAddress": UPLINK.to_string(), "ipv6": ipv6,
            "ipv4": {"ipAddress": ipv4, "subnet": [v4, also]}}]});
        for text in [xml, json.to_string()] {
            let pool = Pool::for_uplink(&crate::listing::parse(&text).unwrap(), UPLINK).unwrap();
            assert_eq!(pool.addresses().collect::<Vec<_>>(), [ip("10.1.0.5")], "{never}: {text}");
            assert_eq!(pool.withheld.iter().map(|one| one.address).collect::<Vec<_>>(), [ip(never)], "{text}");
            assert!(!pool.public.contains(&ip(never)));
            // Nor from a file of an earlier agent, or from azure-cns.
            assert!(pool.withholds(ip(never), &NodeAddresses::default()).is_some(), "{never}");
        }
    }
}

#[test]
fn an_address_that_no_host_can_have_is_no_primary_either() {
    let subnets = vec![
        subnet("169.254.0.0/16", Some("169.254.0.4"), &[]),
        subnet("10.1.0.0/24", Some("10.1.0.4"), &[]),
        subnet("fe80::/64", Some("fe80::4"), &[]),
    ];
    let pool = pool_of(&[nic(NicMac::First, subnets)]).unwrap();
    assert_eq!(pool.primaries().iter().collect::<Vec<_>>(), [ip("10.1.0.4")]);
    let only = nic(NicMac::First, vec![subnet("127.0.0.0/8", Some("127.0.0.4"), &["127.0.0.5"])]);
    assert_eq!(pool_of(&[only]), Err(no_primary()));
}

#[test]
fn any_source_is_asked_why_an_address_is_no_pod_s() {
    let subnets =
        vec![subnet("10.1.0.0/24", Some("10.1.0.4"), &["10.1.0.5"]), subnet("fd00::/64", Some("fd00::4"), &[])];
    let pool = pool_of(&[nic(NicMac::First, subnets)]).unwrap();
    let node = NodeAddresses {
        interfaces: [ip("10.1.0.9"), ip("fd00::9")].into(),
        services: [ip("10.1.0.8"), ip("fd00::8"), ip("10.1.0.9"), ip("10.1.0.4")].into(),
    };
    for (address, reason) in [
        ("10.1.0.5", None),
        ("fd00::5", None),
        ("10.9.9.9", None),
        ("10.1.0.4", Some(Reserved::Primary)),
        ("fd00::4", Some(Reserved::Primary)),
        ("10.1.0.1", Some(Reserved::Gateway)),
        ("fd00::1", Some(Reserved::Gateway)),
        ("10.1.0.9", Some(Reserved::HeldByHost)),
        ("fd00::9", Some(Reserved::HeldByHost)),
        ("10.1.0.8", Some(Reserved::OfService)),
        ("fd00::8", Some(Reserved::OfService)),
        ("168.63.129.16", Some(Reserved::Platform)),
    ] {
        assert_eq!(pool.withholds(ip(address), &node), reason, "{address}");
    }
}

#[test]
fn what_other_entries_say_never_keeps_the_uplink_s_own_from_being_used() {
    let own = nic(
        NicMac::Exact(UPLINK),
        vec![
            subnet("10.1.0.0/24", Some("10.1.0.4"), &["10.1.0.5", "10.1.0.6", "10.1.0.5"]),
            subnet("fd00::/64", None, &["fd00::5"]),
        ],
    );
    let other =
        |addresses: &[&str]| nic(NicMac::Exact(MacAddress([2; 6])), vec![subnet("10.1.0.0/24", None, addresses)]);
    let used = |nics: &[Nic]| {
        let pool = pool_of(nics).unwrap();
        (pool.addresses().map(|address| address.to_string()).collect::<Vec<_>>().join(" "), pool)
    };
    // An address that is listed twice is used once.
    let (all, pool) = used(std::slice::from_ref(&own));
    assert_eq!((all.as_str(), pool.oddities.len()), ("10.1.0.5 10.1.0.6 fd00::5", 1));
    assert!(pool.oddities[0].contains("10.1.0.5 is listed a second time"), "{:?}", pool.oddities);
    // The platform routes an address to one of two NICs: nobody knows to which.
    let (rest, pool) = used(&[other(&["10.1.0.6", "10.1.0.4"]), own.clone()]);
    assert_eq!((rest.as_str(), IpAddr::V4(pool.primary)), ("10.1.0.5 fd00::5", ip("10.1.0.4")));
    assert_eq!(pool.withheld, [Withheld { address: ip("10.1.0.6"), reason: Reserved::OtherNic }]);
    // Of two entries for the uplink, the first with a primary address counts.
    let without = nic(NicMac::Exact(UPLINK), vec![subnet("10.1.0.0/24", None, &["10.1.0.7"])]);
    for nics in [[own.clone(), without.clone()], [without.clone(), own.clone()], [own.clone(), own.clone()]] {
        let (used, pool) = used(&nics);
        assert_eq!(used, all);
        assert!(pool.oddities.iter().any(|oddity| oddity.contains("is listed 2 times")), "{:?}", pool.oddities);
    }
    let (used, pool) = used(&[own, other(&[]), other(&[])]);
    assert_eq!((used, pool.oddities.len()), (all, 1));
}

#[test]
fn an_error_about_the_uplink_names_what_could_not_be_read() {
    let text = "{\"interface\": [{\"macAddress\": \"00-0D\"}]}";
    let error = Pool::for_uplink(&crate::listing::parse(text).unwrap(), UPLINK).unwrap_err().to_string();
    assert!(error.contains("listed: none; interface[0].macAddress = \"00-0D\""), "{error}");
    let many: Vec<Nic> = (0..5000_u16)
        .map(|number| nic(NicMac::Exact(MacAddress([4, 0, 0, 0, (number >> 8) as u8, number as u8])), vec![]))
        .collect();
    assert!(pool_of(&many).unwrap_err().to_string().len() < 600);
}

#[test]
fn public_addresses_are_those_of_pods_without_the_vms_own() {
    let listed = subnet("10.1.0.0/24", Some("10.1.0.4"), &["10.1.0.5", "10.1.0.6"]);
    let public = vec![ip("10.1.0.4"), ip("10.1.0.6")];
    let pool = pool_of(&[nic(NicMac::First, vec![Subnet { public, ..listed }])]).unwrap();
    assert_eq!(pool.public, BTreeSet::from([ip("10.1.0.6")]));
}

#[test]
fn a_nic_of_both_families_makes_a_pool_of_both() {
    let subnets = vec![
        subnet("fd00:1::/64", Some("fd00:1::4"), &["fd00:1::5", "fd00:1::6"]),
        subnet("10.1.0.0/24", Some("10.1.0.4"), &["10.1.0.5"]),
        subnet("fd00:2::/64", Some("fd00:2::4"), &[]),
    ];
    let pool = pool_of(&[nic(NicMac::First, subnets)]).unwrap();
    assert_eq!(pool.primaries().iter().collect::<Vec<_>>(), [ip("10.1.0.4"), ip("fd00:1::4")]);
    assert_eq!(pool.addresses().collect::<Vec<_>>(), [ip("fd00:1::5"), ip("fd00:1::6"), ip("10.1.0.5")]);
    assert_eq!(pool.subnet_of(ip("fd00:1::6")).unwrap().gateway, ip("fd00:1::1"));
    assert!(pool.is_dual_stack());
}

#[test]
fn an_ipv6_address_of_the_vm_alone_gives_no_ipv6_to_pods() {
    let subnets = vec![
        subnet("10.1.0.0/24", Some("10.1.0.4"), &["10.1.0.5"]),
        subnet("fd00::/64", Some("fd00::4"), &["fd00::1"]),
    ];
    let pool = pool_of(&[nic(NicMac::First, subnets)]).unwrap();
    assert_eq!(pool.primary6, Some("fd00::4".parse().unwrap()));
    assert!(!pool.is_dual_stack());
}

#[test]
fn ipv6_alone_gives_no_pool() {
    let nic = nic(NicMac::First, vec![subnet("fd00::/64", Some("fd00::4"), &["fd00::5"])]);
    assert_eq!(pool_of(&[nic]), Err(no_primary()));
}

#[test]
fn an_ipv6_subnet_has_a_router_anycast_address_and_no_broadcast() {
    let listed = ["fd00::", "fd00::1", "fd00::2", "fd00::ffff:ffff:ffff:ffff"];
    let subnets = vec![subnet("10.1.0.0/24", Some("10.1.0.4"), &[]), subnet("fd00::/64", Some("fd00::4"), &listed)];
    let pool = pool_of(&[nic(NicMac::First, subnets)]).unwrap();
    assert_eq!(pool.addresses().collect::<Vec<_>>(), [ip("fd00::2"), ip("fd00::ffff:ffff:ffff:ffff")]);
    let withheld: Vec<_> = pool.withheld.iter().map(|one| (one.address, one.reason)).collect();
    assert_eq!(withheld, [(ip("fd00::"), Reserved::RouterAnycast), (ip("fd00::1"), Reserved::Gateway)]);
}

/// A subnet of up to 64 addresses of which any are listed, the reserved ones too.
fn any_subnet(base: &'static str) -> impl Strategy<Value = Subnet> {
    (2u8..=6, proptest::collection::btree_set(0u8..64, 0..64)).prop_map(move |(host_bits, hosts)| {
        let base = IpNet::from(ip(base));
        let prefix = IpNet::new(base.addr(), base.max_prefix_len() - host_bits).unwrap();
        let in_prefix = hosts.into_iter().filter(|host| *host < 1 << host_bits);
        let mut addresses: Vec<_> = in_prefix.map(|host| nth(prefix, host)).collect();
        let primary = addresses.pop();
        Subnet { prefix, primary, secondaries: addresses, public: Vec::new() }
    })
}

fn nth(prefix: IpNet, host: u8) -> IpAddr {
    match prefix.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() + u32::from(host)).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() + u128::from(host)).into(),
    }
}

proptest! {
    #[test]
    fn pods_get_every_listed_address_but_the_reserved_ones(
        a in any_subnet("10.0.0.0"), b in any_subnet("10.0.1.0"), c in any_subnet("fd00::")
    ) {
        let subnets = vec![a, b, c];
        prop_assume!(subnets.iter().any(|subnet| subnet.primary.is_some_and(|primary| primary.is_ipv4())));
        let pool = pool_of(&[nic(NicMac::First, subnets.clone())]).unwrap();

        let mut book = LeaseBook::new(Duration::ZERO);
        book.set_pool(pool.addresses());
        let mut leased = BTreeSet::new();
        for pod in 0.. {
            let id = AttachmentId {
                network: "azure".parse().unwrap(),
                container_id: format!("c{pod}").parse().unwrap(),
                ifname: "eth0".parse().unwrap(),
            };
            match book.lease(&id, Choice::Any, Duration::ZERO) {
                Ok(address) => prop_assert!(leased.insert(address), "{} leased twice", address),
                Err(LeaseError::Empty | LeaseError::Exhausted { .. }) => break,
                Err(error) => prop_assert!(false, "{}", error),
            }
        }

        let expected: BTreeSet<_> = subnets.iter().flat_map(|subnet| {
            let broadcast = Some(subnet.prefix.broadcast()).filter(|address| address.is_ipv4());
            let reserved = [Some(nth(subnet.prefix, 0)), broadcast, Some(nth(subnet.prefix, 1)), subnet.primary];
            subnet.secondaries.iter().copied().filter(move |address| !reserved.contains(&Some(*address)))
        }).collect();
        prop_assert_eq!(&leased, &expected);
        let listed: usize = subnets.iter().map(|subnet| subnet.secondaries.len()).sum();
        prop_assert_eq!(leased.len() + pool.withheld.len(), listed);
    }
}
