//! Removes expired entries, a piece of the tables at a time. The programs check expiry themselves: sweeping gives memory and
//! ports back, and decides nothing.
//!
//! One step reads at most a sixteenth of each table, and the pause between steps shrinks as the tables fill. A full pass
//! takes half a minute if there is room, and a second if there is none.

use std::collections::HashSet;
use std::time::Duration;

use aya::Pod;
use azure_cni_common::endpoint::Slot;
use azure_cni_common::family::{Ipv4, Ipv6};
use azure_cni_common::flow::{Flow, FlowKey, Nat};
use azure_cni_common::lifetime::NS_PER_SEC;
use azure_cni_common::nat::{NatHolder, NatKey};

use crate::batch::Cursor;
use crate::error::DatapathError;
use crate::family::FamilyTables;
use crate::map::MapAddress;
use crate::pod_flows::PodCensus;
use crate::table::{NatTable, Table};
use crate::tables::Tables;

/// An entry is swept this long after it expired, so that a packet that renews it at this moment does not lose it.
const GRACE_NS: u64 = 5 * NS_PER_SEC;

/// Which of the tables of flows is the connection table, whose flows are counted by pod.
const ASSURED: usize = 0;

/// Steps that a pass over a large table takes.
const STEPS: u64 = 16;
/// The least entries of a step: below, the system calls cost more than the reading.
const FEWEST: u64 = 1024;

/// What a step has removed, and how full the tables are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SweepReport {
    pub removed_flows: usize,
    /// Those of removed flows, and those whose flow was gone.
    pub removed_translations: usize,
    /// How full the fullest table was in the last full pass, between 0 and 1.
    pub fill: f64,
}

impl SweepReport {
    /// How long to wait before the next step.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(match self.fill {
            fill if fill >= 0.9 => 50,
            fill if fill >= 0.75 => 250,
            fill if fill >= 0.5 => 1000,
            _ => 2000,
        })
    }
}

/// How far the sweep has come, table by table.
#[derive(Debug, Default)]
pub struct Sweeper {
    v4: FamilyProgress<Ipv4>,
    v6: FamilyProgress<Ipv6>,
}

#[derive(Debug)]
struct FamilyProgress<A> {
    flows: [Progress; 3],
    /// Of the connection table, in the pass that is going on.
    census: PodCensus<A>,
    translations: [Progress; 2],
    /// Translations that had no flow at the last step. A translation is made a moment before its flow, so it is removed only
    /// if it has none at two steps.
    suspects: [HashSet<NatKey<A>>; 2],
}

impl<A> Default for FamilyProgress<A> {
    fn default() -> Self {
        Self {
            flows: Default::default(),
            census: PodCensus::default(),
            translations: Default::default(),
            suspects: Default::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Progress {
    cursor: Cursor,
    /// Entries read since the pass began.
    read: u64,
    /// Entries of the pass before.
    used: u64,
}

impl Progress {
    /// Reads the next piece of the table.
    fn advance<K: Pod, V: Pod>(&mut self, table: &Table<K, V>) -> Result<Vec<(K, V)>, DatapathError> {
        let wanted = (self.used.max(self.read) / STEPS).max(FEWEST);
        let piece = table.piece(self.cursor, wanted as usize)?;
        self.read += piece.entries.len() as u64;
        match piece.next {
            Some(next) => self.cursor = next,
            None => *self = Self { cursor: Cursor::default(), read: 0, used: self.read },
        }
        Ok(piece.entries)
    }

    fn is_at_beginning(&self) -> bool {
        self.read == 0
    }

    fn fill<K, V>(&self, table: &Table<K, V>) -> f64 {
        self.used.max(self.read) as f64 / f64::from(table.max.max(1))
    }
}

impl Tables {
    /// One step. `now_ns` is CLOCK_MONOTONIC, which neither steps nor counts the time that the machine is suspended.
    pub fn sweep(&self, sweeper: &mut Sweeper, now_ns: u64) -> Result<SweepReport, DatapathError> {
        let mut report = SweepReport::default();
        self.v4.sweep(&mut sweeper.v4, now_ns, &mut report)?;
        self.v6.sweep(&mut sweeper.v6, now_ns, &mut report)?;
        Ok(report)
    }
}

impl<A: MapAddress + std::hash::Hash> FamilyTables<A>
where
    FlowKey<A>: Pod,
    NatKey<A>: Pod,
    NatHolder<A>: Pod,
    Slot<A>: Pod,
{
    fn sweep(
        &self,
        progress: &mut FamilyProgress<A>,
        now_ns: u64,
        report: &mut SweepReport,
    ) -> Result<(), DatapathError> {
        let expired = |flow: &Flow| flow.expires_ns.saturating_add(GRACE_NS) < now_ns;
        for (index, (flows, place)) in self.flows.iter().zip(&mut progress.flows).enumerate() {
            let are_counted = index == ASSURED;
            if are_counted && place.is_at_beginning() {
                progress.census = PodCensus::begin(&self.pod_flows)?;
            }
            for (key, flow) in place.advance(flows)? {
                if are_counted {
                    progress.census.add(*key.address_of(flow.node_side()));
                }
                // Read again: the piece may be some milliseconds old.
                if expired(&flow) && flows.get(&key)?.is_some_and(|flow| expired(&flow)) {
                    if are_counted {
                        self.remove_assured(&key, &flow)?;
                    } else {
                        flows.remove(&key)?;
                    }
                    report.removed_flows += 1;
                    report.removed_translations += self.remove_translation_of(&key, &flow)?;
                }
            }
            if are_counted && place.is_at_beginning() {
                std::mem::take(&mut progress.census).finish(&self.pod_flows)?;
            }
            report.fill = report.fill.max(place.fill(flows));
        }
        for (index, translations) in self.translations.iter().enumerate() {
            let suspects = std::mem::take(&mut progress.suspects[index]);
            report.removed_translations += self.remove_orphans(translations, suspects)?;
            let place = &mut progress.translations[index];
            for (key, holder) in place.advance(translations)? {
                if self.is_orphan(&key, &holder)? {
                    progress.suspects[index].insert(key);
                }
            }
            report.fill = report.fill.max(place.fill(translations));
        }
        Ok(())
    }

    /// Removes the translation of a flow, so that its port is free.
    fn remove_translation_of(&self, key: &FlowKey<A>, flow: &Flow) -> Result<usize, DatapathError> {
        if flow.nat != Nat::TRANSLATED {
            return Ok(0);
        }
        let sent = key.tuple_from(flow.initiator);
        let held = NatKey::for_outgoing(&sent, self.node, flow.nat_port);
        let mut removed = 0;
        for translations in &self.translations {
            let ours = NatHolder::new(sent.source, sent.source_port, 0);
            if translations.get(&held)?.is_some_and(|holder| holder.is_same(&ours)) {
                translations.remove(&held)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn remove_orphans(&self, translations: &NatTable<A>, suspects: HashSet<NatKey<A>>) -> Result<usize, DatapathError> {
        let mut removed = 0;
        for key in suspects {
            let Some(holder) = translations.get(&key)? else { continue };
            if self.is_orphan(&key, &holder)? {
                translations.remove(&key)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Whether no flow, assured or half-open, holds the port.
    fn is_orphan(&self, key: &NatKey<A>, holder: &NatHolder<A>) -> Result<bool, DatapathError> {
        let (flow_key, initiator) = FlowKey::of(&holder.initiator_tuple(key));
        for flows in &self.flows {
            if flows.get(&flow_key)?.is_some_and(|flow| flow.initiator == initiator && flow.holds_port(key.node_port)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
