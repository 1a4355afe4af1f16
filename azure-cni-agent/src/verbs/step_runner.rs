//! Runs the steps of one call: each within its limit, with the time it took.
//!
//! The rule: blocking work goes on after its limit has passed. Callers that undo or repeat a step first wait for
//! [`StepRunner::wait_for_overdue`].

use std::fmt;
use std::pin::Pin;
use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::steps::{Faults, Step};

#[derive(Default)]
pub struct StepRunner {
    faults: Faults,
    taken: Vec<(Step, Duration)>,
    overdue: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl StepRunner {
    pub fn new(faults: Faults) -> Self {
        Self { faults, ..Self::default() }
    }

    /// Each step that began, in order, with the time it took.
    pub fn taken(&self) -> &[(Step, Duration)] {
        &self.taken
    }

    /// Runs a step. If its limit passes, the caller undoes what the step has done.
    pub(super) async fn run<T>(
        &mut self,
        step: Step,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let faults = self.faults;
        let done = tokio::time::timeout(step.limit(), async {
            let value = work.await?;
            faults.after(step).await?;
            Ok(value)
        });
        let result = done.await.unwrap_or(Err(Failure::Overdue { step: step.name(), limit: step.limit() }));
        self.taken.push((step, began.elapsed()));
        result
    }

    /// Runs a step that blocks its thread.
    pub(super) async fn run_blocking<T: Send + 'static>(
        &mut self,
        step: Step,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut job = tokio::task::spawn_blocking(work);
        let result = self
            .run(step, async {
                match (&mut job).await {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                }
            })
            .await;
        if !job.is_finished() {
            self.overdue.push(Box::pin(async {
                let _ = job.await;
            }));
        }
        result
    }

    /// Waits for blocking work that went on after its limit.
    pub(super) async fn wait_for_overdue(&mut self) {
        for job in self.overdue.drain(..) {
            job.await;
        }
    }
}

/// For the log, in milliseconds: `lease=0.012 veth=0.404`.
impl fmt::Display for StepRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (step, duration)) in self.taken.iter().enumerate() {
            let separator = if number == 0 { "" } else { " " };
            write!(f, "{separator}{}={:.3}", step.name(), duration.as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_that_takes_too_long_is_named_and_ends() {
        let mut steps = StepRunner::default();
        steps.run(Step::Lease, async { Ok(()) }).await.unwrap();
        let failure = steps.run(Step::Veth, std::future::pending::<Result<(), _>>()).await.unwrap_err();
        assert_eq!(failure.to_string(), "step veth took longer than 4 s");
        let error = azure_cni_api::cni::CniError::from(failure);
        assert_eq!(u32::from(error.code), 11);
        assert_eq!(steps.taken().iter().map(|(step, _)| *step).collect::<Vec<_>>(), [Step::Lease, Step::Veth]);
        assert!(steps.to_string().starts_with("lease=0.0"), "{steps}");
    }

    #[tokio::test]
    async fn work_that_blocks_beyond_its_time_is_waited_for_before_it_is_undone() {
        let (release, held) = mpsc::channel::<()>();
        let (done, is_done) = mpsc::channel();
        let mut steps = StepRunner::default();
        tokio::time::pause();
        let overdue = steps.run_blocking(Step::Maps, move || {
            let _ = held.recv();
            done.send(()).map_err(|_| Failure::NotReady("maps".to_owned()))
        });
        // Blocking work keeps the paused clock from going on by itself.
        let (result, ()) = tokio::join!(overdue, async {
            tokio::task::yield_now().await;
            tokio::time::advance(Step::Maps.limit() + Duration::from_secs(1)).await;
        });
        assert!(result.unwrap_err().to_string().contains("maps"));
        assert!(is_done.try_recv().is_err(), "the work still blocks");
        release.send(()).unwrap();
        steps.wait_for_overdue().await;
        is_done.try_recv().expect("the work has ended");
    }
}
