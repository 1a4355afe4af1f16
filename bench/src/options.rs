//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::variant::Variant;

/// The platform's limit for a VM.
pub(crate) const MAX_PODS: u8 = 250;

/// Measures how fast pods are on this machine, and compares.
///
/// Several ways to attach pods run side by side in one network of namespaces: a bare veth pair (what the machine can do), the hops
/// of azure-cni-ebpf with programs that only redirect (the lower bound of what any eBPF data path costs), azure-cni-ebpf as a
/// default installation has it, azure-cni-ebpf with known service prefixes (to the Internet, the only path where that matters), the
/// reference bridge plugin with host-local and MASQUERADE by iptables-nft, and the reference ptp plugin with the same rules. Every
/// round measures each of them once, one right after the other. A ratio is formed within a round, and shown with its spread over
/// the rounds. If the spread crosses 1 there is no difference to speak of, and the report says so. The report ends with the
/// project's promises, and whether this machine keeps them.
///
/// Between a VM's uplink and the far end is one wire and nothing else: two VMs are back to back, and the hosts of the Internet
/// and of a peered network are at the third VM's gateway. A router in between would cost every variant the same, and so draw the
/// ratios towards 1. So do the two ends themselves: beside a cost stands what of it is beyond a bare veth pair's in the same round.
#[derive(Parser)]
#[command(
    name = "bench",
    after_help = "Examples:\n  \
        bench                                everything that users ask about, in 11 minutes\n  \
        bench --quick                        the figures that matter for a change, in 2 minutes\n  \
        bench --filter same-vm               one path, all figures\n  \
        bench --filter udp --filter connect  two loads, all paths\n  \
        bench --filter programs              nanoseconds per packet of each eBPF program, no traffic\n  \
        bench --filter memory                bytes per flow, no traffic\n  \
        bench --filter leases                nanoseconds per lease by the size of the pool, no traffic\n  \
        bench --filter calls --pods 50       ADD and DEL of 50 pods, one at a time and all at once\n  \
        bench --filter scale                 the same figures as the VM fills up\n  \
        bench --variant ours --variant bare  without the reference plugins\n  \
        bench --from NEW.json --compare OLD.json   what a change did, from two runs of this machine\n  \
        bench --html report.html --json report.json  with drawings, and with each single sample\n  \
        bench --list                         everything that --filter can name\n\n\
        Needs root, the binaries next to this one (or in $AZURE_CNI_BIN_DIR), iperf3, tc, and for the reference variants\n\
        iptables and the standard CNI plugins. Other work on the machine makes spreads wide, not ratios wrong."
)]
pub(crate) struct Options {
    /// The figures that matter for a change, in 2 minutes
    #[arg(long)]
    pub(crate) quick: bool,
    /// Everything, in three times as many rounds: about an hour
    #[arg(long, conflicts_with = "quick")]
    pub(crate) full: bool,
    /// How many rounds; below 5 nothing is called a difference
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: Option<u16>,
    /// How long each load runs in each round (iperf3: whole seconds, at least one)
    #[arg(long, value_name = "S", value_parser = positive)]
    pub(crate) seconds: Option<f64>,
    /// How many pods CNI calls are made for; without it 250, with --quick 25
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_PODS)))]
    pub(crate) pods: Option<u8>,
    /// Only what has TEXT in its name; may be repeated to add more
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Vec<String>,
    /// Only this way to attach pods; may be repeated to add more
    #[arg(long, value_name = "VARIANT")]
    pub(crate) variant: Vec<Variant>,
    /// Write everything, each single sample included, to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report with drawings to FILE: one page of HTML that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write what docs/performance.md is made of to FILE: promises and main ratios, without samples
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,
    /// Measure nothing: report what an earlier run wrote to FILE with --json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "full", "rounds", "seconds", "pods", "filter", "variant"])]
    pub(crate) from: Option<PathBuf>,
    /// Judge this run (or --from's) against what an earlier one wrote to FILE with --json; fails if anything is worse
    ///
    /// Both must be of the same machine: kernel, processor, cores, mitigations and versions of the references. A figure of
    /// azure-cni-ebpf is worse (better) if its spread and the earlier one's do not meet, and the medians lie more than 2 %
    /// apart, and the same is true of its ratio to the bare pair, or to the bridge where there is no bare pair: a machine that
    /// is slower today moves both. Of losses and counts the spreads alone decide; a size that does not vary is judged by its
    /// value. Tails (p99, p99.9, longest gaps), steps of calls, and figures of fewer than 5 rounds are shown but never judged.
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
    /// Show what would be measured, and end
    #[arg(long)]
    pub(crate) list: bool,
    /// Where the reference CNI plugins are
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/cni")]
    pub(crate) cni_plugins: PathBuf,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("a number above 0 and at most 3600".into()),
    }
}
