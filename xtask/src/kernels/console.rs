//! What a guest's console says, and what came of it.

use std::fmt;

use super::{catalogue::Series, step::Step};

/// What a guest says of a step that begins or ends; see `init.sh`.
const MARK: &str = "@@ ";

/// What begins a cell of a kernel that was not there.
pub(super) const NOT_TRIED: &str = "not tried";

const PROGRAMS: [&str; 4] = ["from_endpoint", "to_endpoint", "from_wire", "to_wire"];

/// Of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tests {
    step: String,
    passed: u32,
    failed: Vec<String>,
    /// Exit status; none while it runs, or if the guest never got to its end.
    status: Option<i32>,
    /// This kernel has nothing to try there.
    is_passed_by: bool,
}

/// Reads a console line by line.
#[derive(Debug, Default)]
pub(crate) struct Console {
    steps: Vec<Tests>,
    /// Instructions that the verifier walked through, of [`PROGRAMS`].
    instructions: [Option<u32>; 4],
}

impl Console {
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(mark) = line.split_once(MARK).map(|(_, mark)| mark) {
            if let Some(step) = mark.strip_prefix("begin ") {
                self.steps.push(Tests { step: step.to_owned(), ..Tests::default() });
            } else if let Some(step) = mark.strip_prefix("pass ") {
                self.steps.push(Tests { step: step.to_owned(), is_passed_by: true, ..Tests::default() });
            } else if let (Some(end), Some(last)) = (mark.strip_prefix("end "), self.steps.last_mut()) {
                last.status = end.rsplit_once(' ').and_then(|(_, status)| status.parse().ok());
            }
            return;
        }
        let Some(last) = self.steps.last_mut() else { return };
        let test = line.strip_prefix("test ").and_then(|test| test.rsplit_once(" ... "));
        match test {
            Some((name, "FAILED")) => last.failed.push(name.to_owned()),
            Some((_, "ok")) => last.passed += 1,
            _ => {
                // With the tests' own output shown, the verdict of a test has a line of its own.
                match line {
                    "ok" => last.passed += 1,
                    "FAILED" => last.failed.push("a test".to_owned()),
                    _ => self.read_count(line),
                }
            }
        }
    }

    /// `PROGRAM INSTRUCTIONS …`, as the test of the ceilings prints it.
    fn read_count(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (Some(program), Some(count)) = (words.next(), words.next()) else { return };
        if let (Some(index), Ok(count)) = (PROGRAMS.iter().position(|name| *name == program), count.parse()) {
            self.instructions[index] = Some(count);
        }
    }

    pub(crate) fn has_begun(&self) -> bool {
        !self.steps.is_empty()
    }

    pub(crate) fn outcome(self, release: &str, wanted: &[Step]) -> Outcome {
        let missing = wanted.get(self.steps.len()..).unwrap_or_default();
        let mut steps = self.steps;
        steps.extend(missing.iter().map(|step| Tests { step: step.name.to_owned(), ..Tests::default() }));
        Outcome { release: release.to_owned(), steps, instructions: self.instructions, missing: None }
    }
}

/// Where it is.
impl fmt::Display for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.steps.last() {
            None => f.write_str("boots"),
            Some(step) => write!(f, "{}: {} passed, {} failed", step.step, step.passed, step.failed.len()),
        }
    }
}

impl Tests {
    fn has_failed(&self) -> bool {
        !self.is_passed_by && (self.status != Some(0) || self.passed == 0)
    }
}

impl fmt::Display for Tests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_passed_by {
            return write!(f, "{}: not on this kernel", self.step);
        }
        write!(f, "{}: {} passed", self.step, self.passed)?;
        if !self.failed.is_empty() {
            write!(f, ", failed: {}", self.failed.join(" "))?;
        } else if self.has_failed() {
            f.write_str(", and did not end well")?;
        }
        Ok(())
    }
}

/// What came of one kernel.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(super) release: String,
    steps: Vec<Tests>,
    pub(super) instructions: [Option<u32>; 4],
    /// Why there was no kernel to try.
    missing: Option<&'static str>,
}

impl Outcome {
    pub(crate) fn none(series: &Series, why: &'static str) -> Self {
        Self { release: series.name.to_owned(), steps: Vec::new(), instructions: [None; 4], missing: Some(why) }
    }

    /// A cell of the document: how one of the steps ended. None: it was not asked for.
    pub(super) fn cell(&self, name: &str) -> Option<String> {
        if let Some(why) = self.missing {
            return Some(format!("{NOT_TRIED}: {why}"));
        }
        let step = self.steps.iter().find(|step| step.step == name)?;
        Some(match step {
            step if step.is_passed_by => "-".to_owned(),
            step if !step.has_failed() => format!("{} passed", step.passed),
            step => step.to_string(),
        })
    }

    pub(crate) fn has_run(&self) -> bool {
        self.missing.is_none()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.steps.iter().any(Tests::has_failed)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.release)?;
        if let Some(why) = self.missing {
            return write!(f, "{NOT_TRIED}, {why}");
        }
        let steps: Vec<String> = self.steps.iter().map(Tests::to_string).collect();
        f.write_str(&steps.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 2] = [
        Step { name: "load", jit: true, lacks: None, binary: "", arguments: "" },
        Step { name: "end to end", jit: true, lacks: None, binary: "", arguments: "" },
    ];

    fn outcome(console: &str) -> Outcome {
        let mut read = Console::default();
        console.lines().for_each(|line| read.read(line));
        read.outcome("6.1.0-56", &STEPS)
    }

    #[test]
    fn steps_that_end_well_are_counted() {
        let said = "boot\n@@ begin load\ntest a ... ok\nto_wire   277  112  320\n@@ end load 0\n@@ begin end to end\ntest b ... ok\n@@ end end to end 0\n";
        let outcome = outcome(said);
        assert!(!outcome.has_failed());
        assert_eq!(outcome.instructions, [None, None, None, Some(277)]);
        assert_eq!(outcome.to_string(), "6.1.0-56: load: 1 passed; end to end: 1 passed");
    }

    #[test]
    fn a_test_that_fails_is_named() {
        let outcome = outcome(
            "@@ begin load\ntest a::b ... FAILED\n@@ end load 101\n@@ begin end to end\ntest c ... ok\n@@ end end to end 0\n",
        );
        assert!(outcome.has_failed());
        assert!(outcome.to_string().contains("failed: a::b"), "{outcome}");
    }

    #[test]
    fn a_guest_that_ends_early_has_failed() {
        for said in ["", "@@ begin load\ntest a ... ok\n@@ end load 0\n", "@@ begin load\ntest a ... ok\n"] {
            assert!(outcome(said).has_failed(), "{said}");
        }
    }

    #[test]
    fn a_step_in_which_no_test_ran_has_failed() {
        assert!(
            outcome("@@ begin load\n@@ end load 0\n@@ begin end to end\ntest b ... ok\n@@ end end to end 0\n")
                .has_failed()
        );
    }

    #[test]
    fn a_step_that_a_kernel_passes_by_has_not_failed() {
        let outcome = outcome("@@ pass load\n@@ begin end to end\ntest b ... ok\n@@ end end to end 0\n");
        assert!(!outcome.has_failed());
        assert!(outcome.to_string().contains("load: not on this kernel"), "{outcome}");
    }
}
