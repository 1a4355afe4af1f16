//! What has to be taken back when a later step fails, last step first.

use std::future::Future;
use std::pin::Pin;

type Action = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A stack of undo actions. Forgotten when the work is done, run when it is not.
#[derive(Default)]
pub struct Undo {
    actions: Vec<(&'static str, Action)>,
}

impl Undo {
    /// Pushes the undo of the step that has just been done. It starts only when it is run.
    pub fn push<E: std::fmt::Display>(
        &mut self,
        step: &'static str,
        action: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.actions.push((step, Box::pin(async { action.await.map_err(|error| error.to_string()) })));
    }

    /// Runs everything, also past failures, which are logged: the failure that led here is what the caller reports.
    pub async fn run(mut self) {
        while let Some((step, action)) = self.actions.pop() {
            if let Err(error) = action.await {
                tracing::error!(step, error, "could not be undone");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn actions_run_in_reverse_and_past_failures() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut undo = Undo::default();
        for (name, fails) in [("lease", false), ("veth", true), ("maps", false)] {
            let order = order.clone();
            undo.push(name, async move {
                order.lock().unwrap().push(name);
                if fails { Err("busy") } else { Ok(()) }
            });
        }
        undo.run().await;
        assert_eq!(*order.lock().unwrap(), ["maps", "veth", "lease"]);
    }
}
