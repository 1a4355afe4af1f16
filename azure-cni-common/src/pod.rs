//! Leave for aya to hand the map types to the kernel as bytes.
#![allow(unsafe_code)]

use crate::conntrack::Timeouts;
use crate::egress::RouteClass;
use crate::endpoint::{Endpoint, Slot};
use crate::family::{Ipv4, Ipv6};
use crate::flow::{Flow, FlowKey};
use crate::fragments::{FragmentKey, FragmentPorts};
use crate::nat::{NatHolder, NatKey, PortRange};
use crate::refused_flow::RefusedFlow;

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: `repr(C)` or transparent, made of integers only, without implicit padding (the sizes asserted
            // beside the types are the sums of their fields): every bit pattern is a value.
            unsafe impl aya::Pod for $type {}
        )+
    };
}

pod!(
    Endpoint,
    FragmentKey<Ipv4>,
    FragmentKey<Ipv6>,
    FragmentPorts,
    Flow,
    FlowKey<Ipv4>,
    FlowKey<Ipv6>,
    Ipv4,
    Ipv6,
    NatHolder<Ipv4>,
    NatHolder<Ipv6>,
    NatKey<Ipv4>,
    NatKey<Ipv6>,
    PortRange,
    RefusedFlow,
    RouteClass,
    Slot<Ipv4>,
    Slot<Ipv6>,
    Timeouts,
);
