//! Names and MAC addresses that follow from the attachment's identity: the same attachment always has the same.

use sha2::{Digest, Sha256};

use crate::cni::AttachmentId;

/// The name of the host veth: `azv` and 11 hex digits of a SHA-256 over the identity.
pub fn host_interface(id: &AttachmentId) -> String {
    let hex: String = digest(id).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("azv{}", &hex[..11])
}

/// Whether this is the name of a host veth.
pub fn is_host_interface(name: &str) -> bool {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.strip_prefix("azv").is_some_and(|digits| digits.len() == 11 && digits.bytes().all(lower_hex))
}

/// The routing table, in the pod, of the attachment with this host veth, if it has one of its own: thirty bits of the name, above
/// the tables that others number from 1.
pub fn route_table(host_interface: &str) -> u32 {
    const FIRST: u32 = 1 << 30;
    let digits = host_interface.strip_prefix("azv").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    FIRST | (digits.unwrap_or_default() & u64::from(FIRST - 1)) as u32
}

/// The MAC of the pod's interface: a locally administered unicast address (IEEE 802, U/L bit set, I/G bit clear).
pub fn pod_mac(id: &AttachmentId) -> [u8; 6] {
    let digest = digest(id);
    let mut mac = [digest[6], digest[7], digest[8], digest[9], digest[10], digest[11]];
    mac[0] = (mac[0] | 0x02) & !0x01;
    mac
}

fn digest(id: &AttachmentId) -> [u8; 32] {
    // None of the three can contain a slash or a zero byte: no two attachments give the same text.
    Sha256::digest(format!("{}\0{}\0{}", id.network, id.container_id, id.ifname)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(network: &str, container: &str, ifname: &str) -> AttachmentId {
        AttachmentId {
            network: network.parse().unwrap(),
            container_id: container.parse().unwrap(),
            ifname: ifname.parse().unwrap(),
        }
    }

    #[test]
    fn tables_of_routes_differ_between_attachments_and_are_no_table_of_the_kernels() {
        let one = route_table("azv97c9543ab0f");
        assert_eq!(one, 0x4000_0000 | 0x1543_ab0f);
        assert_ne!(one, route_table(&host_interface(&id("azure", "98f722bb", "eth1"))));
        assert!(route_table("azv00000000000") > 255);
    }

    #[test]
    fn names_are_stable_and_differ_between_attachments() {
        let first = id("azure", "98f722bb", "eth0");
        assert_eq!(host_interface(&first), "azv97c9543ab0f");
        for other in [id("azure", "98f722bb", "eth1"), id("azure", "98f722bc", "eth0"), id("azur", "e98f722bb", "eth0")]
        {
            assert_ne!(host_interface(&first), host_interface(&other));
            assert_ne!(pod_mac(&first), pod_mac(&other));
        }
        assert_eq!(host_interface(&first).len(), 14);
    }

    #[test]
    fn host_veths_are_recognized_by_name() {
        assert!(is_host_interface("azv97c9543ab0f"));
        for other in ["azv", "azv97c9543ab0", "azv97c9543ab0f1", "azv97C9543ab0f", "eth0", "azvxxxxxxxxxxx"] {
            assert!(!is_host_interface(other), "{other}");
        }
    }

    #[test]
    fn pod_macs_are_local_unicast() {
        for number in 0..64 {
            let mac = pod_mac(&id("azure", &format!("c{number}"), "eth0"));
            assert_eq!(mac[0] & 0x03, 0x02, "{mac:02x?}");
        }
    }
}
