//! Reads the addresses from a source, once.

use std::io::{Error, ErrorKind, Read};
use std::path::{Path, PathBuf};

use azure_cni_api::MacAddress;
use azure_cni_ipam::{Listing, Pool, imds, listing, wireserver};

use super::error::{Problem, SourceError};
use super::origin::{Kind, Origin};
use crate::config::PoolConfig;
use crate::http::Client;
use crate::net::Link;

/// Instance metadata requires this header, so that no client can be tricked into a request.
const METADATA_HEADER: (&str, &str) = ("metadata", "true");

/// The pool of the uplink, as the source lists it now.
pub async fn fetch_pool(config: &PoolConfig, kind: Kind, uplink: &Link) -> Result<Pool, SourceError> {
    let failed = |problem| SourceError { origin: Origin::of(config, kind), problem };
    let listing = fetch_listing(config, kind).await.map_err(failed)?;
    Pool::for_uplink(&listing, MacAddress(uplink.mac))
        .map_err(|source| failed(Problem::Pool { uplink: uplink.name.clone(), source }))
}

async fn fetch_listing(config: &PoolConfig, kind: Kind) -> Result<Listing, Problem> {
    let client = Client::new(config);
    let text = match kind {
        Kind::WireServer => client.get_retrying(&config.wireserver_url, None, wireserver::MAX_BYTES).await?,
        Kind::Imds => client.get_retrying(&config.imds_url, Some(METADATA_HEADER), imds::MAX_BYTES).await?,
        Kind::File => read_file(config.file.clone()).await?,
        Kind::Cns => return Err(Problem::Unlisted),
    };
    Ok(listing::parse(&text)?)
}

async fn read_file(path: PathBuf) -> Result<String, Error> {
    tokio::task::spawn_blocking(move || read_bounded(&path)).await.map_err(Error::other)?
}

fn read_bounded(path: &Path) -> Result<String, Error> {
    // Opening another kind of file, such as a FIFO, could block for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = String::new();
    let limit = wireserver::MAX_BYTES as u64 + 1;
    std::fs::File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_anything_else_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool.xml");
        assert_eq!(read_bounded(&path).unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::write(&path, "<a/>").unwrap();
        assert_eq!(read_bounded(&path).unwrap(), "<a/>");
        assert_eq!(read_bounded(dir.path()).unwrap_err().to_string(), "not a regular file");
    }
}
