use std::cell::Cell;
use std::cmp::Ordering;
use std::net::Ipv4Addr;

use super::*;

const COOLDOWN: Duration = Duration::from_secs(30);

pub(crate) fn id(container: u32) -> AttachmentId {
    AttachmentId {
        network: "azure".parse().unwrap(),
        container_id: format!("c{container}").parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 240, 0, last)
}

fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn book(last: impl IntoIterator<Item = u8>) -> LeaseBook<Ipv4Addr> {
    let mut book = LeaseBook::new(COOLDOWN);
    book.set_pool(last.into_iter().map(ip));
    book
}

#[test]
fn the_same_attachment_gets_the_same_address() {
    let mut book = book([5, 6]);
    let first = book.lease(&id(1), Choice::Any, at(0)).unwrap();
    assert_eq!(book.lease(&id(1), Choice::Any, at(99)), Ok(first));
    assert_eq!(book.lease_of(&id(1)), Some(first));
    assert_eq!(book.holder(first), Some(&id(1)));
    assert_eq!(book.counts(at(0)), Counts { total: 2, free: 1, leased: 1, cooling: 0 });
}

#[test]
fn interfaces_of_one_container_are_different_attachments() {
    let mut book = book([5, 6]);
    let second = AttachmentId { ifname: "net1".parse().unwrap(), ..id(1) };
    assert_ne!(book.lease(&id(1), Choice::Any, at(0)), book.lease(&second, Choice::Any, at(0)));
}

#[test]
fn the_address_idle_for_longest_goes_first() {
    let mut book = book([5, 6, 7]);
    for container in 1..=3 {
        book.lease(&id(container), Choice::Any, at(0)).unwrap();
    }
    assert_eq!(book.release(&id(2), at(10)), Some(ip(6)));
    assert_eq!(book.release(&id(1), at(11)), Some(ip(5)));
    assert_eq!(book.lease(&id(4), Choice::Any, at(100)), Ok(ip(6)));
    assert_eq!(book.release(&id(3), at(101)), Some(ip(7)));
    assert_eq!(book.lease(&id(5), Choice::Any, at(200)), Ok(ip(5)));
    // A new address that was never used counts as idle for longest.
    book.set_pool([5, 6, 7, 8].map(ip));
    assert_eq!(book.lease(&id(6), Choice::Any, at(300)), Ok(ip(8)));
    assert_eq!(book.lease(&id(7), Choice::Any, at(300)), Ok(ip(7)));
}

#[test]
fn a_released_address_cools_down_and_the_error_says_for_how_long() {
    let mut book = book([5]);
    book.lease(&id(1), Choice::Any, at(0)).unwrap();
    assert_eq!(book.lease(&id(2), Choice::Any, at(1)), Err(LeaseError::Exhausted { leased: 1 }));
    book.release(&id(1), at(100));
    assert_eq!(book.counts(at(129)), Counts { total: 1, free: 0, leased: 0, cooling: 1 });

    let error = book.lease(&id(2), Choice::Any, at(100) + Duration::from_millis(500)).unwrap_err();
    assert_eq!(error, LeaseError::Cooling { cooling: 1, retry_in: Duration::from_millis(29_500) });
    assert!(error.to_string().ends_with("try again in 30 s"), "{error}");
    assert!(book.lease(&id(2), Choice::Any, at(129)).unwrap_err().to_string().ends_with("try again in 1 s"));

    assert_eq!(book.counts(at(130)), Counts { total: 1, free: 1, leased: 0, cooling: 0 });
    assert_eq!(book.lease(&id(2), Choice::Any, at(130)), Ok(ip(5)));
}

#[test]
fn a_cooling_address_waits_while_another_is_free() {
    let mut book = book([5, 6]);
    book.lease(&id(1), Choice::Any, at(0)).unwrap();
    book.release(&id(1), at(1));
    assert_eq!(book.lease(&id(2), Choice::Any, at(2)), Ok(ip(6)));
}

#[test]
fn the_oldest_cooling_address_is_reused_if_so_configured() {
    let mut book = book([5, 6]).with_reuse_cooling(true);
    book.lease(&id(1), Choice::Any, at(0)).unwrap();
    book.lease(&id(2), Choice::Any, at(0)).unwrap();
    book.release(&id(2), at(1));
    book.release(&id(1), at(2));
    assert_eq!(book.lease(&id(3), Choice::Any, at(2)), Ok(ip(6)));
    assert_eq!(book.lease(&id(4), Choice::Any, at(2)), Ok(ip(5)));
    assert_eq!(book.lease(&id(5), Choice::Any, at(2)), Err(LeaseError::Exhausted { leased: 2 }));
}

