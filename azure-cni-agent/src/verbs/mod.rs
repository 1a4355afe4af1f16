//! The CNI verbs, one file each, each read from top to bottom. Below them stand the steps that verbs share.

mod add;
mod check;
mod del;
mod gc;
mod status;

mod build_endpoint;
mod failure;
mod lease;
mod lock;
mod pod_netns;
mod publish_routes;
mod rebuild_veth;
mod rejection;
pub(crate) mod spool;
mod step_runner;
mod undo;

pub use add::add;
pub use check::check;
pub use del::del;
pub(crate) use del::detach;
pub use failure::Failure;
pub use gc::collect;
pub(crate) use publish_routes::{elsewhere, publish_routes, set_platform_gateway};
pub(crate) use rebuild_veth::rebuild_veth;
pub use status::status;
pub use step_runner::StepRunner;
