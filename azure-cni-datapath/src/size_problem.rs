//! Tables whose size is not the one that was asked for.

use std::fmt;

use crate::sizes::Wanted;

/// A table that has another size than the one that was asked for, or that has lost entries when it got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeProblem {
    pub table: String,
    /// Entries.
    pub asked: u32,
    pub in_force: u32,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// So many entries are in use, which the size asked for has no room for.
    InUse(u64),
    /// An agent was killed while it gave the table this size; first that is finished.
    Unfinished,
    /// The kernel's error.
    NotMade(String),
    /// The table ran full in the moment in which it was made smaller.
    Lost(u64),
}

impl SizeProblem {
    pub(crate) fn new(wanted: &Wanted, in_force: u32, why: Why) -> Self {
        Self { table: wanted.name.clone(), asked: wanted.shape.max_entries, in_force, why }
    }
}

impl fmt::Display for SizeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, asked, in_force, why } = self;
        match why {
            Why::Lost(lost) => {
                return write!(
                    f,
                    "table {table} ran full when it was made smaller ({asked} entries): {lost} entries were lost"
                );
            }
            _ => write!(f, "table {table} keeps {in_force} entries, and {asked} are configured: ")?,
        }
        match why {
            Why::InUse(used) => write!(
                f,
                "{used} are in use, and none of them is dropped. Restart azure-cni-agent once there are fewer, or configure \
                 more"
            ),
            Why::NotMade(error) => write!(
                f,
                "the kernel cannot make it ({error}). Configure fewer, or free memory and restart azure-cni-agent"
            ),
            _ => write!(f, "a change that an earlier agent had begun was finished first. Restart azure-cni-agent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_was_asked_for_what_is_in_force_and_what_to_do() {
        for (why, says) in [
            (Why::InUse(3500), "3500 are in use"),
            (Why::Unfinished, "finished first"),
            (Why::NotMade("ENOMEM".to_owned()), "ENOMEM"),
        ] {
            let text = SizeProblem { table: "FLOWS4".to_owned(), asked: 2048, in_force: 4096, why }.to_string();
            for part in ["FLOWS4", "2048", "4096", says, "azure-cni-agent"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        let lost = SizeProblem { table: "NAT6".to_owned(), asked: 9, in_force: 9, why: Why::Lost(2) }.to_string();
        assert!(lost.contains("NAT6") && lost.contains("2 entries were lost"), "{lost}");
    }
}
