//! The agent's library: what the daemon, the plugin and the operator's command are made of.
pub mod api;
pub mod cni;
