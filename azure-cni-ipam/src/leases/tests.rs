use super::*;
use crate::lease::tests::id;

const NOW: Duration = Duration::from_secs(100);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn leases(pool: &[&str]) -> Leases {
    let mut leases = Leases::new(Duration::from_secs(30), false);
    leases.set_pool(pool.iter().map(|text| ip(text)));
    leases
}

fn both(v4: &str, v6: &str) -> Addresses {
    Addresses { v4: v4.parse().unwrap(), v6: Some(v6.parse().unwrap()) }
}

#[test]
fn a_pod_gets_one_address_of_each_family_the_pool_has() {
    let mut dual = leases(&["10.0.0.5", "fd00::5"]);
    assert_eq!(dual.lease(&id(1), &AddressRequest::default(), NOW), Ok(both("10.0.0.5", "fd00::5")));
    assert_eq!(dual.lease(&id(1), &AddressRequest::default(), NOW), Ok(both("10.0.0.5", "fd00::5")));
    assert_eq!(dual.release(&id(1), NOW), Some(both("10.0.0.5", "fd00::5")));
    assert_eq!(dual.lease_of(&id(1)), None);

    let mut single = leases(&["10.0.0.5"]);
    assert_eq!(
        single.lease(&id(1), &AddressRequest::default(), NOW),
        Ok(Addresses { v6: None, ..both("10.0.0.5", "::1") })
    );
    assert_eq!(single.counts(NOW).v6, None);
}

#[test]
fn a_pod_that_cannot_have_both_holds_none_and_the_error_names_the_family() {
    let mut few6 = leases(&["10.0.0.5", "10.0.0.6", "fd00::5"]);
    few6.lease(&id(1), &AddressRequest::default(), NOW).unwrap();
    let error = few6.lease(&id(2), &AddressRequest::default(), NOW).unwrap_err();
    assert_eq!(error, NoAddress { family: "IPv6", source: LeaseError::Exhausted { leased: 1 } });
    assert_eq!(error.to_string(), "no IPv6 address for the pod: all 1 addresses of the pool are in use");
    // Free, not cooling down: no pod has had it.
    assert_eq!(few6.counts(NOW).v4, Counts { total: 2, free: 1, leased: 1, cooling: 0 });
    assert_eq!(few6.lease_of(&id(2)), None);

    let mut few4 = leases(&["10.0.0.5", "fd00::5", "fd00::6"]);
    few4.lease(&id(1), &AddressRequest::default(), NOW).unwrap();
    assert_eq!(few4.lease(&id(2), &AddressRequest::default(), NOW).unwrap_err().family, "IPv4");
    assert_eq!(few4.counts(NOW).v6, Some(Counts { total: 2, free: 1, leased: 1, cooling: 0 }));
}

#[test]
fn a_pod_from_before_the_pool_had_ipv6_keeps_its_address_alone() {
    let mut leases = leases(&["10.0.0.5", "10.0.0.6", "fd00::5"]);
    let alone = Addresses { v6: None, ..both("10.0.0.5", "::1") };
    leases.restore(&id(1), alone).unwrap();
    assert_eq!(leases.lease(&id(1), &AddressRequest::default(), NOW), Ok(alone));
    assert_eq!(leases.lease(&id(2), &AddressRequest::default(), NOW), Ok(both("10.0.0.6", "fd00::5")));
}

#[test]
fn a_pool_that_loses_ipv6_still_serves_and_its_holders_keep_theirs() {
    let mut leases = leases(&["10.0.0.5", "10.0.0.6", "fd00::5"]);
    leases.lease(&id(1), &AddressRequest::default(), NOW).unwrap();
    leases.set_pool(["10.0.0.5", "10.0.0.6"].map(ip));
    assert_eq!(leases.lease_of(&id(1)), Some(both("10.0.0.5", "fd00::5")));
    assert_eq!(leases.lease(&id(2), &AddressRequest::default(), NOW).unwrap().v6, None);
    assert_eq!(leases.counts(NOW).v6.unwrap().leased, 1);
    leases.release(&id(1), NOW);
    assert_eq!(leases.counts(NOW).v6, None);
}

