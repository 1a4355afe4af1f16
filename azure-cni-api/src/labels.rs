//! The labels of a host veth in the kernel: its group marks it as ours, and its alias names the attachment and the path of
//! the pod's namespace.
//!
//! Name and MAC do not mark it as ours: the platform's own plugin uses the same.

use std::path::{Path, PathBuf};

use crate::cni::AttachmentId;

/// Set by the message that creates the veth, so that it never exists without.
pub const GROUP: u32 = 0xac1;

const PREFIX: &str = "azure-cni";
/// `IFALIASZ` (include/uapi/linux/if.h) is 256; the kernel counts the zero that ends the netlink attribute.
const MAX: usize = 254;

/// The content of an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub id: AttachmentId,
    /// `None` if it did not fit.
    pub netns: Option<PathBuf>,
}

/// The alias of an attachment's host veth. It leaves out what does not fit, the namespace first.
pub fn alias(id: &AttachmentId, netns: &Path) -> String {
    let named = format!("{PREFIX} {id}");
    let netns = netns.to_str().filter(|path| !path.is_empty() && !path.contains(char::is_control));
    let full = netns.map(|path| format!("{named} {path}"));
    [full, Some(named)].into_iter().flatten().find(|alias| alias.len() <= MAX).unwrap_or_else(|| PREFIX.to_owned())
}

/// `None` if the alias names no attachment.
pub fn read_alias(alias: &str) -> Option<Label> {
    let rest = alias.strip_prefix(PREFIX)?.strip_prefix(' ')?;
    let (id, netns) = match rest.split_once(' ') {
        Some((id, netns)) => (id, Some(PathBuf::from(netns))),
        None => (rest, None),
    };
    let mut parts = id.split('/');
    let id = AttachmentId {
        network: parts.next()?.parse().ok()?,
        container_id: parts.next()?.parse().ok()?,
        ifname: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(Label { id, netns })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(network: &str, container: &str) -> AttachmentId {
        AttachmentId {
            network: network.parse().unwrap(),
            container_id: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        }
    }

    #[test]
    fn an_alias_of_a_runtime_has_room_for_everything() {
        let (container, netns) = ("0".repeat(64), "/var/run/netns/cni-01234567-89ab-cdef-0123-456789abcdef");
        let alias = alias(&id("azure", &container), Path::new(netns));
        assert_eq!(alias, format!("azure-cni azure/{container}/eth0 {netns}"));
    }

    #[test]
    fn parts_that_do_not_fit_are_left_out_and_never_cut() {
        let long = "p".repeat(250);
        assert_eq!(alias(&id("azure", "c1"), Path::new(&long)), "azure-cni azure/c1/eth0");
        assert_eq!(alias(&id(&long, "c1"), Path::new("/run/netns/p")), "azure-cni");
        assert_eq!(read_alias("azure-cni"), None);
        assert_eq!(alias(&id("azure", "c1"), Path::new("/run/a\nb")), "azure-cni azure/c1/eth0");
    }

    proptest! {
        #[test]
        fn an_alias_reads_back_and_fits(
            network in "[a-z0-9][a-zA-Z0-9_.-]{0,120}",
            container in "[a-z0-9][a-zA-Z0-9_.-]{0,120}",
            netns in "/[ -~]{0,200}",
        ) {
            let id = id(&network, &container);
            let alias = alias(&id, Path::new(&netns));
            prop_assert!(alias.len() <= MAX);
            match read_alias(&alias) {
                Some(label) => {
                    prop_assert_eq!(label.id, id);
                    prop_assert!(label.netns.is_none_or(|read| read == Path::new(&netns)));
                }
                None => prop_assert_eq!(alias, PREFIX),
            }
        }

        #[test]
        fn no_alias_of_others_makes_the_reader_panic(alias in ".{0,80}", ours in "azure-cni .{0,80}") {
            let _ = read_alias(&alias);
            let _ = read_alias(&ours);
        }
    }
}
