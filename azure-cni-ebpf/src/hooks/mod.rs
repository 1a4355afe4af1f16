//! One program per file; each composes its steps in the order in which a packet meets them.

mod from_endpoint;
mod from_wire;
mod to_endpoint;
mod to_wire;
