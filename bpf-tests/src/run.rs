//! One packet through one program, by BPF_PROG_TEST_RUN.

use std::path::PathBuf;
use std::time::Duration;

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use azure_cni_common::ABI;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_datapath::Hook;

use crate::frame::Frame;
use crate::node::ifindex;
use crate::rig::Rig;

/// What a program decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// TCX_NEXT
    Pass,
    ToPod,
    ToWire,
    /// Back into the queue that it came from.
    Wait,
    Drop,
}

/// What came out of a program.
#[derive(Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    /// As it arrived.
    pub sent: Frame,
    /// As it came out.
    pub frame: Frame,
    /// The mark it has afterwards, where the kernel goes on with it.
    pub mark: u32,
    /// Reasons whose counter moved, each as often as it moved.
    pub drops: Vec<DropReason>,
}

/// What the kernel knows of a packet besides its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offload {
    pub mark: u32,
    /// Payload bytes of the segments that the device will cut the packet into; 0: it is one packet.
    pub segment: u32,
    /// Index of the interface that the packet came in by; 0: this machine made it.
    pub came_by: u32,
}

/// The mark of a packet that is on its way to the uplink with everything done.
const HANDLED_MARK: u32 = 0x0ac1_0001;

/// The mark of a fragment that waits for its packet's first, less how often it has.
const WAITING_MARK: u32 = 0x0ac2_0000;

impl Rig {
    pub const HANDLED_MARK: u32 = HANDLED_MARK;
    pub const WAITING_MARK: u32 = WAITING_MARK;

    /// A packet that pod A sends.
    pub fn from_pod_a(&self, frame: &Frame) -> Outcome {
        self.run(Hook::FromEndpoint, "azva", frame, Offload::default())
    }

    /// A packet that pod B sends.
    pub fn from_pod_b(&self, frame: &Frame) -> Outcome {
        self.run(Hook::FromEndpoint, "azvb", frame, Offload::default())
    }

    /// A packet that the host's stack sends to pod A.
    pub fn stack_to_pod_a(&self, frame: &Frame) -> Outcome {
        self.run(Hook::ToEndpoint, "azva", frame, Offload::default())
    }

    /// A packet that the host's stack sends to pod B.
    pub fn stack_to_pod_b(&self, frame: &Frame) -> Outcome {
        self.run(Hook::ToEndpoint, "azvb", frame, Offload::default())
    }

    /// A packet that arrives at the NIC.
    pub fn from_wire(&self, frame: &Frame) -> Outcome {
        self.run(Hook::FromWire, "uplink", frame, Offload::default())
    }

    /// A packet that the host's stack sends out of the NIC.
    pub fn to_wire(&self, frame: &Frame) -> Outcome {
        self.run(Hook::ToWire, "uplink", frame, Offload::default())
    }

    /// A packet that the host's stack forwards out of the NIC: it came in by this interface.
    pub fn forwarded_to_wire(&self, from: &str, frame: &Frame) -> Outcome {
        let offload = Offload { came_by: ifindex(from), ..Offload::default() };
        self.run(Hook::ToWire, "uplink", frame, offload)
    }

    pub fn run(&self, hook: Hook, interface: &str, frame: &Frame, offload: Offload) -> Outcome {
        self.execute(hook, interface, frame, offload, 1).0
    }

    /// What a packet costs, as the mean of runs on the same packet. One that is forwarded loses a hop each time.
    pub fn cost(&self, hook: Hook, interface: &str, frame: &Frame, runs: u32) -> (Verdict, Duration) {
        let (outcome, duration) = self.execute(hook, interface, frame, Offload::default(), runs);
        (outcome.verdict, duration)
    }

    fn execute(
        &self,
        hook: Hook,
        interface: &str,
        frame: &Frame,
        offload: Offload,
        repeat: u32,
    ) -> (Outcome, Duration) {
        let program = self.program(hook);
        let before = self.drop_counts();
        let sent = Frame { bytes: frame.arriving_at(self.mac_of(interface)) };
        let mut out = vec![0; sent.bytes.len() + 256];
        let context = context(offload, ifindex(interface));
        let mut context_out = vec![0; context.len()];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(&sent.bytes),
                data_out: Some(&mut out),
                ctx_in: Some(&context),
                ctx_out: Some(&mut context_out),
                repeat,
                ..TestRunOptions::default()
            })
            .unwrap_or_else(|error| panic!("BPF_PROG_TEST_RUN: {error:?}"));
        out.truncate(result.data_size_out as usize);
        let drops = DropReason::ALL
            .iter()
            .zip(before.iter().zip(&self.drop_counts()))
            .flat_map(|(reason, (before, after))| std::iter::repeat_n(*reason, (after - before) as usize))
            .collect();
        let mark = u32::from_ne_bytes(context_out[MARK].try_into().expect("four bytes"));
        let verdict = match result.return_value as i32 {
            -1 => Verdict::Pass,
            2 => Verdict::Drop,
            7 if mark == HANDLED_MARK => Verdict::ToWire,
            7 if mark & !0xff == WAITING_MARK => Verdict::Wait,
            7 => Verdict::ToPod,
            other => panic!("a TC code that no program of ours returns: {other}"),
        };
        (Outcome { verdict, sent, frame: Frame { bytes: out }, mark, drops }, result.duration)
    }

    /// The program as it runs in the kernel.
    pub fn program(&self, hook: Hook) -> SchedClassifier {
        SchedClassifier::from_pin(self.program_pin(hook)).expect("a pinned program")
    }

    pub(crate) fn program_pin(&self, hook: Hook) -> PathBuf {
        self.settings().dir.join(format!("abi{ABI}/programs/{}", hook.program()))
    }

    pub(crate) fn drop_counts(&self) -> Vec<u64> {
        self.tables().drops().unwrap().iter().map(|counter| counter.per_cpu.iter().sum()).collect()
    }
}

/// Where things lie in `struct __sk_buff` (include/uapi/linux/bpf.h), and its size.
const MARK: std::ops::Range<usize> = 8..12;
const INGRESS_IFINDEX: std::ops::Range<usize> = 36..40;
const IFINDEX: std::ops::Range<usize> = 40..44;
const GSO_SIZE: std::ops::Range<usize> = 176..180;
const CONTEXT_LEN: usize = 192;

fn context(offload: Offload, ifindex: u32) -> Vec<u8> {
    let mut context = vec![0; CONTEXT_LEN];
    context[MARK].copy_from_slice(&offload.mark.to_ne_bytes());
    context[IFINDEX].copy_from_slice(&ifindex.to_ne_bytes());
    context[INGRESS_IFINDEX].copy_from_slice(&offload.came_by.to_ne_bytes());
    context[GSO_SIZE].copy_from_slice(&offload.segment.to_ne_bytes());
    context
}
