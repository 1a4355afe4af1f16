//! A call ends by its deadline, with the answer or with an error that says what happened.

use std::os::unix::net::UnixListener;
use std::thread;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::cni::{CniError, Command, Environment};
use crate::socket::CniRequest;

const SOON: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(20);

/// Calls an agent that reads one request and then does `behave` with the connection.
fn call_agent<T: Send + 'static>(
    request: &Request,
    timeout: Duration,
    behave: impl FnOnce(&mut UnixStream, Value) -> T + Send + 'static,
) -> Result<Value, CallError> {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let agent = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut header = [0; 4];
        stream.read_exact(&mut header).unwrap();
        let mut payload = vec![0; u32::from_be_bytes(header) as usize];
        stream.read_exact(&mut payload).unwrap();
        behave(&mut stream, serde_json::from_slice(&payload).unwrap());
    });
    let answer = call(&socket, request, timeout);
    agent.join().unwrap();
    answer
}

fn answer(stream: &mut UnixStream, payload: &[u8]) {
    stream.write_all(&u32::try_from(payload.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(payload).unwrap();
}

#[test]
fn the_agent_gets_the_request_and_the_caller_the_answer() {
    let result = call_agent(&Request::Status, LONG, |stream, request| {
        assert_eq!(request, json!({"op": "status"}));
        answer(stream, br#"{"ok": {"version": "1"}}"#);
    });
    assert_eq!(result.unwrap(), json!({"version": "1"}));
}

#[test]
fn an_answer_in_many_pieces_is_put_together() {
    let long = json!({"ok": "x".repeat(300_000)});
    let sent = long.to_string();
    let result = call_agent(&Request::Drops, LONG, move |stream, _| {
        stream.write_all(&u32::try_from(sent.len()).unwrap().to_be_bytes()[..1]).unwrap();
        thread::sleep(Duration::from_millis(20));
        stream.write_all(&u32::try_from(sent.len()).unwrap().to_be_bytes()[1..]).unwrap();
        stream.write_all(sent.as_bytes()).unwrap();
    });
    assert_eq!(result.unwrap(), long["ok"]);
}

#[test]
fn an_error_of_the_agent_arrives_whole() {
    let error = CniError::try_again("no address is free").with_details("250 of 250 leased").report("1.0.0");
    let sent = serde_json::to_vec(&Response::Error(error.clone())).unwrap();
    match call_agent(&Request::Status, LONG, move |stream, _| answer(stream, &sent)) {
        Err(CallError::Refused(arrived)) => assert_eq!(arrived, error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_absent_agent_and_a_broken_call_are_different_errors() {
    let folder = TempDir::new().unwrap();
    let absent = folder.path().join("absent");
    assert!(
        matches!(call(&absent, &Request::Status, LONG), Err(CallError::Unreachable { socket, .. }) if socket == absent)
    );
    let left_behind = folder.path().join("left-behind");
    drop(UnixListener::bind(&left_behind).unwrap());
    assert!(matches!(call(&left_behind, &Request::Status, LONG), Err(CallError::Unreachable { .. })));
    let too_long = folder.path().join("x".repeat(200));
    assert!(matches!(call(&too_long, &Request::Status, LONG), Err(CallError::Unreachable { .. })));
}

#[test]
fn a_connection_that_ends_early_is_broken() {
    assert!(matches!(call_agent(&Request::Status, LONG, |_, _| ()), Err(CallError::Broken(_))));
    let cut = call_agent(&Request::Status, LONG, |stream, _| stream.write_all(&[0, 0, 0, 9, b'{']).unwrap());
    assert!(matches!(cut, Err(CallError::Broken(_))), "{cut:?}");
}

#[test]
fn an_answer_that_is_no_answer_is_not_understood() {
    for payload in [&b""[..], b"{", b"{}", b"[]", br#"{"maybe": 1}"#] {
        let result = call_agent(&Request::Status, LONG, |stream, _| answer(stream, payload));
        assert!(matches!(result, Err(CallError::NotUnderstood(_))), "{result:?}");
    }
    // Nothing is allocated or read for a frame that is too long.
    let result = call_agent(&Request::Status, LONG, |stream, _| stream.write_all(&[0xff; 4]).unwrap());
    assert!(matches!(result, Err(CallError::NotUnderstood(_))), "{result:?}");
}

#[test]
fn a_silent_agent_is_left_at_the_deadline() {
    let begun = Instant::now();
    let result = call_agent(&Request::Status, SOON, |stream, _| stream.read(&mut [0]).unwrap());
    assert!(matches!(result, Err(CallError::TimedOut(SOON))), "{result:?}");
    assert!(begun.elapsed() < LONG);
}

#[test]
fn an_agent_that_trickles_is_left_at_the_deadline() {
    let result = call_agent(&Request::Status, SOON, |stream, _| {
        stream.write_all(&[0, 0, 1, 0]).unwrap();
        // 256 bytes at 20 ms each are five seconds; the caller is gone long before.
        (0..256)
            .take_while(|_| {
                thread::sleep(Duration::from_millis(20));
                stream.write_all(b" ").is_ok()
            })
            .count()
    });
    assert!(matches!(result, Err(CallError::TimedOut(SOON))), "{result:?}");
}

#[test]
fn a_listener_that_never_accepts_is_left_at_the_deadline() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("s");
    let listener = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    socket::bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    // A backlog of zero queues one connection; the next one waits.
    socket::listen(&listener, socket::Backlog::new(0).unwrap()).unwrap();
    let _queued = UnixStream::connect(&path).unwrap();
    let result = call(&path, &Request::Status, SOON);
    assert!(matches!(result, Err(CallError::TimedOut(SOON))), "{result:?}");
}

#[test]
fn a_request_longer_than_a_frame_is_not_sent() {
    let environment = Environment {
        command: Command::Gc,
        container_id: None,
        netns: None,
        ifname: None,
        args: None,
        path: None,
        traceparent: None,
    };
    let request = Request::Cni(CniRequest { environment, config: "x".repeat(MAX_FRAME).into(), requested_at: None });
    let result = call(Path::new("/nonexistent"), &request, LONG);
    assert!(matches!(result, Err(CallError::RequestTooLong(length)) if length > MAX_FRAME), "{result:?}");
}
