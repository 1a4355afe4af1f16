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

#[test]
fn the_uplink_s_own_entry_wins_over_the_first_nic_s() {
    let other = nic(NicMac::Exact(MacAddress([2; 6])), vec![subnet("10.9.0.0/24", Some("10.9.0.4"), &[])]);
    let first = nic(NicMac::First, vec![subnet("10.1.0.0/24", Some("10.1.0.4"), &[])]);
    let exact = nic(NicMac::Exact(UPLINK), vec![subnet("10.2.0.0/24", Some("10.2.0.4"), &[])]);

    let of = |nics: &[Nic]| Pool::for_uplink(nics, UPLINK).map(|pool| IpAddr::V4(pool.primary));
    assert_eq!(of(&[other.clone(), first.clone(), exact]), Ok(ip("10.2.0.4")));
    assert_eq!(of(&[other.clone(), first]), Ok(ip("10.1.0.4")));
    let error = of(&[other]).unwrap_err().to_string();
    assert!(error.contains("00:0d:3a:00:00:01") && error.contains("listed: 02:02:02:02:02:02"), "{error}");
    assert!(of(&[]).unwrap_err().to_string().contains("listed: none"));
}

#[test]
fn a_nic_without_primary_address_gives_no_pool() {
    let error = Pool::for_uplink(&[nic(NicMac::First, vec![subnet("10.1.0.0/24", None, &["10.1.0.9"])])], UPLINK);
    assert_eq!(error, Err(PoolError::NoPrimary { nic: NicMac::First }));
}

#[test]
fn one_nic_s_subnets_make_one_pool() {
    let subnets = vec![
        subnet("10.1.0.0/24", None, &["10.1.0.9", "10.1.0.8"]),
        subnet("10.2.0.0/25", Some("10.2.0.4"), &["10.2.0.5"]),
    ];
    let pool = Pool::for_uplink(&[nic(NicMac::First, subnets)], UPLINK).unwrap();
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
    let pool = Pool::for_uplink(&[nic(NicMac::First, subnets)], UPLINK).unwrap();
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

#[test]
fn public_addresses_are_those_of_pods_without_the_vms_own() {
    let listed = subnet("10.1.0.0/24", Some("10.1.0.4"), &["10.1.0.5", "10.1.0.6"]);
    let public = vec![ip("10.1.0.4"), ip("10.1.0.6")];
    let pool = Pool::for_uplink(&[nic(NicMac::First, vec![Subnet { public, ..listed }])], UPLINK).unwrap();
    assert_eq!(pool.public, BTreeSet::from([ip("10.1.0.6")]));
}

#[test]
fn a_nic_of_both_families_makes_a_pool_of_both() {
    let subnets = vec![
        subnet("fd00:1::/64", Some("fd00:1::4"), &["fd00:1::5", "fd00:1::6"]),
        subnet("10.1.0.0/24", Some("10.1.0.4"), &["10.1.0.5"]),
        subnet("fd00:2::/64", Some("fd00:2::4"), &[]),
    ];
    let pool = Pool::for_uplink(&[nic(NicMac::First, subnets)], UPLINK).unwrap();
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
    let pool = Pool::for_uplink(&[nic(NicMac::First, subnets)], UPLINK).unwrap();
    assert_eq!(pool.primary6, Some("fd00::4".parse().unwrap()));
    assert!(!pool.is_dual_stack());
}

#[test]
fn ipv6_alone_gives_no_pool() {
    let nic = nic(NicMac::First, vec![subnet("fd00::/64", Some("fd00::4"), &["fd00::5"])]);
    assert_eq!(Pool::for_uplink(&[nic], UPLINK), Err(PoolError::NoPrimary { nic: NicMac::First }));
}

#[test]
fn an_ipv6_subnet_has_a_router_anycast_address_and_no_broadcast() {
    let listed = ["fd00::", "fd00::1", "fd00::2", "fd00::ffff:ffff:ffff:ffff"];
    let subnets = vec![subnet("10.1.0.0/24", Some("10.1.0.4"), &[]), subnet("fd00::/64", Some("fd00::4"), &listed)];
    let pool = Pool::for_uplink(&[nic(NicMac::First, subnets)], UPLINK).unwrap();
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
        let pool = Pool::for_uplink(&[nic(NicMac::First, subnets.clone())], UPLINK).unwrap();

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
