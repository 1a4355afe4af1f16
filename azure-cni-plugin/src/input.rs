//! The network configuration from standard input, bounded in size and time.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::os::fd::AsFd;
use std::time::Instant;

use azure_cni_api::cni::{self, CniError};
use azure_cni_api::socket::MAX_FRAME;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

pub(crate) fn read(deadline: Instant) -> Result<Value, CniError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        // The plugin was started by hand. It would wait for input that the user does not know to give.
        return Err(CniError::decode("the network configuration is expected on standard input, which is a terminal"));
    }
    let bytes = match read_to_end(&stdin, deadline) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            return Err(CniError::io("standard input was not closed in time"));
        }
        Err(error) => return Err(CniError::io("standard input cannot be read").with_details(error.to_string())),
    };
    if bytes.len() > MAX_FRAME {
        let (line, column) = place(&bytes[..MAX_FRAME]);
        let msg = format!(
            "the network configuration is longer than {MAX_FRAME} bytes, the limit is at line {line} column {column}"
        );
        return Err(CniError::decode(msg));
    }
    cni::decode(&bytes)
}

/// Reads to the end, or a little past the longest configuration. Polls before each read, because a read from a pipe that its
/// writer keeps open has no time limit.
fn read_to_end(stdin: &impl AsFd, deadline: Instant) -> io::Result<Vec<u8>> {
    // A `File` has no buffer, so that poll and read agree on what is left.
    let mut file = File::from(stdin.as_fd().try_clone_to_owned()?);
    let (mut bytes, mut chunk) = (Vec::new(), [0; 8192]);
    while bytes.len() <= MAX_FRAME {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Line and column of the last byte, both from 1.
fn place(bytes: &[u8]) -> (usize, usize) {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    let column = bytes.iter().rev().take_while(|byte| **byte != b'\n').count();
    (lines + 1, column)
}
