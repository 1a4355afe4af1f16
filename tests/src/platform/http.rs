//! A server of HTTP/1.1 that behaves as configured, well or badly: one request on each connection.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{setsockopt, sockopt},
    time::{TimeVal, TimeValLike},
};

use crate::{
    error::{Attempt, Result},
    namespace::Entrance,
};

/// How often a thread checks whether it has to end.
const TICK: Duration = Duration::from_millis(20);
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct HttpRequest {
    pub(crate) from: IpAddr,
    /// Method, a space, path and query.
    pub(crate) line: String,
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// A response: the bytes, and the delay before they are sent. Then the connection is closed.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) after: Duration,
}

impl Reply {
    /// A complete response, such as `whole("200 OK", "", "text")`. Each header ends with its line break.
    pub(crate) fn whole(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        Self { bytes: text.into_bytes(), after: Duration::ZERO }
    }
}

/// Serves until dropped.
pub(crate) struct HttpServer {
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl HttpServer {
    pub(crate) fn start(
        entrance: &Entrance,
        address: SocketAddr,
        answer: impl Fn(&HttpRequest) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = entrance.run(|| bind(address)).attempt(|| format!("serve {address} in {}", entrance.name()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let server = thread::spawn(move || serve(&listener, &answer, &stopping));
        Ok(Self { stop, server: Some(server) })
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// With a receive time-out (accepting included), so that the thread can be ended.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::milliseconds(TICK.as_millis() as i64))?;
    Ok(listener)
}

fn serve(listener: &TcpListener, answer: &(impl Fn(&HttpRequest) -> Reply + Sync), stop: &AtomicBool) {
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            if let Ok((stream, peer)) = listener.accept() {
                // A connection that breaks is the client's finding.
                scope.spawn(move || converse(stream, peer.ip(), answer, stop));
            }
        }
    });
}

fn converse(
    mut stream: TcpStream,
    from: IpAddr,
    answer: &impl Fn(&HttpRequest) -> Reply,
    stop: &AtomicBool,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let request = read(&mut stream, from)?;
    let reply = answer(&request);
    let due = Instant::now() + reply.after;
    while Instant::now() < due && !stop.load(Ordering::Relaxed) {
        thread::sleep(TICK);
    }
    stream.write_all(&reply.bytes)
}

fn read(stream: &mut TcpStream, from: IpAddr) -> io::Result<HttpRequest> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        more(stream, &mut bytes)?;
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let (line, headers) = text.split_once("\r\n").unwrap_or((&text, ""));
    let length = headers
        .to_ascii_lowercase()
        .lines()
        .find_map(|header| header.strip_prefix("content-length:").and_then(|value| value.trim().parse::<usize>().ok()));
    while bytes.len() < head + 4 + length.unwrap_or(0) {
        more(stream, &mut bytes)?;
    }
    Ok(HttpRequest {
        from,
        line: line.trim_end_matches(" HTTP/1.1").to_owned(),
        headers: headers.to_ascii_lowercase(),
        body: String::from_utf8_lossy(&bytes[head + 4..]).into_owned(),
    })
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ if bytes.len() > MAX_REQUEST_BYTES => Err(io::ErrorKind::InvalidData.into()),
        length => {
            bytes.extend_from_slice(&buffer[..length]);
            Ok(())
        }
    }
}
