//! nftables, where iptables-nft has its rules too.

mod dropping;
mod elements;
mod expressions;
mod numbers;
mod rules;
mod sources;
mod verdict;

pub use dropping::dropping_chains;
pub use rules::{generation, translated};
pub use sources::sources;

#[cfg(test)]
mod tests;
