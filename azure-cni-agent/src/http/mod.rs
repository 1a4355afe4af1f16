//! One HTTP/1.1 request on its own connection: the platform's services need no more.
//!
//! The rule: a request has bounds in time and in memory, whatever the server does, and connects to the URL's host only. The
//! client follows no redirects and uses no proxy.

mod error;
mod retry;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
pub use error::HttpError;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderName, LOCATION};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{HttpUrl, PoolConfig};

/// Bounds a response's status line and headers, and each read.
const MAX_HEADERS_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// How long the server may take to accept a connection.
    connect_timeout: Duration,
    /// How long one request may take, up to the end of its response.
    request_timeout: Duration,
}

impl Client {
    pub fn new(config: &PoolConfig) -> Self {
        Self {
            connect_timeout: Duration::from_secs(config.connect_timeout_secs),
            request_timeout: Duration::from_secs(config.request_timeout_secs),
        }
    }

    /// The text at the URL. `max_bytes` bounds it.
    pub async fn get(
        &self,
        url: &HttpUrl,
        header: Option<(&'static str, &'static str)>,
        max_bytes: usize,
    ) -> Result<String, HttpError> {
        let mut request = Request::builder().method(Method::GET);
        if let Some((name, value)) = header {
            request = request.header(HeaderName::from_static(name), value);
        }
        self.exchange(url, request, Bytes::new(), max_bytes).await
    }

    /// Like [`Client::get`], but tries again after a pause if the failure may be transient.
    pub async fn get_retrying(
        &self,
        url: &HttpUrl,
        header: Option<(&'static str, &'static str)>,
        max_bytes: usize,
    ) -> Result<String, HttpError> {
        let mut attempt = 1;
        loop {
            match self.get(url, header, max_bytes).await {
                Err(error) if error.is_transient() && attempt < retry::ATTEMPTS => {
                    tracing::debug!(%url, %error, attempt, "the request failed; trying again");
                    tokio::time::sleep(retry::pause(attempt, fastrand::f64())).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// Posts a JSON document and returns the response. Does not retry: the server may have done what the document asks.
    pub async fn post(&self, url: &HttpUrl, document: &Value, max_bytes: usize) -> Result<String, HttpError> {
        let request = Request::builder().method(Method::POST).header(CONTENT_TYPE, "application/json");
        self.exchange(url, request, Bytes::from(document.to_string()), max_bytes).await
    }

    async fn exchange(
        &self,
        url: &HttpUrl,
        request: hyper::http::request::Builder,
        body: Bytes,
        max_bytes: usize,
    ) -> Result<String, HttpError> {
        let request = request
            .uri(url.path())
            .header(HOST, url.authority())
            .header(ACCEPT, "*/*")
            .header(CONNECTION, "close")
            .body(Full::new(body))
            .map_err(HttpError::Request)?;
        let exchange = async {
            let stream = self.connect(url).await?;
            let (mut sender, connection) = http1::Builder::new()
                .max_buf_size(MAX_HEADERS_BYTES)
                .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
                .await?;
            // The connection's task must run for the exchange to make progress. If it fails, the exchange fails too.
            let drive_connection = async {
                let _ = connection.await;
                pending::<Infallible>().await
            };
            let response = async { read_text(check_status(sender.send_request(request).await?)?, max_bytes).await };
            tokio::select! {
                response = response => response,
                never = drive_connection => match never {},
            }
        };
        timeout(self.request_timeout, exchange).await.map_err(|_| HttpError::Slow { limit: self.request_timeout })?
    }

    async fn connect(&self, url: &HttpUrl) -> Result<TcpStream, HttpError> {
        match timeout(self.connect_timeout, TcpStream::connect((url.host(), url.port()))).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(HttpError::Connect(source)),
            Err(_) => Err(HttpError::Unreachable { limit: self.connect_timeout }),
        }
    }
}

fn check_status(response: Response<Incoming>) -> Result<Response<Incoming>, HttpError> {
    let status = response.status();
    if status.is_redirection() {
        let location = response.headers().get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
        return Err(HttpError::Redirect { status, location: location.unwrap_or_default().into_owned() });
    }
    // Every request of the agent expects content, so 204 is an error too.
    if status == hyper::StatusCode::OK { Ok(response) } else { Err(HttpError::Status(status)) }
}

/// Reads piece by piece, so that too long a body is refused before all of it has arrived.
async fn read_text(response: Response<Incoming>, max_bytes: usize) -> Result<String, HttpError> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > max_bytes {
            return Err(HttpError::TooLarge { max_bytes });
        }
        bytes.extend_from_slice(&data);
    }
    String::from_utf8(bytes.into()).map_err(|_| HttpError::NotText)
}