#[test]
fn a_contradiction_in_one_family_restores_neither() {
    let mut leases = leases(&["10.0.0.5", "10.0.0.6", "fd00::5"]);
    leases.restore(&id(1), both("10.0.0.5", "fd00::5")).unwrap();
    let error = leases.restore(&id(2), both("10.0.0.6", "fd00::5")).unwrap_err();
    assert!(error.to_string().contains("fd00::5 already belongs to"), "{error}");
    assert!(leases.restore(&id(2), both("10.0.0.5", "fd00::9")).is_err());
    assert_eq!(leases.lease_of(&id(2)), None);
    assert_eq!((leases.counts(NOW).v4.leased, leases.counts(NOW).v6.unwrap().leased), (1, 1));
}

#[test]
fn a_pool_whose_ipv6_addresses_are_all_withheld_gives_no_pod_ipv4_alone() {
    let mut leases = leases(&["10.0.0.5", "fd00::5"]);
    leases.set_leasable([ip("10.0.0.5")], true);
    let error = leases.lease(&id(1), &AddressRequest::default(), NOW).unwrap_err();
    assert_eq!((error.family, error.source.retry_helps()), ("IPv6", true));
    leases.set_leasable([ip("10.0.0.5"), ip("fd00::5")], true);
    assert_eq!(leases.lease(&id(1), &AddressRequest::default(), NOW), Ok(both("10.0.0.5", "fd00::5")));
}

fn address_request(addresses: &[&str]) -> AddressRequest {
    AddressRequest { addresses: addresses.iter().map(|text| ip(text)).collect(), public: false }
}

#[test]
fn a_request_for_one_family_leaves_the_other_to_the_pool() {
    let mut leases = leases(&["10.0.0.5", "10.0.0.6", "fd00::5", "fd00::6"]);
    assert_eq!(leases.lease(&id(1), &address_request(&["10.0.0.6"]), NOW), Ok(both("10.0.0.6", "fd00::5")));
    assert_eq!(leases.lease(&id(2), &address_request(&["fd00::6"]), NOW), Ok(both("10.0.0.5", "fd00::6")));
}

#[test]
fn a_request_that_fails_in_one_family_leaves_the_other_untouched() {
    let mut leases = leases(&["10.0.0.5", "10.0.0.6", "fd00::5"]);
    for (requested, family) in [
        (address_request(&["10.0.0.5", "fd00::9"]), "IPv6"),
        (address_request(&["10.0.0.9", "fd00::5"]), "IPv4"),
        (address_request(&["10.0.0.5", "10.0.0.6"]), "IPv4"),
        (address_request(&["fd00::5", "fd00::6"]), "IPv6"),
    ] {
        let error = leases.lease(&id(1), &requested, NOW).unwrap_err();
        assert_eq!((error.family, error.source.retry_helps()), (family, false), "{requested:?}: {error}");
        assert_eq!(leases.lease_of(&id(1)), None);
        assert_eq!(leases.counts(NOW).v4.free, 2);
        assert_eq!(leases.counts(NOW).v6.unwrap().free, 1);
    }
    // The same address twice counts as one request.
    assert_eq!(leases.lease(&id(1), &address_request(&["10.0.0.6", "10.0.0.6"]), NOW), Ok(both("10.0.0.6", "fd00::5")));
}

#[test]
fn an_attachment_that_requests_other_addresses_than_it_holds_is_refused_and_keeps_them() {
    let mut leases = leases(&["10.0.0.5", "10.0.0.6"]);
    let alone = Addresses { v6: None, ..both("10.0.0.5", "::1") };
    assert_eq!(leases.lease(&id(1), &address_request(&["10.0.0.5"]), NOW), Ok(alone));
    for requested in [
        address_request(&["10.0.0.6"]),
        address_request(&["fd00::5"]),
        AddressRequest { public: true, ..address_request(&[]) },
    ] {
        let error = leases.lease(&id(1), &requested, NOW).unwrap_err();
        assert!(!error.source.retry_helps(), "{error}");
        assert_eq!(leases.lease_of(&id(1)), Some(alone));
    }
    assert_eq!(leases.lease(&id(1), &AddressRequest::default(), NOW), Ok(alone));
}

#[test]
fn a_requested_address_must_be_public_if_the_pod_requests_that_too() {
    let mut leases = leases(&["10.0.0.5", "10.0.0.6"]);
    leases.set_public(&BTreeSet::from([ip("10.0.0.5")]));
    let error =
        leases.lease(&id(1), &AddressRequest { public: true, ..address_request(&["10.0.0.6"]) }, NOW).unwrap_err();
    assert_eq!(error.source, LeaseError::RequestedHasNoPublic { address: ip("10.0.0.6") });
    assert!(leases.lease(&id(1), &AddressRequest { public: true, ..address_request(&["10.0.0.5"]) }, NOW).is_ok());
}
