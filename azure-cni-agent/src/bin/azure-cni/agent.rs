//! Asking the agent: where it listens, how long we wait for one that restarts, what its silence means to the runtime.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use azure_cni_agent::api::{self, CallError, CniRequest, Request};
use azure_cni_agent::cni::{CniError, Command, Environment, Invocation};
use serde_json::Value;

use crate::Failure;

/// How long an agent that restarts is waited for, before the runtime is told to try again.
const PATIENCE: Duration = Duration::from_secs(2);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// The configuration's socket, else the variable's, else the default.
pub(crate) fn socket(invocation: &Invocation) -> PathBuf {
    let from_variable = || std::env::var_os("AZURE_CNI_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
    let from_config = invocation.agent_socket().map(Path::to_owned);
    from_config.or_else(from_variable).unwrap_or_else(|| api::DEFAULT_SOCKET.into())
}

pub(crate) fn ask(socket: &Path, environment: Environment, config: Value, deadline: Instant) -> Result<Value, Failure> {
    let command = environment.command;
    // STATUS asks about now, and is polled.
    let patience = if command == Command::Status { Duration::ZERO } else { PATIENCE };
    let patient_until = deadline.min(Instant::now() + patience);
    let request = Request::Cni(CniRequest { environment, config });
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match api::call(socket, &request, left) {
            // Only an unreachable agent is asked again here: it certainly has not begun to act.
            Err(CallError::Unreachable { .. }) if Instant::now() < patient_until => thread::sleep(BETWEEN_TRIES),
            Err(CallError::Refused(error)) => return Err(Failure::Agent(error)),
            Err(error) => return Err(unanswered(command, &error).into()),
            Ok(answer) => return Ok(answer),
        }
    }
}

/// What the runtime is told where the agent said nothing that can be passed on.
fn unanswered(command: Command, error: &CallError) -> CniError {
    match (error, command) {
        (CallError::RequestTooLong(_), _) => CniError::decode(error.to_string()),
        (CallError::NotUnderstood(_), _) => {
            CniError::internal(error.to_string()).with_details("azure-cni and azure-cni-agent must be of one version")
        }
        (_, Command::Status) => CniError::unavailable(error.to_string()).with_details("no pod can be added"),
        (_, Command::Del) => {
            CniError::try_again(error.to_string()).with_details("what was not freed is kept until DEL is repeated")
        }
        _ => CniError::try_again(error.to_string()),
    }
}
