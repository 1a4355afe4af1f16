//! The lower bound: pods are attached exactly as ours are, with programs in the place of ours that do nothing but redirect.
//!
//! What this variant costs beyond a bare pair is the kernel's part of the way: no eBPF data path on these hops can save it. What
//! ours costs beyond this variant is the programs' part.

use std::{fs, net::Ipv4Addr};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    programs::{
        SchedClassifier, TcAttachType,
        tc::{NlOptions, TcAttachOptions, qdisc_add_clsact},
    },
};
use azure_cni_tests::{Station, Vm};

/// Compiled by `cargo xtask build-ebpf` from azure-cni-ebpf/src/bench.rs.
static OBJECT: &[u8] = include_bytes_aligned!(env!("BENCH_EBPF_OBJECT"));

/// Programs of one VM, which go with this value.
pub(super) struct LowerBound {
    _loaded: Vec<Ebpf>,
}

/// What programs know by constants.
struct Known {
    uplink: u32,
    node: u32,
    gateway: u32,
}

impl LowerBound {
    /// Ends the VM's agent, takes its programs away and puts the redirecting ones in their place. `gateway`: if packets leave with
    /// the VM's address, to whom.
    pub(super) fn replace(vm: &Vm, pods: &[(Ipv4Addr, String)], gateway: Option<Ipv4Addr>) -> Result<Self> {
        vm.kill_agent()?;
        // The uplink's programs go with their pinned links.
        fs::remove_dir_all(vm.bpffs_dir()).context("take the agent's pins away")?;
        for (_, interface) in pods {
            let mut tc = vm.namespace().command("tc")?;
            let status = tc.args(["qdisc", "del", "dev", interface, "clsact"]).status().context("run tc")?;
            ensure!(status.success(), "tc qdisc del dev {interface} clsact: {status}");
        }
        let bits = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
        let (node, gateway) = gateway.map_or((0, 0), |gateway| (bits(vm.address()), bits(gateway)));
        vm.namespace().run(|| -> Result<Self> {
            let known = Known { uplink: index("eth0")?, node, gateway };
            let [first, second] = pods else { anyhow::bail!("two pods, not {}", pods.len()) };
            let mut loaded = Vec::new();
            // From the first pod to the second and back; from the wire to the first.
            for (from, to) in [(first, second), (second, first)] {
                loaded.push(known.attach("redir_from_pod", &from.1, (bits(to.0), index(&to.1)?), Mode::Clsact)?);
            }
            loaded.push(known.attach("redir_from_wire", "eth0", (bits(first.0), index(&first.1)?), Mode::Tcx)?);
            Ok(Self { _loaded: loaded })
        })
    }
}

/// As ours are attached.
enum Mode {
    Clsact,
    Tcx,
}

impl Known {
    /// `pod`: address in network byte order, and interface.
    fn attach(&self, program: &str, interface: &str, pod: (u32, u32), mode: Mode) -> Result<Ebpf> {
        let mut object = EbpfLoader::new()
            .override_global("UPLINK", &self.uplink, true)
            .override_global("NODE", &self.node, true)
            .override_global("GATEWAY", &self.gateway, true)
            .override_global("POD", &pod.0, true)
            .override_global("POD_IFINDEX", &pod.1, true)
            .load(OBJECT)
            .context("load the benchmark's eBPF object")?;
        let classifier: &mut SchedClassifier =
            object.program_mut(program).with_context(|| format!("no program {program}"))?.try_into()?;
        classifier.load().with_context(|| format!("load {program}"))?;
        match mode {
            Mode::Tcx => classifier.attach(interface, TcAttachType::Ingress)?,
            Mode::Clsact => {
                qdisc_add_clsact(interface)?;
                let options = TcAttachOptions::Netlink(NlOptions::default());
                classifier.attach_with_options(interface, TcAttachType::Ingress, options)?
            }
        };
        Ok(object)
    }
}

/// In the calling thread's namespace.
fn index(interface: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(interface).with_context(|| format!("the interface {interface}"))
}
