//! The agent's library: what the daemon, the plugin and the operator's command are made of.
//!
//! A CNI call comes in through `api` (frames), `server`, `cni` (the protocol as types) and `commands` (the verbs), which
//! build an `endpoint` with `net` (netlink) and `datapath` (eBPF), out of an address of `ipam`, recorded in `state`.

pub mod agent;
pub mod attachment_locks;
pub mod config;
pub mod conflist;
pub mod endpoint;
pub mod events;
pub mod findings;
pub mod host_ports;
pub mod leases;
pub mod maintain;
pub mod net;
pub mod node;
pub mod operator_queries;
pub mod reconcile;
mod release_pending;
pub mod routing;
pub mod server;
pub mod source;
mod start;
pub mod state;
pub mod steps;
pub mod verbs;
