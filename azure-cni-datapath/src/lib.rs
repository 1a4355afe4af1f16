//! The kernel's side of the agent: eBPF programs, their links and their maps. No other crate of the agent knows aya.
//!
//! Everything that lasts is pinned. So the data path works on without the agent, and the next agent finds it again.

mod error;

mod hook;
mod pins;
mod settings;

mod bpffs;
mod carry_over;
mod raw_map;
mod size_problem;
mod sizes;
mod successors;

mod kernel;
mod load;

mod attach;
mod filter;
mod tcx_links;
mod tcx_query;

mod bandwidth;
mod batch;
mod endpoints;
mod family;
mod gateway;
mod map;
mod names;
mod pod_flows;
mod routes;
mod table;
mod tables;

mod events;
mod host_ports;
mod sweep;

mod datapath;

#[cfg(test)]
mod documents;

pub use azure_cni_common::endpoint::EndpointEntry;
pub use bpffs::BpffsError;
pub use carry_over::EarlierLayout;
pub use datapath::Datapath;
pub use error::DatapathError;
pub use events::{Event, EventSource};
pub use filter::{Attachment, FilterHolder, FilterPlace};
pub use gateway::GatewaySync;
pub use hook::{AttachMode, AttachModes, Hook};
pub use host_ports::HostPorts;
pub use kernel::{Feature, load_instructions, missing as missing_features};
pub use load::{Globals, OBJECT};
pub use routes::RouteSync;
pub use settings::{Constants, Settings};
pub use size_problem::{SizeProblem, Why};
pub use sweep::{SweepReport, Sweeper};
pub use table::TableFill;
pub use tables::{DropCounter, Gateways, Tables};
