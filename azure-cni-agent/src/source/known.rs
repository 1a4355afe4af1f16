//! The pool as last confirmed by its source, kept on the disk: an agent that starts while the source is down works on.

use std::io::ErrorKind;
use std::path::Path;

use azure_cni_api::MacAddress;
use azure_cni_api::durable::{self, PRIVATE, PRIVATE_DIR};
use azure_cni_ipam::Pool;
use serde::{Deserialize, Serialize};

use super::Origin;

/// In the state directory.
pub const FILE_NAME: &str = "pool.json";

/// Good for the same source and the same NIC only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    pub origin: Origin,
    /// MAC address.
    pub uplink: String,
    pub confirmed_unix_secs: u64,
    pub pool: Pool,
}

impl Known {
    pub fn new(origin: Origin, uplink: [u8; 6], confirmed_unix_secs: u64, pool: Pool) -> Self {
        Self { origin, uplink: MacAddress(uplink).to_string(), confirmed_unix_secs, pool }
    }

    /// What an earlier agent kept, if it is of this source and NIC. What cannot be read is as good as absent: the source
    /// is asked instead.
    pub fn read(dir: &Path, origin: &Origin, uplink: [u8; 6]) -> Option<Self> {
        let path = dir.join(FILE_NAME);
        let known: Self = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "the known pool is not understood"))
                .ok()?,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "the known pool cannot be read");
                }
                return None;
            }
        };
        (known.origin == *origin && known.uplink == MacAddress(uplink).to_string()).then_some(known)
    }

    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        durable::create_dir(dir, PRIVATE_DIR)?;
        durable::replace(&dir.join(FILE_NAME), &serde_json::to_vec(self)?, PRIVATE)
    }
}

#[cfg(test)]
mod tests {
    use azure_cni_ipam::wireserver;

    use super::*;
    use crate::config::PoolSource;

    const MAC: [u8; 6] = [0, 0x0d, 0x3a, 0, 0, 1];

    fn known() -> Known {
        let xml = "<Interfaces><Interface MacAddress=\"*\"><IPSubnet Prefix=\"10.0.0.0/24\">\
                   <IPAddress Address=\"10.0.0.4\" IsPrimary=\"true\"/><IPAddress Address=\"10.0.0.1\"/>\
                   <IPAddress Address=\"10.0.0.9\"/></IPSubnet></Interface></Interfaces>";
        let mut pool = Pool::for_uplink(&wireserver::parse(xml).unwrap(), MacAddress(MAC)).unwrap();
        pool.public.insert("10.0.0.9".parse().unwrap());
        let origin = Origin { source: PoolSource::WireServer, from: "http://a/".into() };
        Known::new(origin, MAC, 77, pool)
    }

    #[test]
    fn what_is_kept_is_what_is_read_by_the_same_source_and_nic_alone() {
        let dir = tempfile::tempdir().unwrap();
        let known = known();
        assert_eq!(Known::read(dir.path(), &known.origin, MAC), None);
        known.write(dir.path()).unwrap();
        assert_eq!(Known::read(dir.path(), &known.origin, MAC), Some(known.clone()));
        assert_eq!(Known::read(dir.path(), &known.origin, [2; 6]), None);
        let elsewhere = Origin { from: "http://b/".into(), ..known.origin };
        assert_eq!(Known::read(dir.path(), &elsewhere, MAC), None);
    }

    #[test]
    fn what_is_not_understood_is_as_good_as_absent() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{", "{}", "null", "\u{0}\u{0}"] {
            std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
            assert_eq!(Known::read(dir.path(), &known().origin, MAC), None, "{text:?}");
        }
    }
}
