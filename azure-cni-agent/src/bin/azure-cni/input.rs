//! The network configuration from standard input, bounded in size and time.

use std::io::{IsTerminal, Read};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use azure_cni_agent::api::MAX_FRAME;
use azure_cni_agent::cni::{self, CniError};
use serde_json::Value;

pub(crate) fn read(deadline: Instant) -> Result<Value, CniError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        // Somebody tries the plugin by hand and would wait for it to end, as it for them.
        return Err(CniError::decode("the network configuration is expected on standard input, which is a terminal"));
    }
    // A thread, because a read from a pipe that its writer keeps open has no time-out.
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdin.lock().take(MAX_FRAME as u64 + 1).read_to_end(&mut bytes);
        // The receiver is gone only if the deadline has passed.
        let _ = sender.send(read.map(|_| bytes));
    });
    let left = deadline.saturating_duration_since(Instant::now());
    let bytes = match receiver.recv_timeout(left) {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(CniError::io("standard input cannot be read").with_details(error.to_string())),
        Err(_) => return Err(CniError::io("standard input was not closed in time")),
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

/// Line and column of the last byte, both from 1.
fn place(bytes: &[u8]) -> (usize, usize) {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    let column = bytes.iter().rev().take_while(|byte| **byte != b'\n').count();
    (lines + 1, column)
}
