//! The identity of an attachment: network, container and interface, each validated once, when it is made.
//!
//! The patterns are those of the CNI specification (sections "Parameters" and "Network configuration format").

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} {value:?} does not match ^[a-zA-Z0-9][a-zA-Z0-9_.\\-]*$")]
    Pattern { what: &'static str, value: String },
    #[error("{what} {value:?} {problem}")]
    Interface { what: &'static str, value: String, problem: &'static str },
}

fn check_identifier(what: &'static str, value: &str) -> Result<(), InvalidName> {
    let mut bytes = value.bytes();
    let first = bytes.next().ok_or(InvalidName::Empty { what })?;
    let valid =
        first.is_ascii_alphanumeric() && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if valid { Ok(()) } else { Err(InvalidName::Pattern { what, value: value.to_owned() }) }
}

fn check_interface(what: &'static str, value: &str) -> Result<(), InvalidName> {
    let problem = match value {
        "" => return Err(InvalidName::Empty { what }),
        "." | ".." => "is not a name an interface can have",
        // IFNAMSIZ (include/uapi/linux/if.h) is 16, the terminating zero included.
        _ if value.len() > 15 => "is longer than 15 characters",
        _ if value.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) => {
            "contains '/', ':', white space or a control character"
        }
        _ => return Ok(()),
    };
    Err(InvalidName::Interface { what, value: value.to_owned(), problem })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(value: String) -> Result<Self, InvalidName> {
                $check($what, &value)?;
                Ok(Self(value))
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(value: &str) -> Result<Self, InvalidName> {
                value.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The runtime's name of the container (`CNI_CONTAINERID`).
    ContainerId, "CNI_CONTAINERID", check_identifier
);
name_type!(
    /// The name of the network configuration (`name`).
    NetworkName, "network name", check_identifier
);
name_type!(
    /// The interface inside the pod (`CNI_IFNAME`): 1 to 15 characters.
    InterfaceName, "CNI_IFNAME", check_interface
);

/// The key of everything that belongs to one attachment: lease, links, map entries, records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentId {
    pub network: NetworkName,
    pub container_id: ContainerId,
    pub ifname: InterfaceName,
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.network, self.container_id, self.ifname)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_follow_the_specification() {
        for good in ["a", "0", "98f722bb_x.y-z"] {
            assert!(good.parse::<ContainerId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a/b", "a b", "é"] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn interface_names_follow_the_kernel() {
        for good in ["eth0", "a", "123456789012345", "net.1"] {
            assert!(good.parse::<InterfaceName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "1234567890123456", "a/b", "a:b", "a b", "a\tb", "a\0b"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad}");
        }
    }
}
