//! The sources that rules of some chains ask for.
//!
//! The rule: only those chains are read. A cluster has a hundred thousand rules, and few of them are of interest.

use std::io;

use ipnet::IpNet;

use super::super::nfnetlink::{NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6, Nfnetlink, find, name, name_attribute};
use super::super::prefixes;
use super::expressions;
use super::numbers::{
    NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS,
    NFTA_RULE_TABLE,
};

/// Calls `visit` with the source of each rule that leads somewhere, of the chains whose name is one of these.
pub fn sources(is_of_these: impl Fn(&[u8]) -> bool, mut visit: impl FnMut(IpNet)) -> io::Result<()> {
    let Some(mut kernel) = Nfnetlink::open()? else { return Ok(()) };
    for family in [NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_INET] {
        let mut chains = Vec::new();
        kernel.dump(NFT_MSG_GETCHAIN, family, &[], |chain| {
            let named = |kind| Some(name(find(chain, kind)?));
            let Some((table, chain)) = named(NFTA_CHAIN_TABLE).zip(named(NFTA_CHAIN_NAME)) else { return };
            if is_of_these(chain) {
                chains.push([name_attribute(NFTA_RULE_TABLE, table), name_attribute(NFTA_RULE_CHAIN, chain)].concat());
            }
        })?;
        for of_chain in chains {
            kernel.dump(NFT_MSG_GETRULE, family, &of_chain, |rule| {
                let Some(chain) = find(rule, NFTA_RULE_CHAIN) else { return };
                // Older kernels do not narrow a dump.
                if let Some(source) = source(rule, family).filter(|_| is_of_these(name(chain))) {
                    visit(source);
                }
            })?;
        }
    }
    Ok(())
}

/// Of a rule that leads somewhere.
fn source(rule: &[u8], family: u8) -> Option<IpNet> {
    let read = expressions::read(find(rule, NFTA_RULE_EXPRESSIONS)?, family);
    let bits = read.source.filter(|_| !read.verdicts.is_empty())?;
    Some(prefixes::with_bits(bits.is_v6, &bits.value, &bits.mask))
}