#[test]
fn without_cool_down_a_released_address_is_free_at_once() {
    let mut book = LeaseBook::new(Duration::ZERO);
    book.set_pool([ip(5)]);
    book.lease(&id(1), Choice::Any, at(7)).unwrap();
    book.release(&id(1), at(7));
    assert_eq!(book.lease(&id(2), Choice::Any, at(7)), Ok(ip(5)));
}

#[test]
fn an_address_that_vanishes_while_free_is_dropped_at_once() {
    let mut book = book([5, 6]);
    book.set_pool([ip(6)]);
    assert_eq!(book.counts(at(0)).total, 1);
    assert_eq!(book.lease(&id(1), Choice::Any, at(0)), Ok(ip(6)));
    book.set_pool([]);
    book.release(&id(1), at(0));
    assert_eq!(book.lease(&id(1), Choice::Any, at(99)), Err(LeaseError::Empty));
}

#[test]
fn an_address_that_vanishes_while_held_is_its_holder_s_until_released() {
    let mut book = book([5]);
    book.lease(&id(1), Choice::Any, at(0)).unwrap();
    book.set_pool([ip(6)]);
    assert_eq!(book.lease(&id(1), Choice::Any, at(1)), Ok(ip(5)));
    assert_eq!(book.counts(at(1)), Counts { total: 2, free: 1, leased: 1, cooling: 0 });
    assert_eq!(book.release(&id(1), at(2)), Some(ip(5)));
    assert_eq!(book.counts(at(2)), Counts { total: 1, free: 1, leased: 0, cooling: 0 });
}

#[test]
fn an_address_that_comes_back_while_held_stays_in_the_pool() {
    let mut book = book([5]);
    book.lease(&id(1), Choice::Any, at(0)).unwrap();
    book.set_pool([]);
    book.set_pool([ip(5)]);
    book.release(&id(1), at(0));
    assert_eq!(book.lease(&id(2), Choice::Any, at(30)), Ok(ip(5)));
}

#[test]
fn releasing_an_address_that_is_not_held_changes_nothing() {
    let mut book = book([5]);
    assert_eq!(book.release(&id(1), at(0)), None);
    book.lease(&id(1), Choice::Any, at(0)).unwrap();
    assert_eq!(book.release(&id(1), at(0)), Some(ip(5)));
    assert_eq!(book.release(&id(1), at(50)), None);
    assert_eq!(book.lease(&id(2), Choice::Any, at(30)), Ok(ip(5)));
}

#[test]
fn leases_are_restored_before_or_after_the_pool_is_known() {
    let mut before = LeaseBook::new(COOLDOWN);
    before.restore(&id(1), ip(5)).unwrap();
    before.set_pool([5, 6].map(ip));
    let mut after = book([5, 6]);
    after.restore(&id(1), ip(5)).unwrap();
    for mut book in [before, after] {
        assert_eq!(book.holder(ip(5)), Some(&id(1)));
        assert_eq!(book.lease(&id(2), Choice::Any, at(0)), Ok(ip(6)));
        book.release(&id(1), at(0));
        assert_eq!(book.lease(&id(3), Choice::Any, at(30)), Ok(ip(5)));
    }
}

#[test]
fn an_address_released_in_an_earlier_run_cools_down_before_or_after_the_pool_is_known() {
    let mut before = LeaseBook::new(COOLDOWN);
    before.restore_released(ip(5), at(90));
    before.set_pool([5, 6].map(ip));
    let mut after = book([5, 6]);
    after.restore_released(ip(5), at(90));
    for mut book in [before, after] {
        assert_eq!(book.counts(at(119)), Counts { total: 2, free: 1, leased: 0, cooling: 1 });
        assert_eq!(book.lease(&id(1), Choice::Any, at(119)), Ok(ip(6)));
        assert_eq!(book.lease(&id(2), Choice::Any, at(120)), Ok(ip(5)));
        book.restore_released(ip(5), at(121));
        assert_eq!(book.holder(ip(5)), Some(&id(2)));
    }
}

#[test]
fn contradicting_leases_are_not_restored() {
    let mut book = book([5, 6]);
    book.restore(&id(1), ip(5)).unwrap();
    assert_eq!(book.restore(&id(1), ip(5)), Ok(()));
    assert_eq!(book.restore(&id(2), ip(5)), Err(RestoreError::AddressHeld { address: ip(5), holder: id(1) }));
    assert_eq!(book.restore(&id(1), ip(6)), Err(RestoreError::OtherAddress { id: id(1), address: ip(5) }));
    assert_eq!(book.lease(&id(2), Choice::Any, at(0)), Ok(ip(6)));
}

#[test]
fn a_clock_that_steps_back_or_a_cool_down_without_end_only_makes_addresses_wait() {
    let mut book = LeaseBook::new(Duration::MAX);
    book.set_pool([ip(5)]);
    book.lease(&id(1), Choice::Any, at(10)).unwrap();
    book.release(&id(1), at(10));
    assert!(matches!(book.lease(&id(2), Choice::Any, at(9)), Err(LeaseError::Cooling { .. })));
}

