//! The cost of the eBPF programs alone: nanoseconds per packet under BPF_PROG_TEST_RUN.
//!
//! Each case is a packet that a program may see again and again: every run takes one from its hop limit. The kernel's own
//! share of a packet's way (redirects, queues) is not in these figures.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use azure_cni_agent::datapath::Hook;
use azure_cni_tests::Fabric;
use bpf_tests::{Frame, Rig, Verdict};
use serde::Serialize;

use crate::{progress::Progress, statistics::Summary};

/// The most a hop limit has room for, with the last hop still forwarded.
const HOP_LIMIT: u8 = 255;
const REPEAT: u32 = 250;
const RUNS: usize = 1000;

/// What a program costs in one case.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProgramCost {
    pub(crate) program: &'static str,
    pub(crate) case: &'static str,
    #[serde(rename = "nanosecondsPerPacket")]
    pub(crate) cost: Summary,
    /// Least disturbed.
    pub(crate) least: f64,
}

struct Case {
    hook: Hook,
    interface: &'static str,
    what: &'static str,
    frame: Frame,
    verdict: Verdict,
}

/// Runs all cases on a node of the rig's own; its files go to the network's private directory.
pub(crate) fn measure(net: &Fabric, progress: &Progress) -> Result<Vec<ProgramCost>> {
    progress.note("timing the eBPF programs alone");
    tempfile::env::override_temp_dir(&net.sandbox().create_dir("programs")?)
        .map_err(|other| anyhow!("temporary files already go to {}", other.display()))?;
    // The rig moves the thread that makes it into namespaces of its own.
    thread::scope(|scope| scope.spawn(measure_all).join())
        .map_err(|_| anyhow!("the programs' rig failed, see above"))?
}

fn measure_all() -> Result<Vec<ProgramCost>> {
    let rig = Rig::new();
    cases(&rig).into_iter().map(|case| measure_case(&rig, case)).collect()
}

fn cases(rig: &Rig) -> Vec<Case> {
    let client = |address| (address, 40_000);
    let server = |address| (address, 80);
    let segment = |source, destination, flags| Frame::tcp(source, destination, flags).with_hop_limit(HOP_LIMIT);
    let a = client(Rig::POD_A);

    // Handshakes, so that the cases are established flows.
    let (b, peer, node) = (server(Rig::POD_B), server(Rig::PEER), client(Rig::NODE));
    let _ = (rig.from_pod_a(&segment(a, b, "S")), rig.from_pod_b(&segment(b, a, "SA")));
    let _ = (rig.from_pod_a(&segment(a, peer, "S")), rig.from_wire(&segment(peer, a, "SA")));
    let _ = (
        rig.stack_to_pod_a(&segment(node, server(Rig::POD_A), "S")),
        rig.from_pod_a(&segment(server(Rig::POD_A), node, "SA")),
    );

    let case = |hook, interface, what, frame, verdict| Case { hook, interface, what, frame, verdict };
    vec![
        case(Hook::FromEndpoint, "azva", "to a pod of this VM", segment(a, b, "A"), Verdict::ToPod),
        case(Hook::FromEndpoint, "azva", "to another VM", segment(a, peer, "A"), Verdict::ToWire),
        case(Hook::FromEndpoint, "azva", "dropped: a source not its own", segment(b, peer, "A"), Verdict::Drop),
        case(Hook::FromWire, "uplink", "to a pod", segment(peer, a, "A"), Verdict::ToPod),
        case(Hook::FromWire, "uplink", "to the node itself", segment(peer, node, "A"), Verdict::Pass),
        case(Hook::ToEndpoint, "azva", "from the host's stack", segment(node, server(Rig::POD_A), "A"), Verdict::Pass),
        case(Hook::ToWire, "uplink", "from the node itself", segment(node, peer, "A"), Verdict::Pass),
    ]
}

fn measure_case(rig: &Rig, case: Case) -> Result<ProgramCost> {
    let Case { hook, interface, what, frame, verdict } = case;
    let mut samples = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let (seen, duration) = rig.cost(hook, interface, &frame, REPEAT);
        ensure!(seen == verdict, "{}, {what}: {seen:?} instead of {verdict:?}", hook.program());
        samples.push(duration.as_nanos() as f64);
    }
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(ProgramCost { program: hook.program(), case: what, cost: Summary::of(&samples), least })
}
