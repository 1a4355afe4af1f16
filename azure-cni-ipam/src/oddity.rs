//! What a listing says that is not used, for an operator: one sentence each, with its place.
//!
//! The rule: an oddity takes away what it is about, and nothing else. Texts from outside are cut where they come in.

use azure_cni_api::excerpt::{bounded, excerpt};

/// How many are kept in full: a document may have thousands.
const MAX_KEPT: usize = 16;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oddities {
    kept: Vec<String>,
    more: usize,
}

impl Oddities {
    pub fn push(&mut self, sentence: &str) {
        if self.kept.len() < MAX_KEPT {
            self.kept.push(bounded(sentence));
        } else {
            self.more += 1;
        }
    }

    /// A value that is not what it should be.
    pub(super) fn value(&mut self, at: &str, value: &str, problem: &str) {
        self.push(&format!("{at} = {}: the value {problem}; it is not used", excerpt(value)));
    }

    pub fn sentences(&self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        self.kept.iter().cloned().chain(more).collect()
    }

    /// The end of an error that they may explain; empty if there are none.
    pub(super) fn explanation(&self) -> String {
        if self.kept.is_empty() { String::new() } else { bounded(&format!("; {}", self.sentences().join("; "))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_oddities_makes_a_short_report() {
        let mut oddities = Oddities::default();
        assert_eq!((oddities.explanation(), oddities.sentences().len()), (String::new(), 0));
        for _ in 0..10_000 {
            oddities.value("interface[0].macAddress", &"x".repeat(1 << 20), "is not a MAC address");
        }
        let sentences = oddities.sentences();
        assert_eq!(sentences.last().unwrap(), "and 9984 more");
        assert!(sentences.concat().len() < 4096 && oddities.explanation().len() < 1100);
    }
}
