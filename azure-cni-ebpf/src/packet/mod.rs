//! The packet: all that touches its memory. `parse` reads it, `rewrite` writes it, nothing else does.
//!
//! Read `parse` first, then `v4` (or `v6`, which has more to say), then `rewrite`.

mod parse;

mod v4;
mod v6;

mod arp;
mod quoted;
mod rewrite;

pub use arp::{arp_sender, is_arp};
pub use parse::{Headers, Kind, Packet, Part, Unparsed, came_by, ip_length, is_icmp_error, is_of, skb};
pub use quoted::Quoted;
pub use rewrite::{End, Replacement, Rewrite, decrement_hop_limit, deliver, replace, replace_quoted};
