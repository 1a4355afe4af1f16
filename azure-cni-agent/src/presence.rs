//! Who answers on the socket: the agent, or nobody while it starts again.
//!
//! The rule: to a caller, an agent that starts again is an agent that restarts. Callers wait for it, and are then told why it is away;
//! DEL and GC are left to the spool.

use std::sync::Arc;
use std::time::Duration;

use azure_cni_api::cni::{CniError, Command};
use azure_cni_api::socket::Request;
use tokio::sync::watch;

use crate::agent::Agent;

/// A start takes a second or two, and several times as long on a machine that is busy: STATUS must not fail for that. The plugin ends
/// after a minute.
const RESTART_WAIT: Duration = Duration::from_secs(20);
/// The operator's command ends after ten seconds.
const OPERATOR_WAIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
enum State {
    Serving(Arc<Agent>),
    /// It starts again, for this reason.
    Starting(String),
    /// It could not start, for this reason, and tries again.
    Failed(String),
}

/// What the server and the process's main loop share.
pub struct Presence(watch::Sender<State>);

impl Presence {
    pub fn of(agent: Arc<Agent>) -> Self {
        Self(watch::Sender::new(State::Serving(agent)))
    }

    /// From now on this agent answers.
    pub fn enter(&self, agent: Arc<Agent>) {
        self.0.send_replace(State::Serving(agent));
    }

    /// From now on callers wait.
    pub fn leave(&self, why: String) {
        self.0.send_replace(State::Starting(why));
    }

    /// The start has failed: callers are told at once.
    pub fn fail(&self, why: String) {
        self.0.send_replace(State::Failed(why));
    }

    /// The agent that answers the request, or why there is none. Waits for one that starts.
    pub async fn agent(&self, request: &Request) -> Result<Arc<Agent>, String> {
        let limit = if matches!(request, Request::Cni(_)) { RESTART_WAIT } else { OPERATOR_WAIT };
        let mut state = self.0.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Starting(_)));
        let settled = tokio::time::timeout(limit, settled).await.map(|settled| settled.map(|state| state.clone()));
        match settled {
            Ok(Ok(State::Serving(agent))) => Ok(agent),
            Ok(Ok(State::Starting(why) | State::Failed(why))) => Err(why),
            Ok(Err(_)) | Err(_) => Err(self.absence().unwrap_or_default()),
        }
    }

    /// Why the agent is away, if it is.
    pub fn absence(&self) -> Option<String> {
        match &*self.0.borrow() {
            State::Serving(_) => None,
            State::Starting(why) | State::Failed(why) => Some(why.clone()),
        }
    }
}

/// Whether the plugin is to write the request to the spool, which it does when the agent hangs up.
pub fn is_for_the_spool(request: &Request) -> bool {
    matches!(request, Request::Cni(call) if matches!(call.environment.command, Command::Del | Command::Gc))
}

/// What a caller is told after it has waited. The node's network is what made the agent start again, so STATUS says that pods may be
/// cut off.
pub fn refusal(request: &Request, why: &str) -> CniError {
    let text = format!("azure-cni-agent starts again: {why}");
    match request {
        Request::Cni(call) if call.environment.command == Command::Status => CniError::limited_connectivity(text)
            .with_details("no pod can be added, and those that exist may be cut off"),
        _ => CniError::try_again(text),
    }
}
