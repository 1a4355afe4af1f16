//! Every promise, by its number.

use super::promise::{
    Bound::{AtLeast, AtMost},
    Place::{Most, Only, Value},
    Promise,
    Quantity::{self, Itself, RatioTo, RatioToFirst, Worst},
};
use crate::{unit::Unit, variant::Variant};

/// In nanoseconds.
const MICROSECOND: f64 = 1e3;
const MILLISECOND: f64 = 1e6;
const SECOND: f64 = 1e9;
const MIB: f64 = 1024.0 * 1024.0;

pub(super) const BARE: Quantity = RatioTo(Variant::Bare);
pub(super) const BRIDGE: Quantity = RatioTo(Variant::Bridge);
pub(super) const TIME: Quantity = Itself(Unit::Nanoseconds);
const SIZE: Quantity = Itself(Unit::Bytes);
pub(super) const LOST: Quantity = Worst(Unit::Count);

/// A number is never given to another promise.
pub(crate) static PROMISES: [Promise; 19] = [
    Promise::new(1, "Same VM: small packets", "same-vm/packet-rate", Only, BARE, AtLeast(0.75))
        .aiming_at(AtLeast(0.95)),
    Promise::new(2, "Same VM: connections", "same-vm/connection-rate", Only, BARE, AtLeast(0.7))
        .aiming_at(AtLeast(0.95)),
    Promise::new(3, "Same VM: one TCP stream", "same-vm/throughput-1", Only, BARE, AtLeast(0.65))
        .aiming_at(AtLeast(0.95)),
    Promise::new(4, "Across VMs: small packets", "across-vms/packet-rate", Only, BRIDGE, AtLeast(1.4))
        .aiming_at(AtLeast(1.9)),
    Promise::new(5, "Across VMs: connections", "across-vms/connection-rate", Only, BRIDGE, AtLeast(1.2))
        .aiming_at(AtLeast(1.8)),
    Promise::new(6, "Internet: small packets through source NAT", "internet/packet-rate", Only, BRIDGE, AtLeast(1.1))
        .aiming_at(AtLeast(1.6)),
    Promise::new(7, "Internet: connections through source NAT", "internet/connection-rate", Only, BRIDGE, AtLeast(1.0))
        .aiming_at(AtLeast(1.5)),
    Promise::new(8, "A full VM: a packet costs the same", "scale-pods/packet-cost", Most, RatioToFirst, AtMost(1.25))
        .aiming_at(AtMost(1.03)),
    Promise::new(
        9,
        "A full VM: a connection costs the same",
        "scale-pods/connection-cost",
        Most,
        RatioToFirst,
        AtMost(1.25),
    )
    .aiming_at(AtMost(1.03)),
    Promise::new(10, "No datagram is lost when the agent restarts", "restart/restarted-lost", Only, LOST, AtMost(0.0)),
    Promise::new(11, "No datagram is lost when the agent is killed", "restart/killed-lost", Only, LOST, AtMost(0.0)),
    Promise::new(12, "A full VM: one ADD, p50", "calls/add-p50", Most, TIME, AtMost(15.0 * MILLISECOND))
        .aiming_at(AtMost(5.0 * MILLISECOND)),
    Promise::new(13, "A full VM: all ADDs at once", "calls/add-all", Most, TIME, AtMost(3.0 * SECOND)),
    Promise::new(14, "A full VM: the agent's resident memory", "calls/agent-memory", Only, SIZE, AtMost(64.0 * MIB)),
    Promise::new(15, "A flow's memory, IPv4", "memory/IPv4", Only, SIZE, AtMost(104.0)),
    Promise::new(16, "A flow's memory, IPv4, translated", "memory/IPv4, translated", Only, SIZE, AtMost(192.0)),
    Promise::new(17, "A flow's memory, IPv6", "memory/IPv6", Only, SIZE, AtMost(128.0)),
    Promise::new(18, "A flow's memory, IPv6, translated", "memory/IPv6, translated", Only, SIZE, AtMost(256.0)),
    Promise::new(
        19,
        "A lease and its release, with as many addresses as a network's pods may have",
        "leases/lease",
        Value(16_000),
        TIME,
        AtMost(2.0 * MICROSECOND),
    ),
];
