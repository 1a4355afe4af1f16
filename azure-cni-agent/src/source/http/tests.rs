//! On the loopback alone.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const CLIENT: Client = Client { connect: Duration::from_secs(2), whole: Duration::from_millis(600) };

/// Answers every connection with these bytes, and then does as told; returns the URL and every request's text.
async fn server(answer: Vec<u8>, stay: bool) -> (HttpUrl, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/path?a=b", listener.local_addr().unwrap()).parse().unwrap();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let _ = tell.send(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = stream.write_all(&answer).await;
            if stay {
                kept.push(stream);
            }
        }
    });
    (url, told)
}

async fn answered(answer: &str) -> Result<String, HttpError> {
    let (url, _told) = server(answer.as_bytes().to_vec(), false).await;
    CLIENT.get(&url, None, 100).await
}

#[tokio::test]
async fn a_request_says_what_it_asks_for_and_gets_the_text() {
    let (url, mut told) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(), true).await;
    assert_eq!(CLIENT.get(&url, Some(("metadata", "true")), 5).await.unwrap(), "hello");
    let request = told.recv().await.unwrap();
    assert!(request.starts_with("GET /path?a=b HTTP/1.1\r\n"), "{request}");
    for header in ["metadata: true", &format!("host: {}", url.authority()), "connection: close"] {
        assert!(request.contains(header), "{header} is not in {request}");
    }
}

#[tokio::test]
async fn a_document_is_posted_as_json() {
    let (url, mut told) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec(), false).await;
    assert_eq!(CLIENT.post(&url, &serde_json::json!({"a": 1}), 100).await.unwrap(), "{}");
    let request = told.recv().await.unwrap();
    assert!(request.contains("content-type: application/json") && request.ends_with("{\"a\":1}"), "{request}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_an_error_that_says_why() {
    for (answer, complaint, passing) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello", "incomplete", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "incomplete", true),
        ("", "incomplete", true),
        ("SSH-2.0-OpenSSH\r\n\r\n", "not HTTP", true),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "status 500", true),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404", false),
        ("HTTP/1.1 204 No Content\r\n\r\n", "status 204", false),
        ("HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n", "http://elsewhere/", false),
    ] {
        let error = answered(answer).await.expect_err(answer);
        assert!(error.to_string().contains(complaint), "{answer:?}: {error}");
        assert_eq!(error.is_passing(), passing, "{answer:?}: {error}");
    }
    let (url, _told) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe".to_vec(), false).await;
    assert!(matches!(CLIENT.get(&url, None, 100).await, Err(HttpError::NotText)));
}

#[tokio::test]
async fn a_long_answer_is_refused_before_it_is_all_there() {
    // It never ends: only its first piece is ever read.
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n".to_vec();
    answer.extend([b'x'; 4096]);
    let (url, _told) = server(answer, true).await;
    let error = CLIENT.get(&url, None, 1000).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { max_bytes: 1000 }), "{error}");
}

#[tokio::test]
async fn endless_headers_are_refused() {
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(200_000));
    assert!(matches!(answered(&endless).await, Err(HttpError::Broken(_))));
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_waited_for_no_longer_than_told() {
    let (url, _told) = server(b"HTTP/1.1 200 OK\r\n".to_vec(), true).await;
    let began = Instant::now();
    let error = CLIENT.get(&url, None, 100).await.unwrap_err();
    assert!(matches!(error, HttpError::Slow { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_and_another_is_not() {
    for (status, attempts) in [("503 Busy", retry::ATTEMPTS), ("403 Forbidden", 1)] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes();
        let (url, mut told) = server(answer, false).await;
        CLIENT.get_retrying(&url, None, 100).await.unwrap_err();
        let mut seen = 0;
        while told.try_recv().is_ok() {
            seen += 1;
        }
        assert_eq!(seen, attempts, "{status}");
    }
}

#[tokio::test]
async fn nobody_who_listens_is_told_as_no_connection() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = CLIENT.get(&format!("http://{free}/").parse().unwrap(), None, 100).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect(_)) && error.is_passing(), "{error}");
}
