//! What azure-cns may hold for attachments of this node: one small file for each, written before it is asked.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use azure_cni_api::cni::AttachmentId;
use azure_cni_api::durable::{self, PRIVATE, PRIVATE_DIR};
use azure_cni_ipam::cns::Claim;
use sha2::{Digest, Sha256};

use super::error::CnsError;

const SUFFIX: &str = ".json";

/// The `async` calls go to the disk on a thread that may block.
#[derive(Debug, Clone)]
pub struct Claims {
    dir: PathBuf,
}

impl Claims {
    pub fn in_dir(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The claim is on the disk when this returns.
    pub async fn put(&self, claim: &Claim) -> std::result::Result<(), CnsError> {
        let (name, content) = (file_name(&claim.id), serde_json::to_vec(claim).map_err(Error::from));
        let put = move |dir: &Path| {
            durable::create_dir(dir, PRIVATE_DIR)?;
            durable::replace(&dir.join(name), &content?, PRIVATE)
        };
        self.blocking(put).await
    }

    /// Removes the claim of an attachment. Succeeds if there is none.
    pub async fn remove(&self, id: &AttachmentId) -> std::result::Result<(), CnsError> {
        let name = file_name(id);
        self.blocking(move |dir| durable::remove(&dir.join(name)).map(drop)).await
    }

    /// All claims. A file that is not understood is named in the log and left where it is.
    pub async fn all(&self) -> std::result::Result<Vec<Claim>, CnsError> {
        self.blocking(read_all).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, CnsError> {
        let dir = self.dir.clone();
        let done = tokio::task::spawn_blocking(move || work(&dir)).await;
        done.unwrap_or_else(|panic| Err(Error::other(panic)))
            .map_err(|source| CnsError::Claims { path: self.dir.clone(), source })
    }
}

/// An attachment's name may be longer than a file's.
fn file_name(id: &AttachmentId) -> String {
    let digest: String = Sha256::digest(id.to_string()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digest}{SUFFIX}")
}

fn read_all(dir: &Path) -> Result<Vec<Claim>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut claims = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_claim = path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.ends_with(SUFFIX) && !durable::is_unfinished(&name)
        });
        if !is_claim {
            continue;
        }
        match serde_json::from_slice(&std::fs::read(&path)?) {
            Ok(claim) => claims.push(claim),
            Err(error) => tracing::warn!(path = %path.display(), %error, "a claim on azure-cns is not understood"),
        }
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(container: &str) -> Claim {
        let id = azure_cni_api::cni::sample::attachment(container);
        Claim { id, pod_name: "p".into(), pod_namespace: "n".into() }
    }

    #[tokio::test]
    async fn claims_are_kept_once_for_each_attachment_and_gone_when_removed() {
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::in_dir(dir.path().join("cns"));
        assert_eq!(claims.all().await.unwrap(), []);
        let (a, b) = (claim("a"), claim(&"b".repeat(300)));
        for one in [&a, &b, &a] {
            claims.put(one).await.unwrap();
        }
        assert_eq!(claims.all().await.unwrap().len(), 2);
        claims.remove(&a.id).await.unwrap();
        claims.remove(&a.id).await.unwrap();
        assert_eq!(claims.all().await.unwrap(), [b]);
    }

    #[tokio::test]
    async fn a_claim_that_is_not_understood_does_not_hide_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::in_dir(dir.path().to_owned());
        claims.put(&claim("a")).await.unwrap();
        std::fs::write(dir.path().join("x.json"), "{").unwrap();
        std::fs::write(dir.path().join(".y.json.7"), "half").unwrap();
        assert_eq!(claims.all().await.unwrap(), [claim("a")]);
    }
}
