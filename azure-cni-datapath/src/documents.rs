//! Checks `docs/maps.md` against the compiled programs. The object says which maps there are and how large they are; this
//! file says what they are for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;

use aya_obj::Object;
use aya_obj::generated::bpf_map_type::{self, *};
use azure_cni_common::lifetime::Timeouts;
use azure_cni_common::nat::PortRange;

use crate::hook::AttachModes;
use crate::load::OBJECT;
use crate::settings::{Constants, Settings};
use crate::sizes::sizes;

const HEAD: &str = "\
# Maps

What the programs remember, and what they share with the agent. All but those of the last table are pinned, under
`<bpffs_dir>/abi<N>/maps`, and outlive the agent. Sizes are bytes of a key and of a value, without what the kernel adds to an
entry. *Hash* and *LRU hash* tables are allocated when they are made. A full hash refuses new entries; a full LRU hash removes the
entries that were not used for longest.

The layouts of keys and values are in `azure-cni-common`, in the file of each subject (`endpoint.rs`, `egress.rs`, `flow.rs`,
`nat.rs`, `fragments.rs`, `icmp_budget.rs`, `bandwidth.rs`). They belong to one `ABI` number, see [ARCHITECTURE.md](ARCHITECTURE.md).

Generated from the compiled programs and `azure-cni-datapath/src/documents.rs`. To generate it again:
`UPDATE_DOCS=1 cargo test -p azure-cni-datapath maps_document`.
";

/// Columns of a table.
const COLUMNS: &str =
    "\n| map | kind | key | value | entries | written by | what for |\n|---|---|---:|---:|---:|---|---|\n";

const NOT_PINNED: &str = "
## Not pinned

Each loaded object has its own. Most are scratch space, because a program's stack is 512 bytes
([adr/0007](adr/0007-scratch-maps-and-global-functions.md)).
";

const FAMILIES: &str = "
Names that end in 4 are for IPv4, in 6 for IPv6. While no pod may have an IPv6 address, maps for IPv6 have one entry. The tables of
IPv6 translations have 1024 entries if `snat.ipv6` is off.

## Other sizes

An agent that starts with other sizes makes a new map, copies the entries while the programs still work with the old one, swaps the
programs, and copies what they have changed in between. Until that is done, both are pinned, the new one under `filling`, then under
`swapping` beside `maps`; an agent that was killed meanwhile finishes it at its next start. A table that is made smaller and
whose entries need more than seven eighths of the new size keeps its size: `azure-cni-ctl status` and the log say so.
";

/// What the object does not say.
struct Meaning {
    name: &'static str,
    key: &'static str,
    value: &'static str,
    writer: &'static str,
    purpose: &'static str,
}

const fn map(
    name: &'static str,
    key: &'static str,
    value: &'static str,
    writer: &'static str,
    purpose: &'static str,
) -> Meaning {
    Meaning { name, key, value, writer, purpose }
}

const ADDRESS: &str = "address";
const FLOW_KEY: &str = "`FlowKey`";
const NAT_KEY: &str = "`NatKey`";
const HOLDER: &str = "`NatHolder`";
const PROGRAMS: &str = "programs";
const BOTH: &str = "programs; the agent removes expired ones";

const ENDPOINTS: &str = "The pods of this node: host veth, MAC, whether the Internet sees the pod's own address, and whether it has bandwidth limits.";
const ENDPOINT_CACHE: &str = "The same as an array, for the programs: a slot is right, or says that the table has to be read \
    ([adr/0010](adr/0010-endpoint-cache.md)).";
const ROUTES: &str = "Destinations that are not just the Internet: VNet, host, platform, addresses of the pool, and what rules or routes of the node are about.";
const GATEWAY: &str =
    "The router that all of the Internet is behind; zero: the programs look up the kernel's routes for every packet.";
const FLOWS: &str = "Assured flows: both ends are known to exist.";
const HALF_OPEN: &str = "TCP flows that are half-open: a flood of segments pushes out nothing else.";
const DATAGRAMS: &str =
    "Flows of UDP, ICMP echo and all others that are not assured: a flood of datagrams pushes out nothing else.";
const POD_FLOWS: &str = "How many flows of each pod the programs have put into the connection table, and taken out. The agent makes and removes entries.";
const PODS_SWEPT: &str = "How many of them the agent has taken out.";
const NAT: &str = "The wire side of translated flows that are assured, and of the host's flows inside the NAT range.";
const NAT_HALF_OPEN: &str = "The wire side of translated flows that are not assured; ports are claimed here.";
const FRAGMENTS: &str =
    "The ports of fragmented packets, kept for two seconds; how often later fragments were put back until they come.";
const LIMITS: &str = "How fast pods may send and receive: of those pods only that have a limit \
    ([adr/0016](adr/0016-bandwidth-is-policed.md)).";
