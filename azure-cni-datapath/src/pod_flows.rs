//! How many assured flows each pod has, and the census that finds out what was counted wrongly.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Mutex;

use aya::maps::{HashMap as BpfHashMap, Map, MapData};
use aya::sys::SyscallError;
use azure_cni_common::pod_flows::{Census, PodFlows};

use crate::error::DatapathError;
use crate::map::{MapAddress, absent_is_none, in_map, lock, open};
use crate::names::Names;
use crate::pins::Pins;

/// `BPF_NOEXIST` (include/uapi/linux/bpf.h).
const NOEXIST: u64 = 1;

/// What the programs have counted, and how many flows the agent has removed.
type Counts = (PodFlows, u64);

/// The two maps of one family.
pub(crate) struct PodFlowCounts<A> {
    names: Names,
    flows: Mutex<BpfHashMap<MapData, A, PodFlows>>,
    swept: Mutex<BpfHashMap<MapData, A, u64>>,
}

impl<A: MapAddress + Hash> PodFlowCounts<A> {
    pub fn open(pins: &Pins, names: Names) -> Result<Self, DatapathError> {
        Ok(Self {
            names,
            flows: Mutex::new(open(pins, names.pod_flows, Map::HashMap)?),
            swept: Mutex::new(open(pins, names.pods_swept, Map::HashMap)?),
        })
    }

    /// From now on the pod's flows are counted. Those of a pod that is known are counted on.
    pub fn begin(&self, pod: A) -> Result<(), DatapathError> {
        match lock(&self.flows).insert(pod, PodFlows::default(), NOEXIST) {
            Err(aya::maps::MapError::SyscallError(SyscallError { io_error, .. }))
                if io_error.raw_os_error() == Some(libc::EEXIST) =>
            {
                Ok(())
            }
            result => {
                result.map_err(in_map(self.names.pod_flows))?;
                lock(&self.swept).insert(pod, 0, 0).map_err(in_map(self.names.pods_swept))
            }
        }
    }

    /// Succeeds if the pod is not known.
    pub fn end(&self, pod: A) -> Result<(), DatapathError> {
        absent_is_none(lock(&self.flows).remove(&pod)).map_err(in_map(self.names.pod_flows))?;
        absent_is_none(lock(&self.swept).remove(&pod)).map(drop).map_err(in_map(self.names.pods_swept))
    }

    /// A flow of the pod was removed by the agent.
    pub fn add_swept(&self, pod: A) -> Result<(), DatapathError> {
        let mut swept = lock(&self.swept);
        let Some(before) = absent_is_none(swept.get(&pod, 0)).map_err(in_map(self.names.pods_swept))? else {
            return Ok(());
        };
        swept.insert(pod, before.wrapping_add(1), 0).map_err(in_map(self.names.pods_swept))
    }

    /// How many flows each pod has.
    pub fn live(&self) -> Result<BTreeMap<A, u64>, DatapathError> {
        Ok(self.all()?.into_iter().map(|(pod, (flows, swept))| (pod, flows.live(swept))).collect())
    }

    fn all(&self) -> Result<Vec<(A, Counts)>, DatapathError> {
        let flows = lock(&self.flows).iter().collect::<Result<Vec<_>, _>>().map_err(in_map(self.names.pod_flows))?;
        let swept = lock(&self.swept);
        flows
            .into_iter()
            .map(|(pod, flows)| {
                let swept = absent_is_none(swept.get(&pod, 0)).map_err(in_map(self.names.pods_swept))?;
                Ok((pod, (flows, swept.unwrap_or(0))))
            })
            .collect()
    }

    /// Writes what the census has found.
    fn correct(&self, pod: A, swept: u64) -> Result<(), DatapathError> {
        lock(&self.swept).insert(pod, swept, 0).map_err(in_map(self.names.pods_swept))
    }
}

/// The pods' flows, counted while the table is read a piece at a time.
#[derive(Debug)]
pub(crate) struct PodCensus<A> {
    pods: HashMap<A, (Counts, Census)>,
}

impl<A> Default for PodCensus<A> {
    fn default() -> Self {
        Self { pods: HashMap::new() }
    }
}

impl<A: MapAddress + Hash> PodCensus<A> {
    pub fn begin(counts: &PodFlowCounts<A>) -> Result<Self, DatapathError> {
        let pods = counts.all()?.into_iter().map(|(pod, before)| (pod, (before, Census::default()))).collect();
        Ok(Self { pods })
    }

    /// The table has a flow of this pod.
    pub fn add(&mut self, pod: A) {
        if let Some((_, census)) = self.pods.get_mut(&pod) {
            census.counted += 1;
        }
    }

    /// All of the table was read. A pod that began anew in between is left for the next census.
    pub fn finish(self, counts: &PodFlowCounts<A>) -> Result<(), DatapathError> {
        for (pod, after) in counts.all()? {
            let Some((before, census)) = self.pods.get(&pod) else { continue };
            let (flows, swept) = after;
            let has_begun_anew = flows.promoted < before.0.promoted || flows.removed < before.0.removed;
            let right = census.correct(*before, after);
            if right != swept && !has_begun_anew {
                counts.correct(pod, right)?;
            }
        }
        Ok(())
    }
}
