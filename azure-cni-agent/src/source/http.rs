//! One request over HTTP/1.1, on a connection of its own: all that the platform's services need.
//!
//! The rule: bounded in time and in memory whatever the other end does, and nobody but the host of the URL is talked to:
//! redirects are not followed, and no proxy is known.

mod error;
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

use super::retry;
use crate::config::{HttpUrl, PoolConfig};

/// Of an answer's first line and headers, and of what is read at once.
const MAX_HEADERS_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// For the other end to accept a connection.
    connect: Duration,
    /// For one request, from its beginning to the end of its answer.
    whole: Duration,
}

impl Client {
    pub fn new(config: &PoolConfig) -> Self {
        Self {
            connect: Duration::from_secs(config.connect_timeout_secs),
            whole: Duration::from_secs(config.request_timeout_secs),
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

    /// Like [`Client::get`], and again after a pause where it failed in passing.
    pub async fn get_retrying(
        &self,
        url: &HttpUrl,
        header: Option<(&'static str, &'static str)>,
        max_bytes: usize,
    ) -> Result<String, HttpError> {
        let mut attempt = 1;
        loop {
            match self.get(url, header, max_bytes).await {
                Err(error) if error.is_passing() && attempt < retry::ATTEMPTS => {
                    tracing::debug!(%url, %error, attempt, "asking again");
                    tokio::time::sleep(retry::pause(attempt, fastrand::f64())).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// The answer to a JSON document that is sent to the URL. Once only: what it asks for may have been done.
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
            // It carries the exchange; what ends it early, the exchange sees too.
            let carrier = async {
                let _ = connection.await;
                pending::<Infallible>().await
            };
            let answer = async { text(accepted(sender.send_request(request).await?)?, max_bytes).await };
            tokio::select! {
                answer = answer => answer,
                never = carrier => match never {},
            }
        };
        timeout(self.whole, exchange).await.map_err(|_| HttpError::Slow { limit: self.whole })?
    }

    async fn connect(&self, url: &HttpUrl) -> Result<TcpStream, HttpError> {
        match timeout(self.connect, TcpStream::connect((url.host(), url.port()))).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(HttpError::Connect(source)),
            Err(_) => Err(HttpError::Unreachable { limit: self.connect }),
        }
    }
}

fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, HttpError> {
    let status = response.status();
    if status.is_redirection() {
        let location = response.headers().get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
        return Err(HttpError::Redirect { status, location: location.unwrap_or_default().into_owned() });
    }
    // What has no content is no answer to any question of ours.
    if status == hyper::StatusCode::OK { Ok(response) } else { Err(HttpError::Status(status)) }
}

/// Read piece by piece: what is too long is refused before it is all there.
async fn text(response: Response<Incoming>, max_bytes: usize) -> Result<String, HttpError> {
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
