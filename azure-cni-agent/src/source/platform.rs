//! Whether this machine is a VM of the platform, without asking the network: its services may not answer yet.

use std::fs::read_to_string;

const ASSET_TAG_FILE: &str = "/sys/class/dmi/id/chassis_asset_tag";

/// The platform gives each of its VMs this one; cloud-init recognises them by it (cloudinit/sources/DataSourceAzure.py).
const ASSET_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

pub fn is_here() -> bool {
    read_to_string(ASSET_TAG_FILE).is_ok_and(|tag| is_the_platforms(&tag))
}

/// The kernel ends the file with a newline.
fn is_the_platforms(tag: &str) -> bool {
    tag.trim() == ASSET_TAG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_platforms_tag_is() {
        assert!(is_the_platforms("7783-7084-3265-9085-8269-3286-77\n"));
        for other in ["", "\n", "Not Specified\n", "Amazon EC2\n", "7783-7084-3265-9085-8269-3286-770\n"] {
            assert!(!is_the_platforms(other), "{other:?}");
        }
    }
}