thread_local!(static COMPARISONS: Cell<u64> = const { Cell::new(0) });

/// An address that counts how often it is compared.
#[derive(Debug, Clone, Copy)]
struct Counting(u32);

impl Display for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.0, f)
    }
}

impl Ord for Counting {
    fn cmp(&self, other: &Self) -> Ordering {
        COMPARISONS.set(COMPARISONS.get() + 1);
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Counting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Counting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Counting {}

impl Hash for Counting {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        COMPARISONS.set(COMPARISONS.get() + 1);
        self.0.hash(state);
    }
}

#[test]
fn leasing_and_releasing_compare_few_addresses_in_a_pool_of_any_size() {
    let mut book = LeaseBook::new(Duration::ZERO);
    book.set_pool((0..16_000).map(Counting));
    let mut worst = 0;
    // Goes through the pool twice, so that the tree is in every state.
    for container in 0..20_000 {
        COMPARISONS.set(0);
        book.lease(&id(container), Choice::Any, at(0)).unwrap();
        book.release(&id(container), at(0)).unwrap();
        worst = worst.max(COMPARISONS.get());
    }
    assert!(worst < 200, "{worst} addresses compared for one lease and its release");
}

#[test]
fn a_requested_address_is_leased_or_refused_with_its_own_reason() {
    let mut book = book([5, 6, 7]);
    let this = |last| Choice::This(ip(last));
    assert_eq!(book.lease(&id(1), this(6), at(0)), Ok(ip(6)));
    assert_eq!(book.lease(&id(1), this(6), at(0)), Ok(ip(6)));
    let mut refusals = vec![
        (book.lease(&id(2), this(9), at(0)), LeaseError::NotInPool { address: ip(9) }, false),
        (book.lease(&id(2), this(6), at(0)), LeaseError::Held { address: ip(6), holder: id(1) }, true),
        (book.lease(&id(1), this(7), at(0)), LeaseError::HoldsAnother { held: ip(6), requested: ip(7) }, false),
    ];
    book.release(&id(1), at(100));
    let retry_in = Duration::from_secs(29);
    refusals.push((
        book.lease(&id(2), this(6), at(101)),
        LeaseError::AddressCooling { address: ip(6), retry_in },
        true,
    ));
    for (given, expected, retry_helps) in refusals {
        assert_eq!(given, Err(expected.clone()));
        assert_eq!(expected.retry_helps(), retry_helps, "{expected}");
        assert!(expected.to_string().contains("10.240.0."), "{expected}");
    }
    // None of the refusals has taken or changed anything.
    assert_eq!(book.counts(at(101)), Counts { total: 3, free: 2, leased: 0, cooling: 1 });
    assert_eq!(book.lease(&id(2), this(6), at(130)), Ok(ip(6)));
}

#[test]
fn a_requested_address_that_cools_down_is_leased_if_reuse_is_configured() {
    let mut book = book([5, 6]).with_reuse_cooling(true);
    book.lease(&id(1), Choice::This(ip(5)), at(0)).unwrap();
    book.release(&id(1), at(1));
    assert_eq!(book.lease(&id(2), Choice::Any, at(2)), Ok(ip(6)));
    assert_eq!(book.lease(&id(3), Choice::This(ip(5)), at(2)), Ok(ip(5)));
}

#[test]
fn addresses_with_a_public_one_are_for_pods_that_request_one_and_come_last_for_others() {
    let mut book = book([5, 6, 7]);
    assert_eq!(book.lease(&id(9), Choice::Public, at(0)), Err(LeaseError::NoPublic));
    book.set_public([ip(5), ip(8)]);
    assert_eq!(book.lease(&id(1), Choice::Any, at(0)), Ok(ip(6)));
    assert_eq!(book.lease(&id(1), Choice::Public, at(0)), Err(LeaseError::HoldsNoPublic { held: ip(6) }));
    assert_eq!(book.lease(&id(2), Choice::Public, at(0)), Ok(ip(5)));
    assert_eq!(book.lease(&id(3), Choice::Public, at(0)), Err(LeaseError::PublicExhausted));
    book.release(&id(2), at(10));
    let cooling = LeaseError::Cooling { cooling: 1, retry_in: Duration::from_secs(29) };
    assert_eq!(book.lease(&id(3), Choice::Public, at(11)), Err(cooling));
    // Another is still free, and one that has a public address is better than none.
    assert_eq!(book.lease(&id(4), Choice::Any, at(11)), Ok(ip(7)));
    assert_eq!(book.lease(&id(5), Choice::Any, at(40)), Ok(ip(5)));
}
