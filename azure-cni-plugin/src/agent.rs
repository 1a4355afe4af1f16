//! The call to the agent: its socket, how long to wait for an agent that restarts, and what a failed call means to the
//! runtime.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use azure_cni_api::cni::{CniError, Command, Invocation};
use azure_cni_api::socket::{self, CallError, CniRequest, Request};
use serde_json::Value;

use crate::failure::Failure;

/// How long to wait for an agent that restarts before the runtime has to try again.
const RESTART_WAIT: Duration = Duration::from_secs(5);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// The socket of the configuration, else of the variable, else the default.
pub(crate) fn socket(invocation: &Invocation) -> PathBuf {
    let from_variable = || std::env::var_os("AZURE_CNI_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
    let from_config = invocation.agent_socket().map(Path::to_owned);
    from_config.or_else(from_variable).unwrap_or_else(|| socket::DEFAULT_SOCKET.into())
}

/// How long to wait for an agent that does not run. A STATUS that failed at once would make the node not ready for each restart of the
/// agent. DEL and GC are spooled, and the agent finds them when it comes back.
fn restart_wait(command: Command) -> Duration {
    match command {
        Command::Add | Command::Check | Command::Status => RESTART_WAIT,
        Command::Del | Command::Gc | Command::Version => Duration::ZERO,
    }
}

/// Sends the request, and waits for the answer until the deadline.
pub(crate) fn call(socket: &Path, request: CniRequest, deadline: Instant) -> Result<Value, CallError> {
    let command = request.environment.command;
    let wait_until = deadline.min(Instant::now() + restart_wait(command));
    let request = Request::Cni(request);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match socket::call(socket, &request, left) {
            Err(error) if may_retry(command, &error) && Instant::now() < wait_until => thread::sleep(BETWEEN_TRIES),
            other => return other,
        }
    }
}

/// An unreachable agent cannot have begun to execute the request. One that ended during the call may have; of STATUS that is no matter.
fn may_retry(command: Command, error: &CallError) -> bool {
    match error {
        CallError::Unreachable { .. } => true,
        CallError::Broken(_) => command == Command::Status,
        _ => false,
    }
}

/// True if the agent does not run, or ended during the call.
pub(crate) fn is_away(error: &CallError) -> bool {
    matches!(error, CallError::Unreachable { .. } | CallError::Broken(_))
}

/// The error for the runtime after a call without an answer.
pub(crate) fn failure(command: Command, error: CallError) -> Failure {
    let text = error.to_string();
    let reported = match (error, command) {
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
    Failure::Plugin(reported)
}
