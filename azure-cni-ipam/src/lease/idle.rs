//! The addresses that no attachment holds, longest idle first. Those with a public address have a tree of their own.
//!
//! They are trees because restoring a lease takes an address from the middle. With 16,000 addresses that costs a dozen
//! comparisons, far less than one netlink message.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;
use std::time::Duration;

/// Since when the address has been idle (`None`: never held since it was listed), and the address.
pub(super) type IdleSince<A> = (Option<Duration>, A);

#[derive(Debug, Clone)]
pub(super) struct Idle<A> {
    public: HashSet<A>,
    with_public: BTreeSet<IdleSince<A>>,
    without: BTreeSet<IdleSince<A>>,
}

impl<A: Copy + Ord + Hash> Idle<A> {
    pub fn new() -> Self {
        Self { public: HashSet::new(), with_public: BTreeSet::new(), without: BTreeSet::new() }
    }

    /// Replaces the set of addresses that have a public address of their own.
    pub fn set_public(&mut self, public: HashSet<A>) {
        self.public = public;
        let all = std::mem::take(&mut self.with_public).into_iter().chain(std::mem::take(&mut self.without));
        (self.with_public, self.without) = all.partition(|(_, address)| self.public.contains(address));
    }

    pub fn public(&self) -> &HashSet<A> {
        &self.public
    }

    pub fn insert(&mut self, entry: IdleSince<A>) {
        self.tree_of(entry.1).insert(entry);
    }

    /// True if the entry was there.
    pub fn remove(&mut self, entry: IdleSince<A>) -> bool {
        self.tree_of(entry.1).remove(&entry)
    }

    /// The address that has been idle for longest, of those with or without a public address.
    pub fn longest(&self, public: bool) -> Option<IdleSince<A>> {
        self.tree(public).first().copied()
    }

    /// The number of addresses with or without a public address.
    pub fn len(&self, public: bool) -> usize {
        self.tree(public).len()
    }

    /// The number of entries at the end of both trees for which `holds` is true.
    pub fn count_latest(&self, holds: impl Fn(Option<Duration>) -> bool) -> usize {
        let latest = |tree: &BTreeSet<IdleSince<A>>| tree.iter().rev().take_while(|(since, _)| holds(*since)).count();
        latest(&self.with_public) + latest(&self.without)
    }

    fn tree(&self, public: bool) -> &BTreeSet<IdleSince<A>> {
        if public { &self.with_public } else { &self.without }
    }

    fn tree_of(&mut self, address: A) -> &mut BTreeSet<IdleSince<A>> {
        if self.public.contains(&address) { &mut self.with_public } else { &mut self.without }
    }
}
