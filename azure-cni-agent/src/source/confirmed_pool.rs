//! The pool as its source last confirmed it, stored on disk, so that an agent can start while the source is down.

use std::io::ErrorKind;
use std::path::Path;

use azure_cni_api::MacAddress;
use azure_cni_api::durable::{self, PRIVATE, PRIVATE_DIR};
use azure_cni_ipam::Pool;
use serde::{Deserialize, Serialize};

use super::origin::Origin;

/// In the state directory.
pub const FILE_NAME: &str = "pool.json";

/// Valid for the same source and the same NIC only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfirmedPool {
    pub origin: Origin,
    /// MAC address.
    pub uplink: String,
    pub confirmed_unix_secs: u64,
    pub pool: Pool,
}

impl ConfirmedPool {
    pub fn new(origin: Origin, uplink: [u8; 6], confirmed_unix_secs: u64, pool: Pool) -> Self {
        Self { origin, uplink: MacAddress(uplink).to_string(), confirmed_unix_secs, pool }
    }

    /// The pool that an earlier agent stored, if it is of one of these sources and of this NIC. `None` too if the file cannot be read:
    /// the agent then waits for the source.
    pub fn read(dir: &Path, origins: &[Origin], uplink: [u8; 6]) -> Option<Self> {
        let path = dir.join(FILE_NAME);
        let stored: Self = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "the stored pool is malformed"))
                .ok()?,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "cannot read the stored pool");
                }
                return None;
            }
        };
        (origins.contains(&stored.origin) && stored.uplink == MacAddress(uplink).to_string()).then_some(stored)
    }

    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        durable::create_dir(dir, PRIVATE_DIR)?;
        durable::replace(&dir.join(FILE_NAME), &serde_json::to_vec(self)?, PRIVATE)
    }
}

#[cfg(test)]
mod tests {
    use azure_cni_ipam::wireserver;

    use super::super::origin::Kind;
    use super::*;
    const MAC: [u8; 6] = [0, 0x0d, 0x3a, 0, 0, 1];

    fn confirmed() -> ConfirmedPool {
        let xml = "<Interfaces><Interface MacAddress=\"*\"><IPSubnet Prefix=\"10.0.0.0/24\">\
                   <IPAddress Address=\"10.0.0.4\" IsPrimary=\"true\"/><IPAddress Address=\"10.0.0.1\"/>\
                   <IPAddress Address=\"10.0.0.9\"/></IPSubnet></Interface></Interfaces>";
        let mut pool = Pool::for_uplink(&wireserver::parse(xml).unwrap(), MacAddress(MAC)).unwrap();
        pool.public.insert("10.0.0.9".parse().unwrap());
        let origin = Origin { kind: Kind::WireServer, from: "http://a/".into() };
        ConfirmedPool::new(origin, MAC, 77, pool)
    }

    #[test]
    fn only_the_same_source_and_nic_read_back_what_was_stored() {
        let dir = tempfile::tempdir().unwrap();
        let stored = confirmed();
        let same = [stored.origin.clone()];
        assert_eq!(ConfirmedPool::read(dir.path(), &same, MAC), None);
        stored.write(dir.path()).unwrap();
        assert_eq!(ConfirmedPool::read(dir.path(), &same, MAC), Some(stored.clone()));
        assert_eq!(ConfirmedPool::read(dir.path(), &same, [2; 6]), None);
        let elsewhere = Origin { from: "http://b/".into(), ..stored.origin.clone() };
        assert_eq!(ConfirmedPool::read(dir.path(), std::slice::from_ref(&elsewhere), MAC), None);
        assert_eq!(ConfirmedPool::read(dir.path(), &[elsewhere, stored.origin.clone()], MAC), Some(stored));
    }

    #[test]
    fn a_malformed_file_is_treated_as_absent() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{", "{}", "null", "\u{0}\u{0}"] {
            std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
            assert_eq!(ConfirmedPool::read(dir.path(), &[confirmed().origin], MAC), None, "{text:?}");
        }
    }
}
