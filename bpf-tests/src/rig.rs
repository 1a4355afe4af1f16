//! A node of two pods and an uplink, as far as the programs can tell.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use azure_cni_agent::datapath::{AttachMode, Constants, Datapath, Hook, Settings};
use azure_cni_common::ABI;
use azure_cni_common::conntrack::Timeouts;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::layout::RouteClass;
use azure_cni_common::snat::PortRange;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::Frame;

/// Device MAC addresses: frames to them are for this host (net/ethernet/eth.c, eth_type_trans).
pub const AZV_MAC: [u8; 6] = [0xaa; 6];
pub const NIC_MAC: [u8; 6] = [0x00, 0x0d, 0x3a, 0xf9, 0xdc, 0xa6];

/// What a program decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// TCX_NEXT
    Pass,
    Redirect,
    Drop,
}

/// What came out of a program.
#[derive(Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub frame: Vec<u8>,
    pub mark: u32,
    /// Reasons whose counter moved, each as often as it moved.
    pub drops: Vec<DropReason>,
    pub duration: std::time::Duration,
}

pub struct Rig {
    pub datapath: Datapath,
    programs: tempfile::TempDir,
    uplink: u32,
}

impl Rig {
    pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 240, 0, 4);
    pub const POD_A: Ipv4Addr = Ipv4Addr::new(10, 240, 1, 1);
    pub const POD_B: Ipv4Addr = Ipv4Addr::new(10, 240, 1, 2);
    pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 240, 2, 1);
    pub const INTERNET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
    pub const NODE_LOCAL_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);

    /// The constants of a node in a cluster whose services are known.
    pub fn constants() -> Constants {
        Constants {
            node_address: Self::NODE,
            uplink_ifindex: 0,
            uplink_mtu: 1500,
            nat_ports: PortRange::DEFAULT,
            timeouts: Timeouts::DEFAULT,
            services_known: true,
            log: false,
        }
    }

    pub fn new() -> Self {
        Self::with(Self::constants(), 1024)
    }

    /// Panics with what is missing where programs cannot be loaded: a test that cannot run must not pass.
    pub fn with(mut constants: Constants, max_flows: u32) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests load eBPF programs: run them as root");
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("a namespace of the test's own");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("private mounts");
        for (name, mac) in [("azva", AZV_MAC), ("azvb", AZV_MAC), ("uplink", NIC_MAC)] {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            ip(&["link", "add", name, "address", &mac, "type", "veth"]);
        }
        constants.uplink_ifindex = ifindex("uplink");
        let uplink = constants.uplink_ifindex;

        let programs = tempfile::tempdir().expect("a directory for pins");
        let settings = Settings { dir: programs.path().to_owned(), constants, max_flows, attach: AttachMode::detect() };
        let datapath = Datapath::open(&settings).unwrap_or_else(|error| panic!("{error:?}"));
        let tables = datapath.tables();
        tables.set_endpoint(Self::POD_A, ifindex("azva")).unwrap();
        tables.set_endpoint(Self::POD_B, ifindex("azvb")).unwrap();
        let routes = BTreeMap::from([
            ("10.240.0.0/16".parse().unwrap(), RouteClass::VNET),
            (Self::NODE.into(), RouteClass::HOST),
            (Self::NODE_LOCAL_DNS.into(), RouteClass::HOST),
        ]);
        tables.set_routes(&routes).unwrap();
        Self { datapath, programs, uplink }
    }

    /// A packet that pod A sends.
    pub fn from_pod_a(&self, frame: &Frame) -> Outcome {
        self.run(Hook::FromEndpoint, ifindex("azva"), frame, 0)
    }

    /// A packet that pod B sends.
    pub fn from_pod_b(&self, frame: &Frame) -> Outcome {
        self.run(Hook::FromEndpoint, ifindex("azvb"), frame, 0)
    }

    /// A packet that the host's stack sends to pod A.
    pub fn stack_to_pod_a(&self, frame: &Frame) -> Outcome {
        self.run(Hook::ToEndpoint, ifindex("azva"), frame, 0)
    }

    pub fn from_wire(&self, frame: &Frame) -> Outcome {
        self.run(Hook::FromWire, self.uplink, frame, 0)
    }

    pub fn to_wire(&self, frame: &Frame) -> Outcome {
        self.run(Hook::ToWire, self.uplink, frame, 0)
    }

    pub fn to_wire_marked(&self, frame: &Frame, mark: u32) -> Outcome {
        self.run(Hook::ToWire, self.uplink, frame, mark)
    }

    fn run(&self, hook: Hook, ifindex: u32, frame: &Frame, mark: u32) -> Outcome {
        self.run_repeated(hook, ifindex, frame, mark, 1)
    }

    pub fn run_repeated(&self, hook: Hook, ifindex: u32, frame: &Frame, mark: u32, repeat: u32) -> Outcome {
        let program = self.program(hook);
        let before = self.drop_counts();
        let mut out = vec![0; frame.bytes.len() + 256];
        let context = context(mark, ifindex);
        let mut context_out = vec![0; context.len()];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(&frame.addressed_to(self.mac_of(ifindex))),
                data_out: Some(&mut out),
                ctx_in: Some(&context),
                ctx_out: Some(&mut context_out),
                repeat,
                ..TestRunOptions::default()
            })
            .unwrap_or_else(|error| panic!("BPF_PROG_TEST_RUN: {error:?}"));
        out.truncate(result.data_size_out as usize);
        let after = self.drop_counts();
        let drops = DropReason::ALL
            .iter()
            .zip(before.iter().zip(&after))
            .flat_map(|(reason, (before, after))| std::iter::repeat_n(*reason, (after - before) as usize))
            .collect();
        let verdict = match result.return_value as i32 {
            -1 => Verdict::Pass,
            2 => Verdict::Drop,
            7 => Verdict::Redirect,
            other => panic!("a TC code that no program of ours returns: {other}"),
        };
        let mark = u32::from_ne_bytes(context_out[MARK].try_into().expect("four bytes"));
        Outcome { verdict, frame: out, mark, drops, duration: result.duration }
    }

    /// The program as it runs in the kernel.
    pub fn program(&self, hook: Hook) -> SchedClassifier {
        let path = self.programs.path().join(format!("abi{ABI}/programs/{}", hook.program()));
        SchedClassifier::from_pin(path).expect("a pinned program")
    }

    fn drop_counts(&self) -> Vec<u64> {
        self.datapath.tables().drops().unwrap().iter().map(|counter| counter.per_cpu.iter().sum()).collect()
    }

    fn mac_of(&self, ifindex: u32) -> [u8; 6] {
        if ifindex == self.uplink { NIC_MAC } else { AZV_MAC }
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Rig {
    /// Takes the bpffs off the temporary directory, so that the directory can be removed.
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.programs.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Where `mark` and `ifindex` lie in `struct __sk_buff` (include/uapi/linux/bpf.h), and its size in this use.
const MARK: std::ops::Range<usize> = 8..12;
const IFINDEX: std::ops::Range<usize> = 40..44;
const CONTEXT_LEN: usize = 192;

fn context(mark: u32, ifindex: u32) -> Vec<u8> {
    let mut context = vec![0; CONTEXT_LEN];
    context[MARK].copy_from_slice(&mark.to_ne_bytes());
    context[IFINDEX].copy_from_slice(&ifindex.to_ne_bytes());
    context
}

pub fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
