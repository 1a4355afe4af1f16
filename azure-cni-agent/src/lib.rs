//! The agent's library: what the daemon, the plugin and the operator's command are made of.
pub mod api;
pub mod cni;
pub mod config;
pub mod datapath;
pub mod ipam;
pub mod net;
pub mod state;
