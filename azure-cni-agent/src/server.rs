//! The agent's socket: one request and one response per connection, framed as [`crate::api`] says.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::agent::Agent;
use crate::api::{CniRequest, MAX_FRAME, Request, Response};
use crate::cni::{CniError, Command, Environment, Invocation, reported_version};
use crate::{commands, inspect};

/// A caller that connects and says nothing is let go after this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the agent cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A retry helps once the other agent has ended.
    #[error("another agent answers on {}; stop it, or give this one a socket of its own", path.display())]
    InUse { path: PathBuf },
    #[error("socket {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// Fails if somebody serves on the path: to be asked before anything is touched that the other agent works with.
pub fn expect_unserved(path: &Path) -> Result<(), ListenError> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(_) => Ok(()),
    }
}

/// Listens on the path, in the place of the socket of an agent that has ended. Root only.
pub fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Io { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    expect_unserved(path)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // Bound beside its place and moved there: whoever finds the socket finds one that only root may use.
    let unfinished = path.with_extension("new");
    let _ = std::fs::remove_file(&unfinished);
    let listener = UnixListener::bind(&unfinished).map_err(failed)?;
    std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    std::fs::rename(&unfinished, path).map_err(failed)?;
    Ok(listener)
}

/// Serves until the listener is dropped. Each connection is a task of its own: a call that has begun comes to its end,
/// or is undone, whether its caller waits or not.
pub async fn serve(agent: Arc<Agent>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let agent = agent.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(agent, stream).await {
                        tracing::debug!(%error, "a caller went away");
                    }
                });
            }
            Err(error) => {
                tracing::error!(%error, "accepting a connection");
                // Out of file descriptors, most likely: give calls that run time to end.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(agent: Arc<Agent>, stream: UnixStream) -> std::io::Result<()> {
    let codec = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec();
    let mut frames = Framed::new(stream, codec);
    let Ok(Some(frame)) = tokio::time::timeout(REQUEST_TIMEOUT, frames.next()).await else { return Ok(()) };
    let response = match serde_json::from_slice::<Request>(&frame?) {
        Ok(request) => answer(&agent, request).await,
        Err(error) => refusal(&CniError::decode(format!("the request is not understood: {error}")), None),
    };
    frames.send(Bytes::from(serde_json::to_vec(&response)?)).await
}

async fn answer(agent: &Arc<Agent>, request: Request) -> Response {
    let inspected = match request {
        Request::Cni(call) => return answer_call(agent, call).await,
        Request::Status => inspect::status(agent).await,
        Request::Endpoints => inspect::endpoints(agent).await,
        Request::Drops => inspect::drops(agent),
        Request::Events => inspect::events(agent),
    };
    match inspected {
        Ok(value) => Response::Ok(value),
        Err(error) => refusal(&CniError::internal(format!("{error:#}")), None),
    }
}

/// One call of a runtime, with one line in the log.
async fn answer_call(agent: &Arc<Agent>, call: CniRequest) -> Response {
    let began = Instant::now();
    let (environment, config) = (call.environment, call.config);
    let result = run_call(agent, &environment, &config).await;
    let duration_ms = began.elapsed().as_secs_f64() * 1e3;
    let command = environment.command.as_str();
    let container = environment.container_id.as_deref().unwrap_or_default();
    let trace = environment.traceparent.as_deref().unwrap_or_default();
    match result {
        Ok(value) => {
            tracing::info!(command, container, trace, duration_ms, "done");
            Response::Ok(value)
        }
        Err(error) => {
            tracing::warn!(command, container, trace, duration_ms, code = u32::from(error.code), %error, "failed");
            refusal(&error, Some(&config))
        }
    }
}

async fn run_call(agent: &Arc<Agent>, environment: &Environment, config: &Value) -> Result<Value, CniError> {
    match Invocation::parse(environment, config)? {
        Invocation::Add(call) => {
            let version = call.config.cni_version;
            Ok(commands::add(agent, *call).await?.to_json(version))
        }
        Invocation::Del(call) => commands::del(agent, call).await.map(|()| Value::Null),
        Invocation::Check(call) => commands::check(agent, *call).await.map(|()| Value::Null),
        _ => Err(not_served(environment.command)),
    }
}

/// Never a success for what was not done: a runtime would rely on it.
fn not_served(command: Command) -> CniError {
    CniError::not_served(format!("{} is not served by this version of the agent", command.as_str()))
}

fn refusal(error: &CniError, config: Option<&Value>) -> Response {
    Response::Error(error.report(&reported_version(config)))
}
