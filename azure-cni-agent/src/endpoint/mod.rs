//! What is built for a pod: the gateways that operators of the transparent mode know, an endpoint as a value, and the
//! steps that configure the pod's and the host's side.

mod gateway;
mod label;
mod options;
mod sides;
mod spec;

pub use gateway::{GATEWAY, GATEWAY6, IPV6_MIN_MTU, PLATFORM_GATEWAY_MAC, gateway_for};
pub use label::is_ours;
pub use options::PodOptions;
pub use sides::{EndpointError, await_usable, configure_host_side, configure_pod_side, index_of};
pub use spec::{Endpoint, addresses_of};
