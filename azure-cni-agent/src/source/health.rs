//! The health of the pool's source, as `status` shows it. Pure: times are arguments, in seconds since 1970.

use azure_cni_api::excerpt::bounded;

/// What the agent has seen of its source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// When the source last confirmed the pool in use, in this run of the agent or an earlier one.
    confirmed_unix_secs: Option<u64>,
    /// Why the last poll failed; `None`: it did not.
    last_error: Option<String>,
    /// What the source lists and the agent cannot apply.
    cannot_apply: Option<String>,
    pub attempts: u64,
    pub failures: u64,
    pub changes: u64,
}

impl Health {
    /// Of a source that last confirmed the pool in use at `unix_secs`.
    pub fn confirmed_at(unix_secs: u64) -> Self {
        Self { confirmed_unix_secs: Some(unix_secs), ..Self::default() }
    }

    /// A poll has succeeded.
    pub fn succeeded(&mut self, unix_secs: u64) {
        self.attempts += 1;
        self.confirmed_unix_secs = Some(unix_secs);
        self.last_error = None;
    }

    /// The agent applies everything that the source lists.
    pub fn applied(&mut self) {
        self.cannot_apply = None;
    }

    /// A poll has failed. True if the failure is new, false if it is the same as before.
    pub fn failed(&mut self, error: String) -> bool {
        self.attempts += 1;
        self.failures += 1;
        // It may quote what came from outside.
        let error = bounded(&error);
        let is_new = self.last_error.as_ref() != Some(&error);
        self.last_error = Some(error);
        is_new
    }

    /// The agent understands the source and cannot apply what it lists. True if the reason is new.
    pub fn cannot_apply(&mut self, why: String) -> bool {
        let is_new = self.cannot_apply.as_ref() != Some(&why);
        self.cannot_apply = Some(why);
        is_new
    }

    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Seconds since the source confirmed the pool in use; `None`: it never did.
    pub fn age_secs(&self, now_unix_secs: u64) -> Option<u64> {
        self.confirmed_unix_secs.map(|confirmed| now_unix_secs.saturating_sub(confirmed))
    }

    /// The pool in use is not what the last poll should have brought.
    pub fn is_stale(&self) -> bool {
        self.last_error.is_some() || self.cannot_apply.is_some()
    }

    /// Problems for an operator, one sentence each.
    pub fn problems(&self, now_unix_secs: u64) -> Vec<String> {
        let since = self.age_secs(now_unix_secs).map_or_else(String::new, |secs| format!(", as of {secs} s ago"));
        let stale = self.last_error.iter().map(|error| format!("{error}; the last confirmed pool stays in use{since}"));
        stale.chain(self.cannot_apply.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_source_leaves_the_pool_stale_until_a_poll_succeeds() {
        let mut health = Health::confirmed_at(100);
        assert_eq!((health.is_stale(), health.problems(110)), (false, vec![]));
        assert!(health.failed("wireserver: no connection".into()));
        assert!(!health.failed("wireserver: no connection".into()), "the same failure is not new");
        assert_eq!(
            health.problems(110),
            ["wireserver: no connection; the last confirmed pool stays in use, as of 10 s ago"]
        );
        assert!(health.is_stale());
        health.succeeded(120);
        assert_eq!((health.is_stale(), health.age_secs(125)), (false, Some(5)));
        assert!(health.failed("wireserver: no connection".into()), "after a success it is new again");
        assert_eq!((health.attempts, health.failures), (4, 3));
    }

    #[test]
    fn a_list_that_cannot_be_applied_is_a_problem_though_the_polls_succeed() {
        let mut health = Health::default();
        health.succeeded(100);
        assert!(health.cannot_apply("restart".into()));
        assert!(!health.cannot_apply("restart".into()));
        assert_eq!((health.is_stale(), health.problems(100)), (true, vec!["restart".to_owned()]));
        health.succeeded(101);
        assert!(!health.cannot_apply("restart".into()), "the reason is still the same");
        health.applied();
        assert_eq!(health.problems(101), [""; 0]);
    }

    #[test]
    fn an_age_is_never_negative_when_the_clock_is_set_back() {
        assert_eq!(Health::confirmed_at(100).age_secs(50), Some(0));
        assert_eq!(Health::default().age_secs(50), None);
    }
}
