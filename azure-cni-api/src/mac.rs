//! MAC addresses: as address sources write them (twelve hex digits of any case, with or without colons or dashes), and the one that
//! all host veths have.

use std::fmt;
use std::str::FromStr;

use crate::excerpt::excerpt;

/// The MAC address of every host veth. It is constant, so that nothing on the node rewrites it and pods need not learn it.
pub const HOST_MAC: [u8; 6] = [0xaa; 6];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

/// Not a MAC address. A retry never helps: the text has to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address: twelve hex digits, with or without colons or dashes between the pairs")]
pub struct InvalidMac(String);

impl FromStr for MacAddress {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        parse(text).map(Self).ok_or_else(|| InvalidMac(excerpt(text)))
    }
}

fn parse(text: &str) -> Option<[u8; 6]> {
    let stride = match text.len() {
        12 => 2,
        17 => 3,
        _ => return None,
    };
    let mut mac = [0; 6];
    for (byte, part) in mac.iter_mut().zip(text.as_bytes().chunks(stride)) {
        // The last part has no separator to check.
        let (&[high, low], separator) = part.split_first_chunk()?;
        if !matches!(separator, [] | [b':' | b'-']) {
            return None;
        }
        *byte = u8::try_from(char::from(high).to_digit(16)? << 4 | char::from(low).to_digit(16)?).ok()?;
    }
    Some(mac)
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mac_is_read_in_any_case_with_or_without_separators() {
        let mac = Ok(MacAddress([0x00, 0x0d, 0x3a, 0xf9, 0xdc, 0xa6]));
        for text in ["000D3AF9DCA6", "000d3af9dca6", "00:0D:3A:F9:dc:a6", "00-0D-3A-F9-DC-A6"] {
            assert_eq!(text.parse(), mac, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "*", "000D3AF9DCA", "000D3AF9DCA66", "000D3AF9DCAG", "00.0D.3A.F9.DC.A6", "00:0D:3A:F9:DC:A6:"]
        {
            assert!(text.parse::<MacAddress>().is_err(), "{text:?}");
        }
        for text in ["00:0D:3A:F9:DCA6x", "+0:0D:3A:F9:DC:A6", "::::::000D3AF9DCA", "é0D3AF9DCA6", "00:0D3AF9DCA6"] {
            assert!(text.parse::<MacAddress>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_mac_reads_back_as_written(mac: [u8; 6]) {
            prop_assert_eq!(MacAddress(mac).to_string().parse(), Ok(MacAddress(mac)));
            prop_assert_eq!(MacAddress(mac).to_string().replace(':', "").parse(), Ok(MacAddress(mac)));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,18}") {
            let _ = text.parse::<MacAddress>();
        }
    }
}
