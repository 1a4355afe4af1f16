//! The agent's library: what the daemon is made of.
//!
//! A CNI call comes in through `server` and goes to one of the `verbs`. These take an address from `leases`, build an
//! `endpoint` with `net` (netlink) and the data path's crate (eBPF), and record it in `state`.
//!
//! The rule: the layers stand here from bottom to top. A module uses its own layer and those before it, and no two modules
//! use each other.

// Values and tools.
pub mod attachment_locks;
pub mod config;
pub mod freed_memory;
pub mod http;
pub mod net;
pub mod rights;
pub mod steps;
mod wall_clock;

// The parts of an agent.
pub mod deviations;
pub mod endpoint;
pub mod internet_way;
pub mod node;
pub mod node_watch;
pub mod programs;
pub mod refusals;
pub mod rehearsal;
pub mod routing;
pub mod source;
pub mod state;

pub mod leases;

pub mod agent;

// What an agent does.
pub mod findings;
pub mod verbs;

pub mod background;
pub mod reconcile;

// The process around it.
pub mod conflist;
pub mod only_agent;
pub mod operator_queries;
pub mod presence;
pub mod server;
pub mod start;
pub mod start_again;
