//! `[timeouts]`: how long the data path remembers a silent flow.

use azure_cni_common::lifetime::Timeouts;
use serde::{Deserialize, Serialize};

use super::bounds::within;
use super::error::ConfigError;

/// Five days: what the kernel's own tracking gives an established connection (net/netfilter/nf_conntrack_proto_tcp.c).
const SECS: (u64, u64) = (1, 432_000);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TimeoutsConfig {
    /// TCP, handshake not complete. At most `tcp_established_secs`.
    pub tcp_half_open_secs: u32,
    /// TCP, open in both directions.
    pub tcp_established_secs: u32,
    /// TCP, one end has sent FIN. At most `tcp_established_secs`.
    pub tcp_half_closed_secs: u32,
    /// TCP, both ends have sent FIN, or one a reset. At most `tcp_half_closed_secs`.
    pub tcp_closed_secs: u32,
    /// UDP, ICMP echo and all other protocols, before the first reply. At most `datagram_exchange_secs`.
    pub datagram_one_way_secs: u32,
    /// The same, after a reply. At most `datagram_stream_secs`.
    pub datagram_exchange_secs: u32,
    /// The same, if its initiator goes on two seconds after it began, or later.
    pub datagram_stream_secs: u32,
    /// UDP of a pod or the host to port 53 or 123 (DNS, NTP), with and without a reply, until it is a stream: what has a reply
    /// frees its port soon. At most `datagram_stream_secs`.
    pub datagram_question_secs: u32,
}

impl TimeoutsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let half_open = ("timeouts.tcp_half_open_secs", self.tcp_half_open_secs);
        let established = ("timeouts.tcp_established_secs", self.tcp_established_secs);
        let half_closed = ("timeouts.tcp_half_closed_secs", self.tcp_half_closed_secs);
        let closed = ("timeouts.tcp_closed_secs", self.tcp_closed_secs);
        let one_way = ("timeouts.datagram_one_way_secs", self.datagram_one_way_secs);
        let exchange = ("timeouts.datagram_exchange_secs", self.datagram_exchange_secs);
        let stream = ("timeouts.datagram_stream_secs", self.datagram_stream_secs);
        let question = ("timeouts.datagram_question_secs", self.datagram_question_secs);
        for (key, secs) in [half_open, established, half_closed, closed, one_way, exchange, stream, question] {
            within(key, secs.into(), SECS)?;
        }
        // A flow in an earlier or closing state must not outlive an open one.
        let tcp = [(half_open, established), (closed, half_closed), (half_closed, established)];
        // A reply, which may be forged, must not shorten a flow's life.
        let datagrams = [(one_way, exchange), (exchange, stream), (question, stream)];
        tcp.into_iter().chain(datagrams).try_for_each(|(shorter, longer)| not_longer(shorter, longer))
    }
}

fn not_longer(shorter: (&'static str, u32), longer: (&'static str, u32)) -> Result<(), ConfigError> {
    if shorter.1 <= longer.1 { Ok(()) } else { Err(ConfigError::TimeoutsContradict { shorter, longer }) }
}

impl Default for TimeoutsConfig {
    fn default() -> Self {
        let Timeouts {
            tcp_half_open_secs,
            tcp_established_secs,
            tcp_half_closed_secs,
            tcp_closed_secs,
            datagram_one_way_secs,
            datagram_exchange_secs,
            datagram_stream_secs,
            datagram_question_secs,
        } = Timeouts::DEFAULT;
        Self {
            tcp_half_open_secs,
            tcp_established_secs,
            tcp_half_closed_secs,
            tcp_closed_secs,
            datagram_one_way_secs,
            datagram_exchange_secs,
            datagram_stream_secs,
            datagram_question_secs,
        }
    }
}

impl From<&TimeoutsConfig> for Timeouts {
    fn from(config: &TimeoutsConfig) -> Self {
        Self {
            tcp_half_open_secs: config.tcp_half_open_secs,
            tcp_established_secs: config.tcp_established_secs,
            tcp_half_closed_secs: config.tcp_half_closed_secs,
            tcp_closed_secs: config.tcp_closed_secs,
            datagram_one_way_secs: config.datagram_one_way_secs,
            datagram_exchange_secs: config.datagram_exchange_secs,
            datagram_stream_secs: config.datagram_stream_secs,
            datagram_question_secs: config.datagram_question_secs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(change: fn(&mut TimeoutsConfig)) -> Option<String> {
        let mut config = TimeoutsConfig::default();
        change(&mut config);
        config.check().err().map(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_data_path_and_agree_with_each_other() {
        let config = TimeoutsConfig::default();
        assert_eq!(Timeouts::from(&config), Timeouts::DEFAULT);
        config.check().unwrap();
    }

    #[test]
    fn every_timeout_reaches_the_data_path_as_its_own() {
        let config = TimeoutsConfig {
            tcp_half_open_secs: 1,
            tcp_established_secs: 2,
            tcp_half_closed_secs: 3,
            tcp_closed_secs: 4,
            datagram_one_way_secs: 5,
            datagram_exchange_secs: 6,
            datagram_stream_secs: 7,
            datagram_question_secs: 8,
        };
        let expected = Timeouts {
            tcp_half_open_secs: 1,
            tcp_established_secs: 2,
            tcp_half_closed_secs: 3,
            tcp_closed_secs: 4,
            datagram_one_way_secs: 5,
            datagram_exchange_secs: 6,
            datagram_stream_secs: 7,
            datagram_question_secs: 8,
        };
        assert_eq!(Timeouts::from(&config), expected);
    }

    #[test]
    fn a_timeout_is_at_least_a_second_and_at_most_five_days() {
        assert_eq!(complaint(|t| t.tcp_established_secs = 432_000), None);
        assert_eq!(complaint(|t| t.tcp_closed_secs = 1), None);
        for (key, change) in [
            ("timeouts.tcp_closed_secs = 0", (|t| t.tcp_closed_secs = 0) as fn(&mut TimeoutsConfig)),
            ("timeouts.datagram_one_way_secs = 0", |t| t.datagram_one_way_secs = 0),
            ("timeouts.datagram_stream_secs = 432001", |t| t.datagram_stream_secs = 432_001),
            ("timeouts.tcp_established_secs = 432001", |t| t.tcp_established_secs = 432_001),
        ] {
            let error = complaint(change).expect(key);
            assert!(error.starts_with(key), "{key}: {error}");
        }
    }

    #[test]
    fn a_flow_in_an_earlier_or_closing_state_does_not_outlive_an_open_one() {
        for (keys, change) in [
            (
                ["tcp_half_open_secs", "tcp_established_secs"],
                (|t| t.tcp_half_open_secs = 86_401) as fn(&mut TimeoutsConfig),
            ),
            (["tcp_closed_secs", "tcp_half_closed_secs"], |t| t.tcp_closed_secs = 121),
            (["tcp_half_closed_secs", "tcp_established_secs"], |t| t.tcp_half_closed_secs = 86_401),
            (["datagram_one_way_secs", "datagram_exchange_secs"], |t| t.datagram_one_way_secs = 31),
            (["datagram_exchange_secs", "datagram_stream_secs"], |t| t.datagram_exchange_secs = 181),
            (["datagram_question_secs", "datagram_stream_secs"], |t| t.datagram_question_secs = 181),
        ] {
            let error = complaint(change).expect(keys[0]);
            assert!(keys.iter().all(|key| error.contains(key)), "{keys:?}: {error}");
        }
        assert_eq!(complaint(|t| t.datagram_question_secs = 180), None);
    }
}
