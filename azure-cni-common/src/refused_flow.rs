//! What the programs report of a flow that was refused.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::family::Be16;

/// A flow that was refused, for the agent to tell. Ring buffer `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct RefusedFlow {
    /// IPv4: the first four octets.
    pub source: [u32; 4],
    pub destination: [u32; 4],
    pub source_port: Be16,
    pub destination_port: Be16,
    /// [`crate::drop_reason::DropReason::number`].
    pub reason: u16,
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
    /// How often such a flow was refused since the last report of one.
    pub count: u32,
}

const _: () = assert!(size_of::<RefusedFlow>() == 44);
