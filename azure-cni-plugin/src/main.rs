//! The CNI plugin: reads the call, checks it, calls the agent, prints the answer.
//!
//! Its start is part of every pod's start. So it is small and blocking, and has no async runtime, logger or command line.
//! Standard output gets the answer or the error as JSON, through one writer. The plugin ends within `LONGEST_CALL`.

mod agent;
mod failure;
mod input;
mod netns;
mod spool;

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use azure_cni_api::boot_time::BootTime;
use azure_cni_api::cni::{self, CniError, CniVersion, Command, Environment, Invocation};
use azure_cni_api::socket::{CniRequest, LONGEST_CALL};
use failure::Failure;
use serde_json::Value;

/// How long VERSION waits for its input.
const VERSION_INPUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let (deadline, requested_at) = (Instant::now() + LONGEST_CALL, BootTime::now());
    let environment = match Environment::from_vars(|name| std::env::var_os(name)) {
        Ok(None) => return about(),
        Ok(Some(environment)) => Ok(environment),
        Err(error) => Err(error),
    };
    // VERSION needs no input. It only repeats the version that it finds there.
    let asks_version = environment.as_ref().is_ok_and(|environment| environment.command == Command::Version);
    let config = input::read(if asks_version { Instant::now() + VERSION_INPUT } else { deadline });
    let version = cni::reported_version(config.as_ref().ok());
    let answer = match environment {
        Ok(_) if asks_version => Ok(Some(cni::version_answer(config.as_ref().ok()))),
        Ok(environment) => serve(environment, config, requested_at, deadline),
        Err(error) => Err(error.into()),
    };
    match answer {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(value)) => print(&value, ExitCode::SUCCESS),
        Err(Failure::Plugin(error)) => print(&error.to_json(&version), ExitCode::FAILURE),
        Err(Failure::Agent(error)) => print(&error.to_json(), ExitCode::FAILURE),
    }
}

/// Executes one call. The value is what the command prints; only ADD prints anything.
fn serve(
    mut environment: Environment,
    config: Result<Value, CniError>,
    requested_at: BootTime,
    deadline: Instant,
) -> Result<Option<Value>, Failure> {
    environment.check()?;
    let config = config?;
    let invocation = Invocation::parse(&environment, &config)?;
    match &invocation {
        Invocation::Add(call) => netns::check(&call.netns)?,
        Invocation::Check(call) => netns::check(&call.netns)?,
        // The host's namespace is not a pod's, and nothing in it may be touched.
        Invocation::Del(call) if call.netns.as_deref().is_some_and(netns::is_own) => environment.netns = None,
        Invocation::Del(_) | Invocation::Gc(_) | Invocation::Status(_) | Invocation::Version => {}
    }
    let socket = agent::socket(&invocation);
    let command = environment.command;
    let answer =
        match agent::call(&socket, CniRequest { environment, config, requested_at: Some(requested_at) }, deadline) {
            Ok(answer) => answer,
            Err(error) => match spool::deferrable(&invocation).filter(|_| agent::is_away(&error)) {
                Some(call) => {
                    spool::put(spool::dir(&invocation), call, requested_at, &error.to_string())?;
                    Value::Null
                }
                None => return Err(agent::failure(command, error)),
            },
        };
    match (command, answer) {
        (Command::Add, result @ Value::Object(_)) => Ok(Some(result)),
        (Command::Add, other) => {
            Err(CniError::internal("the agent answered ADD without a result").with_details(other.to_string()).into())
        }
        _ => Ok(None),
    }
}

/// The one writer of standard output.
fn print(value: &Value, exit: ExitCode) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{value}").and_then(|()| stdout.flush()) {
        Ok(()) => exit,
        Err(error) => {
            // A runtime that did not get the result must see the call fail.
            complain(&format!("azure-cni: the answer could not be written: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn about() -> ExitCode {
    let versions = CniVersion::SUPPORTED.map(CniVersion::as_str).join(", ");
    complain(&format!(
        "azure-cni {}: CNI plugin, run by container runtimes; serves CNI {versions}",
        env!("CARGO_PKG_VERSION")
    ));
    ExitCode::SUCCESS
}

/// A line on standard error. `eprintln!` would panic if nobody reads it any more.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
