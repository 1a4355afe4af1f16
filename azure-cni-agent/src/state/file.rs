//! The files of the store: what they are called, and what is in them.
//!
//! | name | what |
//! |---|---|
//! | `azv0123456789a.json` | the record of the attachment whose host veth has this name |
//! | `azv0123456789a.released.<boot id>.<nanoseconds since boot>` | the record of one that was deleted then |
//! | `….damaged-<milliseconds since 1970>` | what was not understood, by when it was written |

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use azure_cni_api::cni::AttachmentId;
use azure_cni_api::names::host_interface;
use sha2::{Digest, Sha256};

use super::record::AttachmentRecord;

const RECORD: &str = ".json";
const RELEASED: &str = ".released.";

/// What a file of the store is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<'a> {
    Record,
    Released { boot_id: &'a str, at: Duration },
}

impl<'a> Kind<'a> {
    /// `None`: nothing that is read.
    pub fn of(name: &'a str) -> Option<Self> {
        if name.ends_with(RECORD) {
            return Some(Self::Record);
        }
        let (boot_id, nanos) = name.split_once(RELEASED)?.1.rsplit_once('.')?;
        Some(Self::Released { boot_id, at: Duration::from_nanos(nanos.parse().ok()?) })
    }
}

pub fn record_name(id: &AttachmentId) -> String {
    interface_name(&host_interface(id))
}

/// Of the record of the attachment that has this host veth.
pub fn interface_name(host_interface: &str) -> String {
    format!("{host_interface}{RECORD}")
}

pub fn released_name(id: &AttachmentId, boot_id: &str, at: Duration) -> String {
    format!("{}{RELEASED}{boot_id}.{}", host_interface(id), at.as_nanos())
}

pub fn damaged_name(name: &str, modified: SystemTime) -> String {
    format!("{name}.damaged-{}", modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis())
}

/// JSON that says the record's checksum first.
pub fn encode(record: &AttachmentRecord) -> serde_json::Result<Vec<u8>> {
    let text = serde_json::to_string(record)?;
    Ok(format!("{}{text}{TAIL}", head(&text)).into_bytes())
}

const TAIL: &str = "}\n";

fn head(text: &str) -> String {
    let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{{\"sha256\":\"{digest}\",\"record\":")
}

/// The record in a file of this name; every byte of it is checked. Else what is wrong.
pub fn decode(name: &str, content: &[u8]) -> Result<AttachmentRecord, String> {
    let text = checked(content).ok_or("its checksum is not that of its content")?;
    let record: AttachmentRecord = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if !name.starts_with(&format!("{}.", host_interface(&record.id))) {
        return Err(format!("it is the record of {}", record.id));
    }
    Ok(record)
}

fn checked(content: &[u8]) -> Option<&str> {
    let content = str::from_utf8(content).ok()?;
    let (head, text) = content.split_at_checked(self::head("").len())?;
    let text = text.strip_suffix(TAIL)?;
    (head == self::head(text)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::sample::record;

    #[test]
    fn what_is_written_is_json_and_reads_back() {
        let record = record("a");
        let content = encode(&record).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&content).unwrap();
        assert_eq!(json["record"], serde_json::to_value(&record).unwrap());
        assert_eq!(decode(&record_name(&record.id), &content), Ok(record.clone()));
        assert_eq!(decode(&released_name(&record.id, "b", Duration::ZERO), &content), Ok(record));
    }

    #[test]
    fn a_change_of_any_byte_or_length_is_found() {
        let record = record("a");
        let (name, sound) = (record_name(&record.id), encode(&record).unwrap());
        for at in 0..sound.len() {
            for bits in [0x01, 0x55, 0x80] {
                let mut damaged = sound.clone();
                damaged[at] ^= bits;
                assert!(decode(&name, &damaged).is_err(), "byte {at}");
            }
            assert!(decode(&name, &sound[..at]).is_err(), "cut to {at} bytes");
        }
        assert!(decode(&name, &[sound.as_slice(), b"\n"].concat()).is_err());
    }

    #[test]
    fn a_record_of_an_unknown_shape_or_of_another_attachment_is_none() {
        let (a, b) = (record("a"), record("b"));
        let error = decode(&record_name(&a.id), &encode(&b).unwrap()).unwrap_err();
        assert!(error.contains("azure/b/eth0"), "{error}");
        let text = r#"{"id":{"network":"azure","containerId":"a","ifname":"eth0"}}"#;
        let error = decode(&record_name(&a.id), format!("{}{text}{TAIL}", head(text)).as_bytes()).unwrap_err();
        assert!(error.contains("missing field"), "{error}");
    }

    #[test]
    fn names_tell_what_a_file_is() {
        let (id, at) = (record("a").id, Duration::new(5, 7));
        assert_eq!(Kind::of(&record_name(&id)), Some(Kind::Record));
        assert_eq!(Kind::of(&released_name(&id, "6e7c-b1", at)), Some(Kind::Released { boot_id: "6e7c-b1", at }));
        let names = [record_name(&id), released_name(&id, "b", at)];
        for other in names.iter().map(|name| damaged_name(name, SystemTime::now())).chain(["x.released.b.y".into()]) {
            assert_eq!(Kind::of(&other), None, "{other}");
        }
    }
}
