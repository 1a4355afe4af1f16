//! What is known of the matches and targets of iptables, which nftables' rules may hold too.

/// Matches by which a rule can choose destinations, besides `-d`.
const OF_ADDRESSES: [&str; 6] = ["set", "iprange", "geoip", "u32", "bpf", "string"];

/// Targets that leave a packet's way and addresses alone.
const HARMLESS: [&str; 14] = [
    "MARK",
    "CONNMARK",
    "CONNSECMARK",
    "SECMARK",
    "LOG",
    "NFLOG",
    "ULOG",
    "TRACE",
    "AUDIT",
    "CT",
    "NOTRACK",
    "SET",
    "LED",
    "CLASSIFY",
];

pub fn looks_at_addresses(name: &[u8]) -> bool {
    OF_ADDRESSES.iter().any(|of_addresses| of_addresses.as_bytes() == name)
}

pub fn acts(target: &[u8]) -> bool {
    !HARMLESS.iter().any(|harmless| harmless.as_bytes() == target)
}
