//! The agent's library: what the daemon, the plugin and the operator's command are made of.
//!
//! A CNI call comes in through `api` (frames), `server`, `cni` (the protocol as types) and `commands` (the verbs), which
//! build an `endpoint` with `net` (netlink) and `datapath` (eBPF), out of an address of `ipam`, recorded in `state`.

pub mod agent;
pub mod commands;
pub mod config;
pub mod conflist;
pub mod endpoint;
pub mod events;
pub mod findings;
pub mod host_ports;
pub mod inspect;
pub mod maintain;
pub mod net;
pub mod node;
pub mod programs;
pub mod reconcile;
pub mod routing;
pub mod server;
pub mod source;
pub mod spool;
mod start;
pub mod state;
pub mod times;
pub mod turns;
mod undo;
