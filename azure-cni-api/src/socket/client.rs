//! One blocking call to the agent, for programs without an async runtime: the plugin and the operator's command.
//!
//! The rule: the deadline covers the whole call. A peer that stalls, or sends a byte a minute, cannot hold the caller.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::Value;

use super::frame::{FRAME_HEADER, MAX_FRAME};
use super::request::{Request, Response};
use crate::cni::ErrorObject;

/// Why a call to the agent failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No process listens there, so the request was not sent. A retry helps once the agent is up.
    #[error("the agent does not listen on {}: {source}", .socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    /// The agent did not answer in time. It may have acted; a retry is safe, because every request is idempotent.
    #[error("the agent did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The connection broke before the answer was complete. As with a time-out, a retry is safe.
    #[error("the connection to the agent broke: {0}")]
    Broken(#[source] io::Error),
    /// The request is longer than a frame may be. A retry does not help.
    #[error("a request of {0} bytes is longer than {MAX_FRAME}")]
    RequestTooLong(usize),
    /// This version does not understand the answer. A retry does not help.
    #[error("the agent's answer is not understood: {0}")]
    NotUnderstood(String),
    /// The agent answered with an error. The code says whether a retry helps.
    #[error("{}", .0.msg)]
    Refused(ErrorObject),
}

/// Sends `request` to the agent at `socket` and waits for its answer, both within `timeout`.
pub fn call(socket: &Path, request: &Request, timeout: Duration) -> Result<Value, CallError> {
    let deadline = Deadline { at: Instant::now() + timeout, timeout };
    let request = serde_json::to_vec(request).expect("a request has string keys only and serializes");
    if request.len() > MAX_FRAME {
        return Err(CallError::RequestTooLong(request.len()));
    }
    let mut stream = connect(socket, &deadline)?;
    send(&mut stream, &request, &deadline)?;
    let answer = receive(&mut stream, &deadline)?;
    match serde_json::from_slice(&answer) {
        Ok(Response::Ok(value)) => Ok(value),
        Ok(Response::Error(error)) => Err(CallError::Refused(error)),
        Err(error) => Err(CallError::NotUnderstood(error.to_string())),
    }
}

struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    /// The time left, never zero: to the kernel, a time-out of zero means no time-out.
    fn left(&self) -> Result<Duration, CallError> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(CallError::TimedOut(self.timeout)) } else { Ok(left.max(Duration::from_millis(1))) }
    }

    fn error(&self, error: io::Error) -> CallError {
        match error.kind() {
            // What a socket's time-out looks like (socket(7), SO_RCVTIMEO).
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => CallError::TimedOut(self.timeout),
            _ => CallError::Broken(error),
        }
    }
}

/// Connects within the deadline. A connect to a listener with a full queue would wait for ever, and the standard library
/// cannot bound it. The kernel bounds it by the send time-out (unix_stream_connect in net/unix/af_unix.c).
fn connect(path: &Path, deadline: &Deadline) -> Result<UnixStream, CallError> {
    let unreachable = |errno: Errno| CallError::Unreachable { socket: path.to_owned(), source: errno.into() };
    let address = UnixAddr::new(path).map_err(unreachable)?;
    let fd: OwnedFd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| CallError::Broken(errno.into()))?;
    let left = TimeVal::milliseconds(i64::try_from(deadline.left()?.as_millis()).unwrap_or(i64::MAX));
    socket::setsockopt(&fd, sockopt::SendTimeout, &left).map_err(|errno| CallError::Broken(errno.into()))?;
    match socket::connect(fd.as_raw_fd(), &address) {
        Ok(()) => Ok(fd.into()),
        Err(Errno::EAGAIN) => Err(CallError::TimedOut(deadline.timeout)),
        Err(errno) => Err(unreachable(errno)),
    }
}

fn send(stream: &mut UnixStream, payload: &[u8], deadline: &Deadline) -> Result<(), CallError> {
    let length = u32::try_from(payload.len()).map_err(|_| CallError::RequestTooLong(payload.len()))?;
    let mut frame = Vec::with_capacity(FRAME_HEADER + payload.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(payload);
    let mut rest = frame.as_slice();
    while !rest.is_empty() {
        stream.set_write_timeout(Some(deadline.left()?)).map_err(CallError::Broken)?;
        match stream.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(deadline.error(error)),
        }
    }
    Ok(())
}

fn receive(stream: &mut UnixStream, deadline: &Deadline) -> Result<Vec<u8>, CallError> {
    let mut header = [0; FRAME_HEADER];
    fill(stream, &mut header, deadline)?;
    let length = u32::from_be_bytes(header) as usize;
    if length > MAX_FRAME {
        return Err(CallError::NotUnderstood(format!("a frame of {length} bytes is longer than {MAX_FRAME}")));
    }
    let mut payload = vec![0; length];
    fill(stream, &mut payload, deadline)?;
    Ok(payload)
}

fn fill(stream: &mut UnixStream, buffer: &mut [u8], deadline: &Deadline) -> Result<(), CallError> {
    let mut filled = 0;
    while filled < buffer.len() {
        stream.set_read_timeout(Some(deadline.left()?)).map_err(CallError::Broken)?;
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(CallError::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(deadline.error(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
