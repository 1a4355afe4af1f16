//! On the loopback alone.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const CLIENT: Client = Client { connect_timeout: Duration::from_secs(2), request_timeout: Duration::from_millis(600) };

/// Responds to every connection with these bytes, then closes it unless it is to `stay`. Returns the URL and every request's
/// text.
async fn server(response: Vec<u8>, stay: bool) -> (HttpUrl, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/path?a=b", listener.local_addr().unwrap()).parse().unwrap();
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let _ = sender.send(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = stream.write_all(&response).await;
            if stay {
                kept.push(stream);
            }
        }
    });
    (url, requests)
}

async fn get(response: &str) -> Result<String, HttpError> {
    let (url, _requests) = server(response.as_bytes().to_vec(), false).await;
    CLIENT.get(&url, None, 100).await
}

#[tokio::test]
async fn a_request_has_its_headers_and_returns_the_text() {
    let (url, mut requests) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(), true).await;
    assert_eq!(CLIENT.get(&url, Some(("metadata", "true")), 5).await.unwrap(), "hello");
    let request = requests.recv().await.unwrap();
    assert!(request.starts_with("GET /path?a=b HTTP/1.1\r\n"), "{request}");
    for header in ["metadata: true", &format!("host: {}", url.authority()), "connection: close"] {
        assert!(request.contains(header), "{header} is not in {request}");
    }
}

#[tokio::test]
async fn a_document_is_posted_as_json() {
    let (url, mut requests) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec(), false).await;
    assert_eq!(CLIENT.post(&url, &serde_json::json!({"a": 1}), 100).await.unwrap(), "{}");
    let request = requests.recv().await.unwrap();
    assert!(request.contains("content-type: application/json") && request.ends_with("{\"a\":1}"), "{request}");
}

#[tokio::test]
async fn an_unusable_response_is_an_error_that_says_why() {
    for (response, complaint, transient) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello", "incomplete", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "incomplete", true),
        ("", "incomplete", true),
        ("SSH-2.0-OpenSSH\r\n\r\n", "not HTTP", true),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "status 500", true),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404", false),
        ("HTTP/1.1 204 No Content\r\n\r\n", "status 204", false),
        ("HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n", "http://elsewhere/", false),
    ] {
        let error = get(response).await.expect_err(response);
        assert!(error.to_string().contains(complaint), "{response:?}: {error}");
        assert_eq!(error.is_transient(), transient, "{response:?}: {error}");
    }
    let (url, _requests) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe".to_vec(), false).await;
    assert!(matches!(CLIENT.get(&url, None, 100).await, Err(HttpError::NotText)));
}

#[tokio::test]
async fn a_long_response_is_refused_before_all_of_it_has_arrived() {
    // It never ends: only its first piece is ever read.
    let mut response = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n".to_vec();
    response.extend([b'x'; 4096]);
    let (url, _requests) = server(response, true).await;
    let error = CLIENT.get(&url, None, 1000).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { max_bytes: 1000 }), "{error}");
}

#[tokio::test]
async fn endless_headers_are_refused() {
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(200_000));
    assert!(matches!(get(&endless).await, Err(HttpError::Broken(_))));
}

#[tokio::test]
async fn a_missing_response_is_waited_for_no_longer_than_configured() {
    let (url, _requests) = server(b"HTTP/1.1 200 OK\r\n".to_vec(), true).await;
    let began = Instant::now();
    let error = CLIENT.get(&url, None, 100).await.unwrap_err();
    assert!(matches!(error, HttpError::Slow { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_transient_failure_is_tried_again_and_another_is_not() {
    for (status, attempts) in [("503 Busy", retry::ATTEMPTS), ("403 Forbidden", 1)] {
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes();
        let (url, mut requests) = server(response, false).await;
        CLIENT.get_retrying(&url, None, 100).await.unwrap_err();
        let mut seen = 0;
        while requests.try_recv().is_ok() {
            seen += 1;
        }
        assert_eq!(seen, attempts, "{status}");
    }
}

#[tokio::test]
async fn a_port_without_a_listener_is_reported_as_no_connection() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = CLIENT.get(&format!("http://{free}/").parse().unwrap(), None, 100).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect(_)) && error.is_transient(), "{error}");
}
