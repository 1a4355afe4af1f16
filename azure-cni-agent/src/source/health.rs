//! How the source of the pool does: what an operator is told of it. Pure: times are arguments, in seconds since 1970.

/// As seen by the agent that keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// When what is known was last confirmed by the source, in this run of the agent or an earlier one.
    confirmed_unix_secs: Option<u64>,
    /// Why the last attempt failed; `None`: it did not.
    last_error: Option<String>,
    /// What the source says and the agent cannot do.
    cannot_follow: Option<String>,
    pub attempts: u64,
    pub failures: u64,
    pub changes: u64,
}

impl Health {
    /// Of a source whose word of `unix_secs` is known.
    pub fn confirmed_at(unix_secs: u64) -> Self {
        Self { confirmed_unix_secs: Some(unix_secs), ..Self::default() }
    }

    /// An attempt has succeeded.
    pub fn succeeded(&mut self, unix_secs: u64) {
        self.attempts += 1;
        self.confirmed_unix_secs = Some(unix_secs);
        self.last_error = None;
    }

    /// Nothing stands in the way of following the source any more.
    pub fn follows(&mut self) {
        self.cannot_follow = None;
    }

    /// An attempt has failed; whether that is news, as it is not the same failure again.
    pub fn failed(&mut self, error: String) -> bool {
        self.attempts += 1;
        self.failures += 1;
        let news = self.last_error.as_ref() != Some(&error);
        self.last_error = Some(error);
        news
    }

    /// The source was understood and cannot be followed; whether that is news.
    pub fn cannot_follow(&mut self, why: String) -> bool {
        let news = self.cannot_follow.as_ref() != Some(&why);
        self.cannot_follow = Some(why);
        news
    }

    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Seconds since what is known was confirmed; `None`: it never was.
    pub fn age_secs(&self, now_unix_secs: u64) -> Option<u64> {
        self.confirmed_unix_secs.map(|confirmed| now_unix_secs.saturating_sub(confirmed))
    }

    /// What is in use is older than the last attempt to renew it.
    pub fn is_stale(&self) -> bool {
        self.last_error.is_some() || self.cannot_follow.is_some()
    }

    /// What an operator should look at, one sentence each.
    pub fn problems(&self, now_unix_secs: u64) -> Vec<String> {
        let since = self.age_secs(now_unix_secs).map_or_else(String::new, |secs| format!(", as of {secs} s ago"));
        let stale = self.last_error.iter().map(|error| format!("{error}; what is known stays in use{since}"));
        stale.chain(self.cannot_follow.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_fails_leaves_what_is_known_stale_until_it_answers_again() {
        let mut health = Health::confirmed_at(100);
        assert_eq!((health.is_stale(), health.problems(110)), (false, vec![]));
        assert!(health.failed("wireserver: no connection".into()));
        assert!(!health.failed("wireserver: no connection".into()), "the same again is no news");
        assert_eq!(health.problems(110), ["wireserver: no connection; what is known stays in use, as of 10 s ago"]);
        assert!(health.is_stale());
        health.succeeded(120);
        assert_eq!((health.is_stale(), health.age_secs(125)), (false, Some(5)));
        assert!(health.failed("wireserver: no connection".into()), "after a success it is news again");
        assert_eq!((health.attempts, health.failures), (4, 3));
    }

    #[test]
    fn what_cannot_be_followed_is_a_problem_though_the_source_answers() {
        let mut health = Health::default();
        health.succeeded(100);
        assert!(health.cannot_follow("restart".into()));
        assert!(!health.cannot_follow("restart".into()));
        assert_eq!((health.is_stale(), health.problems(100)), (true, vec!["restart".to_owned()]));
        health.succeeded(101);
        assert!(!health.cannot_follow("restart".into()), "it is still so");
        health.follows();
        assert_eq!(health.problems(101), [""; 0]);
    }

    #[test]
    fn an_age_is_never_negative_when_the_clock_is_set_back() {
        assert_eq!(Health::confirmed_at(100).age_secs(50), Some(0));
        assert_eq!(Health::default().age_secs(50), None);
    }
}
