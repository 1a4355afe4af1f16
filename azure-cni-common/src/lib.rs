//! What the eBPF programs and the agent share: the layout of every map, and every decision about a packet.
//!
//! The rule of this crate: decisions are pure. Their arguments are what was seen and what time it is, and they return what to do;
//! none reads a packet, a map or a clock. So all of them are tested on the host, and both sides agree by construction.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod bandwidth;
pub mod checksum;
pub mod conntrack;
pub mod drop_reason;
pub mod egress;
pub mod endpoint;
pub mod family;
pub mod flow;
pub mod fragments;
pub mod host_ports;
pub mod icmp_budget;
pub mod lifetime;
pub mod nat;
#[cfg(feature = "user")]
mod pod;
pub mod pod_flows;
pub mod recent_refusal;
pub mod refused_flow;
pub mod tcp;

/// Number of the layout of all pinned maps, part of the path they are pinned under.
///
/// A change to a key, a value or the meaning of a bit takes a new number and a migration.
pub const ABI: u32 = 1;
