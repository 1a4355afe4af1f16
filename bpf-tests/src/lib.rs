//! Runs the real programs on packets that the test made: packet in, verdict and packet out.
//!
//! Programs are loaded by the agent's own loader, into a network namespace, a mount namespace and a bpffs of the test's
//! own: everything is gone when the test's thread and the programs are. A machine that cannot do this fails the test.

mod packets;
mod rig;

pub use packets::{Frame, checksums_are_right};
pub use rig::{Outcome, Rig, Verdict};
