//! A reader of the output may leave early, as `azure-cni-ctl drops | head -1` does: the command ends quietly.
#![allow(clippy::disallowed_types, reason = "tests may run programs")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

/// An agent of one answer.
fn serve_once(socket: &Path, answer: Value) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut header = [0; 4];
        stream.read_exact(&mut header).unwrap();
        let mut request = vec![0; u32::from_be_bytes(header) as usize];
        stream.read_exact(&mut request).unwrap();
        let answer = json!({"ok": answer}).to_string();
        stream.write_all(&u32::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
    })
}

/// Runs the command against an agent of one answer, with a standard output that has no reader.
fn run_unread(arguments: &[&str], answer: Value) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let agent = serve_once(&socket, answer);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = Command::new(env!("CARGO_BIN_EXE_azure-cni-ctl"))
        .arg("--socket")
        .arg(&socket)
        .args(arguments)
        .stdout(Stdio::from(writer))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    agent.join().unwrap();
    output
}

fn status(problems: &[&str]) -> Value {
    json!({
        "version": "1", "mapLayout": 1, "uplink": "eth0", "primary": "10.240.0.4", "uplinkAttachMode": "tcx",
        "podAttachMode": "clsact", "source": {"kind": "file", "location": "/pool.xml", "confirmedSecsAgo": 5,
            "stale": false, "lastError": null, "attempts": 1, "failures": 0, "changes": 0},
        "pool": {"total": 3, "free": 2, "leased": 1}, "endpoints": 1, "tables": [], "reservedPorts": 0,
        "problems": problems,
    })
}

#[test]
fn command_ends_quietly_if_the_reader_of_its_output_has_left() {
    let drops = json!([{"number": 1, "name": "n", "meaning": "m", "packets": 2, "perCpu": [2]}]);
    for (arguments, answer) in
        [(&["status"][..], status(&[])), (&["drops"], drops.clone()), (&["drops", "--json"], drops)]
    {
        let output = run_unread(arguments, answer);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{arguments:?}");
    }
}

/// An answer longer than a pipe holds, of which the reader takes one line.
#[test]
fn command_ends_quietly_after_the_first_line_of_a_long_answer() {
    let problem = "x".repeat(1000);
    let problems = vec![problem.as_str(); 500];
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let agent = serve_once(&socket, status(&problems));
    let mut child = Command::new(env!("CARGO_BIN_EXE_azure-cni-ctl"))
        .arg("--socket")
        .arg(&socket)
        .arg("status")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("agent "), "{line}");
    let output = child.wait_with_output().unwrap();
    agent.join().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(1), ""));
}

/// As `azure-cni-ctl status 2>&1 | head -0` has it, while no agent runs.
#[test]
fn complaint_that_nobody_reads_is_no_panic() {
    for arguments in
        [&["status"][..], &["drops", "--json"], &["events"], &["steps"], &["endpoints"], &["no-such"], &["--help"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new(env!("CARGO_BIN_EXE_azure-cni-ctl"))
            .args(["--socket", "/nowhere/agent.sock"])
            .args(arguments)
            .stdout(Stdio::from(writer.try_clone().unwrap()))
            .stderr(Stdio::from(writer))
            .status()
            .unwrap();
        // A panic ends with 101.
        assert!(matches!(status.code(), Some(0..=2)), "{arguments:?}: {status}");
    }
}

#[test]
fn status_with_problems_still_fails_if_the_reader_of_its_output_has_left() {
    let output = run_unread(&["status"], status(&["the source does not answer"]));
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(1), &b""[..]));
}
