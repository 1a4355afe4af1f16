//! Permission for aya to hand the map types to the kernel as bytes: the only `unsafe` of this crate.
//!
//! The compiler checks what makes it safe. zerocopy's derives say that all bytes are a value (`FromBytes`) and that a value has no
//! bytes that are not set (`IntoBytes`). They cannot say the latter of types with a parameter; there the fields are added up.
#![allow(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::bandwidth::Limits;
use crate::egress::RouteClass;
use crate::endpoint::{EndpointEntry, Slot};
use crate::family::{Ipv4, Ipv6};
use crate::flow::{Flow, FlowKey};
use crate::fragments::{FragmentKey, FragmentPorts};
use crate::icmp_budget::IcmpBudget;
use crate::lifetime::Timeouts;
use crate::nat::{NatHolder, NatKey, PortRange};
use crate::pod_flows::PodFlows;
use crate::recent_refusal::RecentRefusal;
use crate::refused_flow::RefusedFlow;

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        $(
            const _: () = is_bytes::<$type>();
            // SAFETY: any bytes are a value, and each value is bytes, as the line above has the compiler check.
            unsafe impl aya::Pod for $type {}
        )+
    };
}

macro_rules! pod_of_both_families {
    ($($type:ident { $($field:ident),+ })+) => {
        $(pod_of_both_families!(both $type<Ipv4>, $type<Ipv6> => $($field),+);)+
    };
    (both $v4:ty, $v6:ty => $($field:ident),+) => {
        pod_of_both_families!(one $v4 => $($field),+);
        pod_of_both_families!(one $v6 => $($field),+);
    };
    (one $type:ty => $($field:ident),+) => {
        const _: () = is_from_bytes::<$type>();
        const _: () = assert!(size_of::<$type>() == 0 $(+ size_of_field(|value: &$type| &value.$field))+);
        // SAFETY: any bytes are a value. Each value is bytes: its fields are, and they leave no room between them. The lines above
        // have the compiler check both.
        unsafe impl aya::Pod for $type {}
    };
}

pod!(
    EndpointEntry,
    Flow,
    FragmentPorts,
    IcmpBudget,
    Ipv4,
    Ipv6,
    Limits,
    PodFlows,
    PortRange,
    RecentRefusal,
    RefusedFlow,
    RouteClass,
    Timeouts
);

pod_of_both_families! {
    FlowKey { low, high, low_port, high_port, protocol }
    FragmentKey { source, destination, identification, protocol }
    NatHolder { address, port, claimed }
    NatKey { remote, node, remote_port, node_port, protocol }
    Slot { address, endpoint, check }
}

const fn is_bytes<T: FromBytes + IntoBytes + Immutable>() {}

const fn is_from_bytes<T: FromBytes + Immutable>() {}

const fn size_of_field<T, Field: IntoBytes + Immutable>(_: fn(&T) -> &Field) -> usize {
    size_of::<Field>()
}
