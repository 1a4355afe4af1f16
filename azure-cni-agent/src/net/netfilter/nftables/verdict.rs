//! Verdicts, of rules and of elements of a map.

use super::super::nfnetlink::{find, name, number};

const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFT_RETURN: i32 = -5;
const NFT_CONTINUE: i32 = -1;
const NF_ACCEPT: i32 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// To accept, to return, to go on.
    Nothing,
    /// To jump or to go there.
    Chain(Vec<u8>),
    /// To drop, to queue.
    Acts,
}

impl Verdict {
    /// Of an attribute with data.
    pub fn read(data: &[u8]) -> Option<Self> {
        let verdict = find(data, NFTA_DATA_VERDICT)?;
        let code = number(find(verdict, NFTA_VERDICT_CODE)?)?.cast_signed();
        Some(match find(verdict, NFTA_VERDICT_CHAIN) {
            Some(chain) => Self::Chain(name(chain).to_vec()),
            None if [NFT_RETURN, NFT_CONTINUE, NF_ACCEPT].contains(&code) => Self::Nothing,
            None => Self::Acts,
        })
    }
}
