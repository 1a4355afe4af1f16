//! The agent's library: what the daemon, the plugin and the operator's command are made of.
//!
//! A CNI call comes in through `api` (frames), `server`, `cni` (the protocol as types) and `commands` (the verbs), which
//! build an `endpoint` with `net` (netlink) and `datapath` (eBPF), out of an address of `ipam`, recorded in `state`.

pub mod agent;
pub mod background;
pub mod commands;
pub mod config;
pub mod conflist;
pub mod endpoint;
pub mod findings;
pub mod http;
pub mod inspect;
pub mod net;
pub mod node;
pub mod reconcile;
pub mod refusals;
pub mod routing;
pub mod server;
pub mod source;
pub mod spool;
mod start;
pub mod state;
pub mod times;
pub mod turns;
mod undo;
mod wall_clock;
