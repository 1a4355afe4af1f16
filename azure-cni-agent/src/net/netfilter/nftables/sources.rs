//! The sources that rules ask for, by chain.

use std::io;

use ipnet::IpNet;

use super::super::nfnetlink::{NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6, Nfnetlink, find, name};
use super::super::prefixes;
use super::expressions;
use super::numbers::{NFT_MSG_GETRULE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS};

/// Calls `visit` with chain and source of each rule that leads somewhere.
pub fn sources(visit: &mut impl FnMut(&[u8], IpNet)) -> io::Result<()> {
    let Some(mut kernel) = Nfnetlink::open()? else { return Ok(()) };
    for family in [NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_INET] {
        kernel.dump(NFT_MSG_GETRULE, family, &[], |rule| {
            let (Some(chain), Some(read)) = (find(rule, NFTA_RULE_CHAIN), find(rule, NFTA_RULE_EXPRESSIONS)) else {
                return;
            };
            let read = expressions::read(read, family);
            if let Some(bits) = read.source.filter(|_| !read.verdicts.is_empty()) {
                visit(name(chain), prefixes::with_bits(bits.is_v6, &bits.value, &bits.mask));
            }
        })?;
    }
    Ok(())
}
