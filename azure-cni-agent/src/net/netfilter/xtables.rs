//! What is known of the matches and targets of iptables, which nftables' rules may hold too.

/// Matches by which a rule can choose destinations, besides `-d`, whatever else they are told.
const OF_ADDRESSES: [&str; 5] = ["geoip", "u32", "bpf", "string", "ipvs"];

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

/// Whether a match may choose destinations, besides `-d`, by what it is told. If in doubt, it does.
pub fn chooses_destinations(name: &[u8], revision: u32, told: &[u8]) -> bool {
    let bits = |at: usize, bits: u8| told.get(at).is_none_or(|byte| byte & bits != 0);
    match name {
        // struct xt_set_info: the number of dimensions, and a bit for each that is the source's (IPSET_DIM_ONE_SRC, …).
        b"set" => {
            let sources = told.get(2).map(|dimensions| (2_u16 << dimensions.min(&6)) - 2);
            let is_source = |sources: u16| told.get(3).is_some_and(|flags| u16::from(*flags) & sources == sources);
            revision == 0 || !sources.is_some_and(is_source)
        }
        // struct xt_iprange_mtinfo: IPRANGE_DST.
        b"iprange" => revision == 0 || bits(64, 0x2),
        // struct xt_conntrack_mtinfo1 and later ones: XT_CONNTRACK_ORIGDST and XT_CONNTRACK_REPLSRC.
        b"conntrack" => revision == 0 || bits(146, 0x8 | 0x10),
        // struct xt_recent_mtinfo: XT_RECENT_DEST.
        b"recent" => bits(210, 0x1),
        _ => OF_ADDRESSES.iter().any(|of_addresses| of_addresses.as_bytes() == name),
    }
}

pub fn acts(target: &[u8]) -> bool {
    !HARMLESS.iter().any(|harmless| harmless.as_bytes() == target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_that_looks_at_sources_alone_chooses_no_destinations() {
        let with = |length: usize, at: usize, byte: u8| {
            let mut told = vec![0; length];
            told[at] = byte;
            told
        };
        for (name, revision, told, expected) in [
            ("set", 4, vec![1, 0, 1, 0b10], false),
            ("set", 4, vec![1, 0, 1, 0b11], false),
            ("set", 4, vec![1, 0, 1, 0], true),
            ("set", 4, vec![1, 0, 2, 0b110], false),
            ("set", 4, vec![1, 0, 2, 0b010], true),
            ("set", 0, vec![1, 0, 1, 0b10], true),
            ("set", 4, vec![], true),
            ("iprange", 1, with(68, 64, 0x1), false),
            ("iprange", 1, with(68, 64, 0x2), true),
            ("iprange", 1, vec![0; 60], true),
            ("conntrack", 3, with(160, 146, 0x1), false),
            ("conntrack", 3, with(160, 146, 0x8), true),
            ("conntrack", 3, with(160, 146, 0x10), true),
            ("recent", 1, with(240, 210, 0), false),
            ("recent", 1, with(240, 210, 1), true),
            ("u32", 0, vec![], true),
            ("comment", 0, vec![], false),
        ] {
            assert_eq!(chooses_destinations(name.as_bytes(), revision, &told), expected, "{name} {told:?}");
        }
    }
}
