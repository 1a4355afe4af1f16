//! nftables' base chains at the FORWARD hook whose policy is to drop.

use std::io;

use super::super::nfnetlink::{
    Attributes, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6, Nfnetlink, find, name, name_attribute, number,
};
use super::super::policy::{Dropping, POD_INTERFACES};
use super::numbers::{
    NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE,
    NFTA_HOOK_HOOKNUM, NFTA_RULE_TABLE,
};

/// include/uapi/linux/netfilter.h.
const NF_INET_FORWARD: u32 = 2;
const NF_DROP: u32 = 0;

/// Empty on a kernel without nftables.
pub fn dropping_chains() -> io::Result<Vec<Dropping>> {
    let Some(mut kernel) = Nfnetlink::open()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (family, family_name, ipv4, ipv6) in
        [(NFPROTO_IPV4, "ip", true, false), (NFPROTO_IPV6, "ip6", false, true), (NFPROTO_INET, "inet", true, true)]
    {
        let mut chains = Vec::new();
        kernel.dump(NFT_MSG_GETCHAIN, family, &[], |attributes| chains.extend(dropping_chain(attributes)))?;
        for (table, chain) in chains {
            let mut names_pods = false;
            let of_table = name_attribute(NFTA_RULE_TABLE, &table);
            kernel.dump(NFT_MSG_GETRULE, family, &of_table, |rule| names_pods |= names_pods_in(rule, &table))?;
            let (table, chain) = (String::from_utf8_lossy(&table), String::from_utf8_lossy(&chain));
            let chain = format!("nftables chain {family_name} {table} {chain}");
            found.push(Dropping { chain, ipv4, ipv6, names_pods });
        }
    }
    Ok(found)
}

/// Table and name of a base chain at the FORWARD hook whose policy is to drop.
fn dropping_chain(attributes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let hook = find(find(attributes, NFTA_CHAIN_HOOK)?, NFTA_HOOK_HOOKNUM)?;
    let drops = number(hook)? == NF_INET_FORWARD && number(find(attributes, NFTA_CHAIN_POLICY)?)? == NF_DROP;
    let named = |kind| Some(name(find(attributes, kind)?).to_vec());
    if drops { named(NFTA_CHAIN_TABLE).zip(named(NFTA_CHAIN_NAME)) } else { None }
}

/// Whether a rule of the table compares something with pods' interfaces.
fn names_pods_in(rule: &[u8], table: &[u8]) -> bool {
    // Older kernels do not narrow a dump.
    let of_table = Attributes(rule).any(|(kind, value)| kind == NFTA_RULE_TABLE && name(value) == table);
    of_table && rule.windows(POD_INTERFACES.len()).any(|bytes| bytes == POD_INTERFACES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::nfnetlink::{attribute, next_message};
    use super::*;

    fn chain(hook: u32, policy: u32) -> Vec<u8> {
        const NESTED: u16 = 0x8000;
        let hook = attribute(NFTA_HOOK_HOOKNUM, &hook.to_be_bytes());
        [
            attribute(NFTA_CHAIN_TABLE, b"filter\0"),
            attribute(NFTA_CHAIN_NAME, b"FORWARD\0"),
            attribute(NFTA_CHAIN_HOOK | NESTED, &hook),
            attribute(NFTA_CHAIN_POLICY, &policy.to_be_bytes()),
        ]
        .concat()
    }

    #[test]
    fn only_a_chain_that_drops_what_is_forwarded_counts() {
        let wanted = (b"filter".to_vec(), b"FORWARD".to_vec());
        assert_eq!(dropping_chain(&chain(NF_INET_FORWARD, NF_DROP)), Some(wanted));
        assert_eq!(dropping_chain(&chain(NF_INET_FORWARD, 1)), None);
        assert_eq!(dropping_chain(&chain(1, NF_DROP)), None);
        assert_eq!(dropping_chain(&attribute(NFTA_CHAIN_NAME, b"KUBE-FORWARD\0")), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = dropping_chain(&bytes);
            let _ = names_pods_in(&bytes, b"filter");
            let _ = next_message(&bytes);
        }
    }
}
