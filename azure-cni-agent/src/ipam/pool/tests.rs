use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::cni::AttachmentId;
use crate::ipam::{LeaseBook, LeaseError};

const UPLINK: MacAddress = MacAddress([0, 0x0d, 0x3a, 0, 0, 1]);

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn subnet(prefix: &str, primary: Option<&str>, secondaries: &[&str]) -> Subnet {
    Subnet {
        prefix: prefix.parse().unwrap(),
        primary: primary.map(ip),
        secondaries: secondaries.iter().map(|text| ip(text)).collect(),
    }
}

fn nic(mac: NicMac, subnets: Vec<Subnet>) -> Nic {
    Nic { mac, primary: true, subnets, ipv6_prefixes: vec![] }
}

#[test]
fn the_uplink_s_own_entry_wins_over_the_first_nic_s() {
    let other = nic(NicMac::Exact(MacAddress([2; 6])), vec![subnet("10.9.0.0/24", Some("10.9.0.4"), &[])]);
    let first = nic(NicMac::First, vec![subnet("10.1.0.0/24", Some("10.1.0.4"), &[])]);
    let exact = nic(NicMac::Exact(UPLINK), vec![subnet("10.2.0.0/24", Some("10.2.0.4"), &[])]);

    let of = |nics: &[Nic]| Pool::for_uplink(nics, UPLINK).map(|pool| pool.primary);
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
    assert_eq!(pool.primary, ip("10.2.0.4"));
    assert_eq!(pool.primaries().collect::<Vec<_>>(), [ip("10.2.0.4")]);
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

/// A subnet of up to 64 addresses of which any are listed, the reserved ones too.
fn any_subnet(third_octet: u8) -> impl Strategy<Value = Subnet> {
    (26u8..=30, proptest::collection::btree_set(0u32..64, 0..64)).prop_map(move |(length, hosts)| {
        let prefix = Ipv4Net::new(Ipv4Addr::new(10, 0, third_octet, 0), length).unwrap();
        let in_prefix = hosts.into_iter().filter(|host| *host <= prefix.hostmask().to_bits());
        let mut addresses: Vec<_> =
            in_prefix.map(|host| Ipv4Addr::from_bits(prefix.network().to_bits() | host)).collect();
        let primary = addresses.pop();
        Subnet { prefix, primary, secondaries: addresses }
    })
}

proptest! {
    #[test]
    fn pods_get_every_listed_address_but_the_reserved_ones(a in any_subnet(0), b in any_subnet(1)) {
        let subnets = vec![a, b];
        prop_assume!(subnets.iter().any(|subnet| subnet.primary.is_some()));
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
            match book.lease(&id, Duration::ZERO) {
                Ok(address) => prop_assert!(leased.insert(address), "{} leased twice", address),
                Err(LeaseError::Empty | LeaseError::Exhausted { .. }) => break,
                Err(error) => prop_assert!(false, "{}", error),
            }
        }

        let expected: BTreeSet<_> = subnets.iter().flat_map(|subnet| {
            let (network, broadcast) = (subnet.prefix.network(), subnet.prefix.broadcast());
            let gateway = Ipv4Addr::from_bits(network.to_bits() + 1);
            let reserved = [Some(network), Some(broadcast), Some(gateway), subnet.primary];
            subnet.secondaries.iter().copied().filter(move |address| !reserved.contains(&Some(*address)))
        }).collect();
        prop_assert_eq!(&leased, &expected);
        let listed: usize = subnets.iter().map(|subnet| subnet.secondaries.len()).sum();
        prop_assert_eq!(leased.len() + pool.withheld.len(), listed);
    }
}
