//! The addresses that nobody holds, longest idle first; those with a public address of their own apart.
//!
//! Trees, as restoring takes addresses from their middle; the dozen or so comparisons it costs with 16,000 addresses are
//! nothing beside one netlink message.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;
use std::time::Duration;

/// Idle since then, `None` if not held since it was listed; and the address.
pub(super) type Waiting<A> = (Option<Duration>, A);

#[derive(Debug, Clone)]
pub(super) struct Idle<A> {
    public: HashSet<A>,
    with_public: BTreeSet<Waiting<A>>,
    without: BTreeSet<Waiting<A>>,
}

impl<A: Copy + Ord + Hash> Idle<A> {
    pub fn new() -> Self {
        Self { public: HashSet::new(), with_public: BTreeSet::new(), without: BTreeSet::new() }
    }

    /// Makes these the addresses that have a public one of their own.
    pub fn set_public(&mut self, public: HashSet<A>) {
        self.public = public;
        let all = std::mem::take(&mut self.with_public).into_iter().chain(std::mem::take(&mut self.without));
        (self.with_public, self.without) = all.partition(|(_, address)| self.public.contains(address));
    }

    pub fn public(&self) -> &HashSet<A> {
        &self.public
    }

    pub fn insert(&mut self, waiting: Waiting<A>) {
        self.tree_of(waiting.1).insert(waiting);
    }

    /// Whether it was there.
    pub fn remove(&mut self, waiting: Waiting<A>) -> bool {
        self.tree_of(waiting.1).remove(&waiting)
    }

    /// The one that has been idle for longest, of those that have a public address and of those that have none.
    pub fn longest(&self, public: bool) -> Option<Waiting<A>> {
        self.tree(public).first().copied()
    }

    /// How many there are that have a public address, or that have none.
    pub fn len(&self, public: bool) -> usize {
        self.tree(public).len()
    }

    /// How many there are at the end of either tree of which this holds.
    pub fn count_latest(&self, holds: impl Fn(Option<Duration>) -> bool) -> usize {
        let latest = |tree: &BTreeSet<Waiting<A>>| tree.iter().rev().take_while(|(since, _)| holds(*since)).count();
        latest(&self.with_public) + latest(&self.without)
    }

    fn tree(&self, public: bool) -> &BTreeSet<Waiting<A>> {
        if public { &self.with_public } else { &self.without }
    }

    fn tree_of(&mut self, address: A) -> &mut BTreeSet<Waiting<A>> {
        if self.public.contains(&address) { &mut self.with_public } else { &mut self.without }
    }
}
