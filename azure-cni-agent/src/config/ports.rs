//! A range of ports, written `first-last`, both included. A range that exists is ordered and never holds port 0.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Ports `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Why a text is not a port range. A retry never helps: the text has to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortRangeError {
    /// Not two parts around one separator.
    #[error("port range {0:?} is not of the form \"first-last\", as in \"1024-29999\"")]
    Form(String),
    /// A part that is not a port.
    #[error("{port:?} in port range {range:?} is not a port (1 to 65535)")]
    Port { port: String, range: String },
    /// The first port is above the last.
    #[error("port range {first}-{last} ends before it begins")]
    Order { first: u16, last: u16 },
}

impl PortRange {
    pub fn new(first: u16, last: u16) -> Result<Self, PortRangeError> {
        if first == 0 {
            return Err(PortRangeError::Port { port: "0".to_owned(), range: format!("{first}-{last}") });
        }
        if first > last {
            return Err(PortRangeError::Order { first, last });
        }
        Ok(Self { first, last })
    }

    /// A range that is a constant of the program. A wrong one fails to compile, or fails every test.
    pub(super) const fn literal(first: u16, last: u16) -> Self {
        assert!(first != 0 && first <= last);
        Self { first, last }
    }

    /// Reads the form of `/proc/sys/net/ipv4/ip_local_port_range`: two numbers with white space between them.
    pub fn from_sysctl(text: &str) -> Result<Self, PortRangeError> {
        let mut parts = text.split_ascii_whitespace();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(first), Some(last), None) => Self::from_parts(first, last, text.trim()),
            _ => Err(PortRangeError::Form(text.trim().to_owned())),
        }
    }

    fn from_parts(first: &str, last: &str, range: &str) -> Result<Self, PortRangeError> {
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port != 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
            _ => Err(PortRangeError::Port { port: text.to_owned(), range: range.to_owned() }),
        };
        Self::new(port(first)?, port(last)?)
    }

    pub fn first(self) -> u16 {
        self.first
    }

    pub fn last(self) -> u16 {
        self.last
    }

    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// The ports that both ranges hold.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }
}

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let (first, last) = text.split_once('-').ok_or_else(|| PortRangeError::Form(text.to_owned()))?;
        Self::from_parts(first.trim(), last.trim(), text)
    }
}

impl TryFrom<String> for PortRange {
    type Error = PortRangeError;

    fn try_from(text: String) -> Result<Self, PortRangeError> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_range() -> impl Strategy<Value = PortRange> {
        (1u16.., 1u16..).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap())
    }

    #[test]
    fn a_malformed_range_is_refused_with_what_is_wrong_in_it() {
        for (text, complaint) in [
            ("", "is not of the form"),
            ("80", "is not of the form"),
            ("-80", "\"\" in port range"),
            ("80-", "\"\" in port range"),
            ("1-2-3", "\"2-3\" in port range"),
            ("+1-80", "\"+1\" in port range"),
            ("0-80", "\"0\" in port range"),
            ("1-65536", "\"65536\" in port range"),
            ("a-b", "\"a\" in port range"),
            ("80-79", "ends before it begins"),
        ] {
            let error = text.parse::<PortRange>().expect_err(text).to_string();
            assert!(error.contains(complaint), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_kernel_form_is_read() {
        assert_eq!(PortRange::from_sysctl("32768\t60999\n"), PortRange::new(32768, 60999));
        for bad in ["", "1", "1 2 3", "a 2", "9 8"] {
            assert!(PortRange::from_sysctl(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_range_reads_back_as_written(range in any_range()) {
            prop_assert_eq!(range.to_string().parse::<PortRange>(), Ok(range));
        }

        #[test]
        fn the_intersection_holds_exactly_the_common_ports(a in any_range(), b in any_range(), port in 1u16..) {
            let common = a.intersection(b).is_some_and(|both| both.contains(port));
            prop_assert_eq!(common, a.contains(port) && b.contains(port));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,20}") {
            let _ = text.parse::<PortRange>();
            let _ = PortRange::from_sysctl(&text);
        }
    }
}
