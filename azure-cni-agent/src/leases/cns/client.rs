//! The calls, in the form that the server knows: the newer one first, the older where that is not found.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use azure_cni_ipam::cns::{self, Assigned, Claim, CnsAnswerError, Form};
use serde_json::Value;

use super::error::CnsError;
use crate::config::{HttpUrl, PoolConfig};
use crate::http::Client;

#[derive(Debug)]
pub struct CnsClient {
    http: Client,
    url: HttpUrl,
    /// The server has shown that it knows the older form only. Not kept on the disk, as a server may be upgraded.
    is_old: AtomicBool,
}

impl CnsClient {
    pub fn new(config: &PoolConfig) -> Self {
        Self { http: Client::new(config), url: config.cns_url.clone(), is_old: AtomicBool::new(false) }
    }

    /// Addresses for the claim's attachment: those it has, if it has some. `desired`: these and no others; empty: any.
    pub async fn request(&self, claim: &Claim, desired: &[IpAddr]) -> Result<Assigned, CnsError> {
        let body = |form| claim.request(form, desired);
        self.call(Form::request_path, body, cns::parse_assigned).await
    }

    /// Gives the addresses back. Succeeds if there were none.
    pub async fn release(&self, claim: &Claim) -> Result<(), CnsError> {
        self.call(Form::release_path, |form| claim.request(form, &[]), cns::parse_released).await
    }

    async fn call<T>(
        &self,
        path: fn(Form) -> &'static str,
        body: impl Fn(Form) -> Value,
        parse: fn(&str) -> Result<T, CnsAnswerError>,
    ) -> Result<T, CnsError> {
        if !self.is_old.load(Ordering::Relaxed) {
            match self.call_in(Form::Many, path, &body, parse).await {
                Err(CnsError::Http { source, .. }) if source.is_not_found() => {
                    tracing::info!(url = %self.url, "azure-cns knows the older form of its calls only");
                    self.is_old.store(true, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        let answer = self.call_in(Form::One, path, &body, parse).await;
        if answer.as_ref().is_err_and(|error| matches!(error, CnsError::Http { source, .. } if source.is_not_found())) {
            self.is_old.store(false, Ordering::Relaxed);
        }
        answer
    }

    async fn call_in<T>(
        &self,
        form: Form,
        path: fn(Form) -> &'static str,
        body: &impl Fn(Form) -> Value,
        parse: fn(&str) -> Result<T, CnsAnswerError>,
    ) -> Result<T, CnsError> {
        let url = self.url.join(path(form)).expect("a URL that a constant path is added to");
        let answer = self.http.post(&url, &body(form), cns::MAX_BYTES).await;
        let text = answer.map_err(|source| CnsError::Http { url: url.to_string(), source })?;
        parse(&text).map_err(|source| CnsError::Answer { url: url.to_string(), source })
    }
}