const TAKEOVERS: &str = "Locks: ports that are taken at this moment from a holder whose flow has expired.";
const PACKET: &str = "The packet's headers as values.";
const SCRATCH: &str = "Keys and values of a search for a port, or of a quoted packet.";

/// In the order of the document.
const PINNED: [Meaning; 33] = [
    map("ENDPOINTS4", ADDRESS, "`EndpointEntry`", "agent", ENDPOINTS),
    map("ENDPOINTS6", ADDRESS, "`EndpointEntry`", "agent", ENDPOINTS),
    map(
        "LINK_LOCALS",
        "host veth",
        "address",
        "agent",
        "The link-local address that each pod's MAC makes: no other does the pod send from on its link.",
    ),
    map("ENDPOINT_CACHE4", "slot", "`Slot`", "agent", ENDPOINT_CACHE),
    map("ENDPOINT_CACHE6", "slot", "`Slot`", "agent", ENDPOINT_CACHE),
    map("ROUTES4", "prefix", "`RouteClass`", "agent", ROUTES),
    map("ROUTES6", "prefix", "`RouteClass`", "agent", ROUTES),
    map("GATEWAY4", "index", "address", "agent", GATEWAY),
    map("GATEWAY6", "index", "address", "agent", GATEWAY),
    map("FLOWS4", FLOW_KEY, "`Flow`", BOTH, FLOWS),
    map("FLOWS6", FLOW_KEY, "`Flow`", BOTH, FLOWS),
    map("HALF_OPEN4", FLOW_KEY, "`Flow`", BOTH, HALF_OPEN),
    map("HALF_OPEN6", FLOW_KEY, "`Flow`", BOTH, HALF_OPEN),
    map("DATAGRAMS4", FLOW_KEY, "`Flow`", BOTH, DATAGRAMS),
    map("DATAGRAMS6", FLOW_KEY, "`Flow`", BOTH, DATAGRAMS),
    map("POD_FLOWS4", ADDRESS, "`PodFlows`", BOTH, POD_FLOWS),
    map("POD_FLOWS6", ADDRESS, "`PodFlows`", BOTH, POD_FLOWS),
    map("PODS_SWEPT4", ADDRESS, "count", "agent", PODS_SWEPT),
    map("PODS_SWEPT6", ADDRESS, "count", "agent", PODS_SWEPT),
    map("NAT4", NAT_KEY, HOLDER, BOTH, NAT),
    map("NAT6", NAT_KEY, HOLDER, BOTH, NAT),
    map("NAT_HALF_OPEN4", NAT_KEY, HOLDER, BOTH, NAT_HALF_OPEN),
    map("NAT_HALF_OPEN6", NAT_KEY, HOLDER, BOTH, NAT_HALF_OPEN),
    map("FRAGMENTS4", "`FragmentKey`", "`FragmentPorts`", PROGRAMS, FRAGMENTS),
    map("FRAGMENTS6", "`FragmentKey`", "`FragmentPorts`", PROGRAMS, FRAGMENTS),
    map("ICMP_BUDGETS", "host veth", "`IcmpBudget`", PROGRAMS, "How many ICMP errors each pod has sent of its share."),
    map("BANDWIDTH", "host veth", "`Limits`", "agent; programs: how full buckets are", LIMITS),
    map("TAKEOVERS4", NAT_KEY, "unused", PROGRAMS, TAKEOVERS),
    map("TAKEOVERS6", NAT_KEY, "unused", PROGRAMS, TAKEOVERS),
    map("HOST_PORTS", "word", "64 ports", "agent", "A bit for each TCP and UDP port that a socket of the host holds."),
    map(
        "EVENTS",
        "",
        "`RefusedFlow`",
        PROGRAMS,
        "Flows that were refused, for the agent to report. Entries are bytes.",
    ),
    map(
        "REFUSALS",
        "place",
        "`RecentRefusal`",
        PROGRAMS,
        "What was refused a moment ago: it is searched for less, and reported together.",
    ),
    map(
        "DROPS",
        "reason",
        "count",
        PROGRAMS,
        "Dropped packets, by reason and CPU: [drop-reasons.md](drop-reasons.md).",
    ),
];

const UNPINNED: [Meaning; 5] = [
    map("PACKET4", "", "`Packet`", PROGRAMS, PACKET),
    map("PACKET6", "", "`Packet`", PROGRAMS, PACKET),
    map("SCRATCH4", "", "`Scratch`", PROGRAMS, SCRATCH),
    map("SCRATCH6", "", "`Scratch`", PROGRAMS, SCRATCH),
    map("AYA_LOGS", "", "record", PROGRAMS, "What `datapath.log` asks for. Entries are bytes."),
];

