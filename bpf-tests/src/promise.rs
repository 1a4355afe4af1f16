//! What a case of a packet table promises, and how it is held to it.

use azure_cni_common::drop_reason::DropReason;

use crate::checksums::checksums_are_right;
use crate::frame::Frame;
use crate::run::{Outcome, Verdict};

#[derive(Debug, Clone)]
pub enum Promise {
    /// On to the next program and the host's stack, byte for byte as it came.
    Untouched,
    /// On to the next program and the host's stack, as this packet.
    Passes(Frame),
    /// Into the pod that has the packet's destination, as this packet, in a frame from the host veth to the pod's MAC.
    ToPod(Frame),
    /// Out of the uplink, as this packet, marked as done.
    ToWire(Frame),
    Dropped(DropReason),
}

impl Outcome {
    /// Verdict, every byte, the mark, and that no other counter moved than the reason's.
    #[track_caller]
    pub fn keeps(&self, what: &str, promise: &Promise) {
        let (verdict, packet, drops) = match promise {
            Promise::Untouched => (Verdict::Pass, None, vec![]),
            Promise::Passes(packet) => (Verdict::Pass, Some(packet), vec![]),
            Promise::ToPod(packet) => (Verdict::ToPod, Some(packet), vec![]),
            Promise::ToWire(packet) => (Verdict::ToWire, Some(packet), vec![]),
            Promise::Dropped(reason) => (Verdict::Drop, None, vec![*reason]),
        };
        assert_eq!(self.verdict, verdict, "{what}: verdict, with {:?} counted", self.drops);
        assert_eq!(self.drops, drops, "{what}: counters that moved");
        match packet {
            _ if verdict == Verdict::Drop => {}
            None => assert_eq!(self.frame.bytes, self.sent.bytes, "{what}: changed"),
            Some(expected_frame) => {
                let [out, expected] = [&self.frame, expected_frame].map(|frame| hex(frame.packet()));
                assert_eq!(out, expected, "{what}: packet out");
                let link_header = match verdict {
                    Verdict::ToPod => expected_frame.for_its_pod(),
                    _ => self.sent.clone(),
                };
                assert_eq!(self.frame.bytes[..14], link_header.bytes[..14], "{what}: link header");
                checksums_are_right(&self.frame.bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
    }
}

/// Words of four bytes, as headers are drawn in RFCs.
fn hex(packet: &[u8]) -> Vec<String> {
    packet.chunks(4).map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}
