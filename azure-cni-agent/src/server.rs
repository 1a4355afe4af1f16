//! The agent's socket: one request and one response per connection, framed as [`azure_cni_api::socket`] says.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use azure_cni_api::boot_time::BootTime;
use azure_cni_api::cni::{CniError, Command, Invocation, NetConf, reported_version, version_answer};
use azure_cni_api::socket::{CniRequest, MAX_FRAME, Request, Response};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::agent::Agent;
use crate::presence::{self, Presence};
use crate::verbs::StepRunner;
use crate::{operator_queries, verbs};

/// A caller that connects and sends nothing is dropped after this long.
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

/// Fails if another agent answers on the path. Call it before you touch anything that the other agent works with.
pub fn ensure_not_in_use(path: &Path) -> Result<(), ListenError> {
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
    ensure_not_in_use(path)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // Bind it beside its place and rename it: callers that find the socket find one that only root may use.
    let unfinished = path.with_extension("new");
    let _ = std::fs::remove_file(&unfinished);
    let listener = UnixListener::bind(&unfinished).map_err(failed)?;
    std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    std::fs::rename(&unfinished, path).map_err(failed)?;
    Ok(listener)
}

/// Serves until it is dropped. Each connection is a task of its own: a call that has begun comes to its end, or is undone,
/// whether its caller waits or not. `calls` holds a token of each call that has begun, so that the process can wait for it.
pub async fn serve(presence: Arc<Presence>, listener: UnixListener, calls: TaskTracker) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (presence, calls) = (presence.clone(), calls.clone());
                tokio::spawn(async move {
                    if let Err(error) = converse(&presence, stream, &calls).await {
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

async fn converse(presence: &Presence, stream: UnixStream, calls: &TaskTracker) -> std::io::Result<()> {
    let codec = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec();
    let mut frames = Framed::new(stream, codec);
    let Ok(Some(frame)) = tokio::time::timeout(REQUEST_TIMEOUT, frames.next()).await else { return Ok(()) };
    // Callers that have sent no request do not delay the end of the process.
    let _call = calls.token();
    let response = match serde_json::from_slice::<Request>(&frame?) {
        // The agent starts again: the plugin writes the request to the spool.
        Ok(request) if presence::is_for_the_spool(&request) && presence.absence().is_some() => return Ok(()),
        Ok(request) => match presence.agent(&request).await {
            Ok(agent) => serve_request(&agent, request).await,
            Err(why) => {
                let config = if let Request::Cni(call) = &request { Some(&call.config) } else { None };
                refusal(&presence::refusal(&request, &why), config)
            }
        },
        Err(error) => refusal(&CniError::decode(format!("the request is not understood: {error}")), None),
    };
    let answer = serde_json::to_vec(&response)?;
    // A caller that is told nothing cannot tell that from an agent that died.
    let answer = if answer.len() > MAX_FRAME { serde_json::to_vec(&too_long(answer.len()))? } else { answer };
    frames.send(Bytes::from(answer)).await
}

fn too_long(bytes: usize) -> Response {
    let text = format!("the answer of {bytes} bytes is longer than {MAX_FRAME}");
    refusal(&CniError::internal(text), None)
}

async fn serve_request(agent: &Arc<Agent>, request: Request) -> Response {
    let queried = match request {
        Request::Cni(call) => return serve_call(agent, call).await,
        Request::Status => operator_queries::status(agent).await,
        Request::Endpoints => operator_queries::endpoints(agent).await,
        Request::Drops => operator_queries::drops(agent),
        Request::Events => operator_queries::events(agent),
        Request::Steps => Ok(serde_json::to_value(agent.latency.all()).unwrap_or_default()),
    };
    match queried {
        Ok(value) => Response::Ok(value),
        Err(error) => refusal(&CniError::internal(format!("{error:#}")), None),
    }
}

/// One call of a runtime. Every line that it logs names command, container and trace.
async fn serve_call(agent: &Arc<Agent>, call: CniRequest) -> Response {
    let span = tracing::info_span!(
        "call",
        command = call.environment.command.as_str(),
        container = call.environment.container_id,
        interface = call.environment.ifname,
        trace = call.environment.trace_id(),
    );
    logged_call(agent, call).instrument(span).await
}

/// One line in the log, however the call ends.
async fn logged_call(agent: &Arc<Agent>, call: CniRequest) -> Response {
    let began = Instant::now();
    let mut steps = StepRunner::new(agent.faults);
    let result = run_call(agent, &call, &mut steps).await;
    let whole = began.elapsed();
    agent.latency.record(call.environment.command, whole, steps.taken());
    let duration_ms = whole.as_secs_f64() * 1e3;
    match result {
        Ok(value) => {
            // Runtimes poll STATUS.
            if call.environment.command == Command::Status {
                tracing::debug!(duration_ms, "done");
            } else {
                tracing::info!(duration_ms, %steps, "done");
            }
            Response::Ok(value)
        }
        Err(error) => {
            tracing::warn!(duration_ms, %steps, code = u32::from(error.code), %error, "failed");
            refusal(&error, Some(&call.config))
        }
    }
}

async fn run_call(agent: &Arc<Agent>, call: &CniRequest, steps: &mut StepRunner) -> Result<Value, CniError> {
    let requested_at = call.requested_at.unwrap_or_else(BootTime::now);
    match Invocation::parse(&call.environment, &call.config)? {
        Invocation::Add(call) => {
            report_ignored(agent, &call.config);
            let version = call.config.cni_version;
            return Ok(verbs::add(agent, *call, requested_at, steps).await?.to_json(version));
        }
        Invocation::Del(call) => verbs::del(agent, call, steps).await?,
        Invocation::Check(call) => verbs::check(agent, *call, steps).await?,
        Invocation::Gc(call) => verbs::collect(agent, &call, requested_at, steps).await?,
        Invocation::Status(call) => verbs::status(agent, *call).await?,
        // The plugin answers VERSION by itself.
        Invocation::Version => return Ok(version_answer(Some(&call.config))),
    }
    Ok(Value::Null)
}

/// Reports each field that is accepted and does nothing once, so that no operator thinks that it works.
fn report_ignored(agent: &Agent, config: &NetConf) {
    let mut reported = agent.ignored.lock().unwrap_or_else(PoisonError::into_inner);
    let new: Vec<&str> =
        config.ignored.iter().filter(|field| reported.insert((*field).clone())).map(String::as_str).collect();
    if !new.is_empty() {
        tracing::warn!(network = %config.name, fields = new.join(", "), "fields of the network configuration without meaning here");
    }
}

fn refusal(error: &CniError, config: Option<&Value>) -> Response {
    Response::Error(error.report(&reported_version(config)))
}
