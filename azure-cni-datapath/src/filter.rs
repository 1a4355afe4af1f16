//! Our clsact filters: which place they have at an interface, and what it means who holds it. Pure.
//!
//! The kernel's netlink is read elsewhere. This file tells the reader where to look, and judges what it has found.

use std::collections::BTreeSet;
use std::fmt;

use crate::hook::Hook;

/// Where a filter stands at its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterPlace {
    /// Minor and major number as the kernel has them in one word.
    pub parent: u32,
    pub priority: u16,
    pub handle: u32,
}

impl Hook {
    /// The place of the hook's filter. It is constant, so that a later agent finds the filter again.
    pub const fn filter_place(self) -> FilterPlace {
        FilterPlace { parent: if self.is_ingress() { INGRESS } else { EGRESS }, priority: 1, handle: 0xac1 }
    }
}

/// include/uapi/linux/pkt_sched.h: TC_H_CLSACT with TC_H_MIN_INGRESS and TC_H_MIN_EGRESS.
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// The filter that was found at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterHolder {
    /// `None` if the filter is no eBPF program.
    pub program_id: Option<u32>,
    /// The name that the program was attached under; of other filters, their kind.
    pub name: String,
}

impl fmt::Display for FilterHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.program_id {
            Some(id) => write!(f, "program {id} ({})", self.name),
            None => write!(f, "a filter of kind {}", self.name),
        }
    }
}

/// How a hook stands at an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// The program that is loaded now runs.
    Current,
    /// A program of an earlier agent runs, alone or beside ours. It is to be replaced.
    Outdated,
    /// None of our programs runs, and the place is free.
    Missing,
    /// The place belongs to a filter of another owner. We neither replace nor remove that.
    Foreign(FilterHolder),
}

impl Attachment {
    /// Judges what holds the hook's place. `loaded`: the id of the program that is loaded now.
    ///
    /// The name tells programs of earlier agents from those of other owners: their ids are not known any more.
    pub fn by_filter(hook: Hook, loaded: u32, holder: Option<FilterHolder>) -> Self {
        match holder {
            None => Self::Missing,
            Some(holder) if holder.program_id == Some(loaded) => Self::Current,
            Some(holder) if holder.is_ours(hook) => Self::Outdated,
            Some(holder) => Self::Foreign(holder),
        }
    }

    /// Judges the programs of the hook's name that run by TCX, where programs of other owners are not in our way.
    pub(crate) fn by_links(loaded: u32, running: &BTreeSet<u32>) -> Self {
        match running.len() {
            0 => Self::Missing,
            1 if running.contains(&loaded) => Self::Current,
            _ => Self::Outdated,
        }
    }
}

impl FilterHolder {
    /// Whether this or an earlier agent attached it.
    pub fn is_ours(&self, hook: Hook) -> bool {
        self.program_id.is_some() && self.name == hook.program()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(program_id: Option<u32>, name: &str) -> FilterHolder {
        FilterHolder { program_id, name: name.to_owned() }
    }

    #[test]
    fn only_programs_of_ours_may_be_replaced() {
        let foreign =
            |program_id, name| (Some(holder(program_id, name)), Attachment::Foreign(holder(program_id, name)));
        for (found, wanted) in [
            (None, Attachment::Missing),
            (Some(holder(Some(7), "from_endpoint")), Attachment::Current),
            (Some(holder(Some(6), "from_endpoint")), Attachment::Outdated),
            foreign(Some(6), "watch_packets"),
            // The program of another hook is none that this agent attaches here.
            foreign(Some(6), "to_endpoint"),
            foreign(None, "from_endpoint"),
            foreign(None, "u32"),
        ] {
            assert_eq!(Attachment::by_filter(Hook::FromEndpoint, 7, found.clone()), wanted, "{found:?}");
        }
    }

    #[test]
    fn one_program_alone_is_current_where_links_allow_several() {
        for (running, wanted) in [
            (vec![], Attachment::Missing),
            (vec![7], Attachment::Current),
            (vec![6], Attachment::Outdated),
            (vec![6, 7], Attachment::Outdated),
        ] {
            assert_eq!(Attachment::by_links(7, &running.iter().copied().collect()), wanted, "{running:?}");
        }
    }

    #[test]
    fn each_direction_has_a_place_of_its_own() {
        assert_eq!(Hook::FromEndpoint.filter_place(), Hook::FromWire.filter_place());
        assert_ne!(Hook::FromEndpoint.filter_place(), Hook::ToEndpoint.filter_place());
    }

    #[test]
    fn the_holder_is_named_with_its_id() {
        assert_eq!(holder(Some(12), "watch_packets").to_string(), "program 12 (watch_packets)");
        assert_eq!(holder(None, "u32").to_string(), "a filter of kind u32");
    }
}
