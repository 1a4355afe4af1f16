//! The CNI protocol as types: calls of a runtime, and our answers. Pure: this code touches no file, socket, environment or
//! clock, so that plugin and agent judge a call by the same rules.

mod environment;
mod invocation;

pub mod attachment;

mod args;
mod bandwidth;
mod error;
mod fields;
mod netconf;
mod result;
mod runtime_requests;
#[cfg(any(test, feature = "samples"))]
pub mod sample;
mod version;

pub use args::CniArgs;
pub use attachment::{AttachmentId, ContainerId, InterfaceName, NetworkName};
pub use environment::{Command, Environment};
pub use error::{CniError, ErrorCode, ErrorObject};
pub use invocation::{AddCall, CheckCall, DelCall, GcCall, Invocation, StatusCall};
pub use netconf::{CAPABILITIES, NetConf, Network, decode};
pub use result::{AddResult, Dns, Interface, IpConfig, Route};
pub use runtime_requests::PUBLIC_ANNOTATION;
pub use version::{CniVersion, reported_version, version_answer};