#[test]
fn maps_document_says_what_the_programs_have() {
    let object = Object::parse(OBJECT).unwrap();
    let described: BTreeSet<&str> = PINNED.iter().chain(&UNPINNED).map(|meaning| meaning.name).collect();
    // The compiler's own sections are maps to the kernel.
    let found: BTreeSet<&str> = object.maps.keys().map(String::as_str).filter(|name| !name.starts_with('.')).collect();
    assert_eq!(found, described, "each map has its meaning here, and each meaning its map");

    let mut wanted = format!("{HEAD}{COLUMNS}");
    write_rows(&mut wanted, &object, &PINNED, true);
    wanted += FAMILIES;
    wanted += NOT_PINNED;
    wanted += COLUMNS;
    write_rows(&mut wanted, &object, &UNPINNED, false);

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/maps.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("docs/ is there");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "out of date: run `UPDATE_DOCS=1 cargo test -p azure-cni-datapath maps_document`");
}

/// The kernel refuses a ring that is not made of whole pages (kernel/bpf/ringbuf.c, ringbuf_map_alloc), and those of arm64 may have 64 KiB.
#[test]
fn rings_are_made_of_whole_pages_of_every_size() {
    const LARGEST_PAGE: u32 = 64 * 1024;
    let object = Object::parse(OBJECT).unwrap();
    let rings = object.maps.iter().filter(|(_, map)| map.map_type() == BPF_MAP_TYPE_RINGBUF as u32);
    let sizes: BTreeMap<&String, u32> = rings.map(|(name, map)| (name, map.max_entries())).collect();
    assert!(!sizes.is_empty());
    for (name, size) in sizes {
        assert!(size.is_power_of_two() && size.is_multiple_of(LARGEST_PAGE), "{name} has {size} bytes");
    }
}

fn write_rows(document: &mut String, object: &Object, meanings: &[Meaning], pinned: bool) {
    let configured = configured_sizes();
    for Meaning { name, key, value, writer, purpose } in meanings {
        let map = &object.maps[*name];
        assert_eq!(map.pinning() != aya_obj::maps::PinningType::None, pinned, "{name}");
        let key = sized(key, map.key_size());
        let value = sized(value, map.value_size());
        let entries = configured.get(name).map_or_else(|| map.max_entries().to_string(), |key| format!("`{key}`"));
        let kind = kind(map.map_type());
        writeln!(document, "| `{name}` | {kind} | {key} | {value} | {entries} | {writer} | {purpose} |").unwrap();
    }
}

/// What it is, and how many bytes.
fn sized(what: &str, bytes: u32) -> String {
    match (what, bytes) {
        (what, 0) => what.to_owned(),
        ("", bytes) => bytes.to_string(),
        (what, bytes) => format!("{what} {bytes}"),
    }
}

fn kind(number: u32) -> &'static str {
    const KINDS: [(bpf_map_type, &str); 7] = [
        (BPF_MAP_TYPE_HASH, "hash"),
        (BPF_MAP_TYPE_LRU_HASH, "LRU hash"),
        (BPF_MAP_TYPE_LPM_TRIE, "prefixes"),
        (BPF_MAP_TYPE_ARRAY, "array"),
        (BPF_MAP_TYPE_PERCPU_ARRAY, "array per CPU"),
        (BPF_MAP_TYPE_RINGBUF, "ring"),
        (BPF_MAP_TYPE_PERF_EVENT_ARRAY, "ring per CPU"),
    ];
    KINDS.into_iter().find(|(kind, _)| *kind as u32 == number).unwrap_or_else(|| panic!("kind {number}")).1
}

/// The key of the configuration that says how many entries a map has.
fn configured_sizes() -> BTreeMap<&'static str, &'static str> {
    const FLOWS: u32 = 123_456;
    let settings = Settings {
        object: OBJECT,
        dir: "/sys/fs/bpf".into(),
        constants: Constants {
            node_address: Ipv4Addr::UNSPECIFIED,
            node_address6: None,
            has_ipv6: true,
            snat6: true,
            uplink_ifindex: 0,
            uplink_mtu: 1500,
            nat_ports: PortRange::DEFAULT,
            nat_pod_blocks: 0,
            nat_seed: 0,
            pod_flow_share: FLOWS,
            timeouts: Timeouts::DEFAULT,
            services_known: false,
            block_imds: false,
            log: false,
        },
        max_flows: FLOWS,
        max_half_open: FLOWS / 2,
        max_routes: FLOWS / 4,
        attach: AttachModes::TCX,
    };
    sizes(&settings)
        .into_iter()
        .map(|(map, size)| match size {
            FLOWS => (map, "max_flows"),
            size if size == FLOWS / 2 => (map, "max_half_open"),
            _ => (map, "max_routes"),
        })
        .collect()
}
