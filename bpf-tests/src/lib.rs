//! Runs the real programs on packets that the test made: packet in, verdict and packet out.
//!
//! Programs are loaded by the agent's own loader, into a network namespace, a mount namespace and a bpffs of the test's
//! own. A machine that cannot do this fails the test.

mod node;
mod rig;
mod run;

mod edits;
mod frame;
mod promise;

mod counting;

mod cable;
mod checksums;
mod circle;
mod memory;

pub use cable::{Cable, Fate};
pub use checksums::checksums_are_right;
pub use counting::{Code, Counter, load_counting};
pub use edits::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
pub use frame::{Frame, IcmpError};
pub use memory::{locked_bytes, now_ns, tuple};
pub use node::{AZV_MAC, NIC_MAC, ifindex};
pub use promise::Promise;
pub use rig::Rig;
pub use run::{Offload, Outcome, Verdict};
