//! Which veths are ours.

use azure_cni_api::{labels, names};

use crate::net::Link;

/// Whether the agent made this host veth. The kernel makes the veth with our group, so it is ours from its first moment.
/// A veth with our kind of name and no group is another plugin's.
pub fn is_ours(link: &Link) -> bool {
    names::is_host_interface(&link.name) && link.is_veth && link.group == labels::GROUP
}
