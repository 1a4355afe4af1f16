//! Asking the agent: where it listens, how long we wait for one that restarts, what its silence means to the runtime.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use azure_cni_api::cni::{CniError, Command, Invocation};
use azure_cni_api::socket::{self, CallError, CniRequest, Request};
use serde_json::Value;

use crate::Failure;

/// How long an agent that restarts is waited for, before the runtime is told to try again.
const PATIENCE: Duration = Duration::from_secs(5);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// The configuration's socket, else the variable's, else the default.
pub(crate) fn socket(invocation: &Invocation) -> PathBuf {
    let from_variable = || std::env::var_os("AZURE_CNI_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
    let from_config = invocation.agent_socket().map(Path::to_owned);
    from_config.or_else(from_variable).unwrap_or_else(|| socket::DEFAULT_SOCKET.into())
}

/// How long an agent that is not there is waited for. STATUS asks about now, and is polled; what frees something is
/// written down, and an agent that comes back finds it.
fn patience(command: Command) -> Duration {
    match command {
        Command::Add | Command::Check => PATIENCE,
        Command::Del | Command::Gc | Command::Status | Command::Version => Duration::ZERO,
    }
}

pub(crate) fn ask(socket: &Path, request: CniRequest, deadline: Instant) -> Result<Value, CallError> {
    let patient_until = deadline.min(Instant::now() + patience(request.environment.command));
    let request = Request::Cni(request);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match socket::call(socket, &request, left) {
            // Only an unreachable agent is asked again here: it certainly has not begun to act.
            Err(CallError::Unreachable { .. }) if Instant::now() < patient_until => thread::sleep(BETWEEN_TRIES),
            other => return other,
        }
    }
}

/// Whether the agent is not there, or has gone while it was asked.
pub(crate) fn is_away(error: &CallError) -> bool {
    matches!(error, CallError::Unreachable { .. } | CallError::Broken(_))
}

/// What the runtime is told where there is no answer.
pub(crate) fn unanswered(command: Command, error: CallError) -> Failure {
    let text = error.to_string();
    let told = match (error, command) {
        (CallError::Refused(error), _) => return Failure::Agent(error),
        (CallError::RequestTooLong(_), _) => CniError::decode(text),
        (CallError::NotUnderstood(_), _) => {
            CniError::internal(text).with_details("azure-cni and azure-cni-agent must be of one version")
        }
        (_, Command::Status) => CniError::unavailable(text).with_details("no pod can be added"),
        (_, Command::Del | Command::Gc) => {
            CniError::try_again(text).with_details("what was not freed is kept until the call is repeated")
        }
        _ => CniError::try_again(text),
    };
    Failure::Here(told)
}
