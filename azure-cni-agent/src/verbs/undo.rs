//! Undoes the steps of a call when a later step fails, the last step first.

use std::future::Future;
use std::pin::Pin;

type Action = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A stack of undo actions. Drop it when the call succeeds, run it when the call fails.
#[derive(Default)]
pub struct Undo {
    actions: Vec<(&'static str, Action)>,
}

impl Undo {
    /// Pushes the undo of a step. The action starts only when the stack is run.
    pub fn push<E: std::fmt::Display>(
        &mut self,
        step: &'static str,
        action: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.actions.push((step, Box::pin(async { action.await.map_err(|error| error.to_string()) })));
    }

    /// Runs every action. Failures are logged and do not stop it: the caller reports the failure that led here.
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
