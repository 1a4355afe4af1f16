//! An agent that takes one request, gives a fixed answer, and keeps the request for the test.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct Agent {
    socket: PathBuf,
    requests: Receiver<Value>,
    /// Removes the socket's folder at the end, if this value made it.
    _folder: Option<TempDir>,
}

pub(crate) fn error_answer(code: u32) -> Value {
    json!({"error": {"cniVersion": "1.1.0", "code": code, "msg": "m", "details": "d"}})
}

impl Agent {
    pub(crate) fn answering(answer: Value) -> Self {
        Self::in_own_folder(Some(answer.to_string().into_bytes()))
    }

    /// Takes the request and closes the connection without an answer.
    pub(crate) fn dying() -> Self {
        Self::in_own_folder(None)
    }

    fn in_own_folder(answer: Option<Vec<u8>>) -> Self {
        let folder = TempDir::new().unwrap();
        let mut agent = Self::at(&folder.path().join("s"), answer);
        agent._folder = Some(folder);
        agent
    }

    pub(crate) fn at(socket: &Path, answer: Option<Vec<u8>>) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let (sender, requests) = mpsc::channel();
        // Ends with the process if no call comes, so that a test that expects no call need not wait.
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut header = [0; 4];
            stream.read_exact(&mut header).unwrap();
            let mut payload = vec![0; u32::from_be_bytes(header) as usize];
            stream.read_exact(&mut payload).unwrap();
            // A test that does not need the request has dropped the receiver.
            let _ = sender.send(serde_json::from_slice(&payload).unwrap());
            if let Some(answer) = answer {
                stream.write_all(&u32::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        Self { socket: socket.to_owned(), requests, _folder: None }
    }

    pub(crate) fn socket(&self) -> &str {
        self.socket.to_str().unwrap()
    }

    pub(crate) fn request(&self) -> Value {
        self.requests.recv_timeout(Duration::from_secs(20)).expect("the agent got a request")
    }
}
