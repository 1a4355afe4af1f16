//! Compares the leases of both families with two models of a single book. "Both or none" works on a copy of the model.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::lease::model_tests::{COOLDOWN_SECS, Model, any_choice};
use crate::lease::tests::id;

const ADDRESSES: u8 = 5;
const CONTAINERS: u32 = 7;

#[derive(Debug, Clone)]
enum Step {
    /// The choice of IPv4, and the requested IPv6 address, if any.
    Lease(u32, Choice<u8>, Option<u8>),
    Release(u32),
    Restore(u32, u8, Option<u8>),
    SetPool(BTreeSet<u8>, BTreeSet<u8>),
    SetPublic(BTreeSet<u8>),
    Wait(u64),
}

fn any_pool() -> impl Strategy<Value = BTreeSet<u8>> {
    proptest::collection::btree_set(0..ADDRESSES, 0..=usize::from(ADDRESSES))
}

fn any_step() -> impl Strategy<Value = Step> {
    let address = || 0..ADDRESSES;
    prop_oneof![
        8 => (0..CONTAINERS, any_choice(ADDRESSES), proptest::option::weighted(0.1, address()))
            .prop_map(|(container, v4, v6)| Step::Lease(container, v4, v6)),
        6 => (0..CONTAINERS).prop_map(Step::Release),
        1 => (0..CONTAINERS, address(), proptest::option::of(address())).prop_map(|(c, v4, v6)| Step::Restore(c, v4, v6)),
        1 => (any_pool(), any_pool()).prop_map(|(v4, v6)| Step::SetPool(v4, v6)),
        1 => any_pool().prop_map(Step::SetPublic),
        3 => (0..=COOLDOWN_SECS).prop_map(Step::Wait),
    ]
}

fn address_request(v4: Choice<u8>, v6: Option<u8>) -> AddressRequest {
    let asked4 = match v4 {
        Choice::This(number) => Some(IpAddr::V4(address4(number))),
        _ => None,
    };
    let requested6 = v6.map(|number| IpAddr::V6(address6(number)));
    AddressRequest { addresses: requested6.into_iter().chain(asked4).collect(), public: v4 == Choice::Public }
}

type Pair = (u8, Option<u8>);

#[derive(Clone)]
struct DualModel {
    v4: Model,
    v6: Model,
}

impl DualModel {
    fn held(&self, container: u32) -> Option<Pair> {
        self.v4.leases.get(&container).map(|v4| (*v4, self.v6.leases.get(&container).copied()))
    }

    /// Runs the change on a copy, which becomes the model only if all of it succeeds.
    fn all_or_nothing<T>(&mut self, change: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let mut copy = self.clone();
        let done = change(&mut copy)?;
        *self = copy;
        Some(done)
    }

    fn lease(&mut self, container: u32, choice: Choice<u8>, requested6: Option<u8>, now: u64) -> Option<Pair> {
        let had = self.held(container);
        self.all_or_nothing(|copy| {
            let v4 = copy.v4.lease(container, choice, now).ok()?;
            let choice6 = requested6.map_or(Choice::Any, Choice::This);
            let v6 = match had {
                Some((_, None)) if requested6.is_some() => return None,
                Some((_, None)) => None,
                None if copy.v6.pool.is_empty() && requested6.is_none() => None,
                _ => Some(copy.v6.lease(container, choice6, now).ok()?),
            };
            Some((v4, v6))
        })
    }

    fn restore(&mut self, container: u32, (v4, v6): Pair) -> bool {
        let restored = self.all_or_nothing(|copy| {
            let both = copy.v4.restore(container, v4) && v6.is_none_or(|v6| copy.v6.restore(container, v6));
            both.then_some(())
        });
        restored.is_some()
    }

    fn set_pool(&mut self, v4: BTreeSet<u8>, v6: BTreeSet<u8>) {
        (self.v4.pool, self.v6.pool) = (v4, v6);
    }
}

fn address4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

fn address6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into())
}

fn addresses((v4, v6): Pair) -> Addresses {
    Addresses { v4: address4(v4), v6: v6.map(address6) }
}

fn pool_of<'a>(v4: &'a BTreeSet<u8>, v6: &'a BTreeSet<u8>) -> impl Iterator<Item = IpAddr> + 'a {
    let v6 = v6.iter().map(|number| IpAddr::V6(address6(*number)));
    v4.iter().map(|number| IpAddr::V4(address4(*number))).chain(v6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn in_any_interleaving_a_pod_has_what_the_pool_has_or_nothing(
        reuse_cooling: bool,
        pool in (any_pool(), any_pool()),
        steps in proptest::collection::vec(any_step(), 1..80),
    ) {
        let mut leases = Leases::new(Duration::from_secs(COOLDOWN_SECS), reuse_cooling);
        leases.set_pool(pool_of(&pool.0, &pool.1));
        let (v4, v6) = pool;
        let mut model = DualModel { v4: Model::new(reuse_cooling, v4), v6: Model::new(reuse_cooling, v6) };
        let mut now_secs = 0;

        for step in steps {
            let now = Duration::from_secs(now_secs);
            match step {
                Step::Lease(container, v4, v6) => {
                    let expected = model.lease(container, v4, v6, now_secs).map(addresses);
                    prop_assert_eq!(leases.lease(&id(container), &address_request(v4, v6), now).ok(), expected);
                }
                Step::Release(container) => {
                    let expected = model.held(container).map(addresses);
                    model.v4.release(container, now_secs);
                    model.v6.release(container, now_secs);
                    prop_assert_eq!(leases.release(&id(container), now), expected);
                }
                Step::Restore(container, v4, v6) => {
                    let restored = leases.restore(&id(container), addresses((v4, v6))).is_ok();
                    prop_assert_eq!(restored, model.restore(container, (v4, v6)));
                }
                Step::SetPool(v4, v6) => {
                    leases.set_pool(pool_of(&v4, &v6));
                    model.set_pool(v4, v6);
                }
                Step::SetPublic(public) => {
                    leases.set_public(&public.iter().map(|number| IpAddr::V4(address4(*number))).collect());
                    model.v4.public = public;
                }
                Step::Wait(secs) => now_secs += secs,
            }

            let counts = leases.counts(Duration::from_secs(now_secs));
            prop_assert_eq!(counts.v4, model.v4.counts(now_secs));
            prop_assert_eq!(counts.v6.unwrap_or_default(), model.v6.counts(now_secs));
            for container in 0..CONTAINERS {
                prop_assert_eq!(leases.lease_of(&id(container)), model.held(container).map(addresses));
            }
        }
    }
}
