//! Flows that the data path refused, as it reports them: map `EVENTS`, a ring that the programs fill and the agent empties.
//! A report that does not fit is lost; the packet is counted as every dropped packet is.

use std::net::IpAddr;

use aya::maps::{Map, MapData, RingBuf};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Ipv4, Ipv6};
use azure_cni_common::refused_flow::RefusedFlow;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::DatapathError;
use crate::map::open;
use crate::pins::Pins;

const MAP: &str = "EVENTS";

/// A flow that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub reason: DropReason,
    pub source: IpAddr,
    pub source_port: u16,
    pub destination: IpAddr,
    pub destination_port: u16,
    pub protocol: u8,
    /// How often such a flow was refused since the last event of one.
    pub count: u32,
}

/// Reads the ring. There may be one reader at a time.
pub struct EventSource {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl EventSource {
    pub(crate) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let ring: RingBuf<MapData> = open(pins, MAP, Map::RingBuf)?;
        // SAFETY: the ring owns its map's descriptor for as long as it lives, and always names the same one.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|source| DatapathError::Walk { name: MAP, source: source.into() })?;
        Ok(Self { ring })
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Event {
        loop {
            let Ok(mut guard) = self.ring.readable_mut().await else {
                // The runtime is shutting down, and ends this task.
                return std::future::pending().await;
            };
            while let Some(record) = guard.get_inner_mut().next() {
                if let Some(event) = parse(&record) {
                    return event;
                }
            }
            guard.clear_ready();
        }
    }
}

/// Skips a record whose length or numbers this agent does not know: the programs of a newer agent wrote it.
fn parse(record: &[u8]) -> Option<Event> {
    if record.len() != size_of::<RefusedFlow>() {
        return None;
    }
    // SAFETY: as many bytes as the type has, which is a `Pod`: any bytes are a value.
    let flow = unsafe { record.as_ptr().cast::<RefusedFlow>().read_unaligned() };
    let address = |words: [u32; 4]| match flow.family {
        4 => Some(IpAddr::V4(Ipv4(words[0]).into())),
        6 => Some(IpAddr::V6(Ipv6(words).into())),
        _ => None,
    };
    Some(Event {
        reason: *DropReason::ALL.iter().find(|reason| reason.number() == u32::from(flow.reason))?,
        source: address(flow.source)?,
        source_port: flow.source_port.to_host(),
        destination: address(flow.destination)?,
        destination_port: flow.destination_port.to_host(),
        protocol: flow.protocol,
        count: flow.count,
    })
}

#[cfg(test)]
mod tests {
    use azure_cni_common::family::{Address, Be16};
    use proptest::prelude::*;

    use super::*;

    fn bytes(flow: &RefusedFlow) -> Vec<u8> {
        // SAFETY: a `Pod` has no padding: all its bytes are initialised.
        unsafe { std::slice::from_raw_parts((&raw const *flow).cast::<u8>(), size_of::<RefusedFlow>()) }.to_vec()
    }

    #[test]
    fn records_of_both_families_are_read() {
        let flow = RefusedFlow {
            source: Ipv4::new(10, 240, 0, 5).to_words(),
            destination: Ipv4::new(198, 51, 100, 10).to_words(),
            source_port: Be16::from_host(5000),
            destination_port: Be16::from_host(443),
            reason: DropReason::NatPortsExhausted.number() as u16,
            protocol: 6,
            family: 4,
            count: 3,
        };
        let event = Event {
            reason: DropReason::NatPortsExhausted,
            source: "10.240.0.5".parse().unwrap(),
            source_port: 5000,
            destination: "198.51.100.10".parse().unwrap(),
            destination_port: 443,
            protocol: 6,
            count: 3,
        };
        assert_eq!(parse(&bytes(&flow)), Some(event.clone()));
        let v6 = |text: &str| Ipv6::from(text.parse::<std::net::Ipv6Addr>().unwrap()).to_words();
        let flow6 = RefusedFlow { source: v6("fd00::5"), destination: v6("2001:db8::1"), family: 6, ..flow };
        let [source, destination] = ["fd00::5", "2001:db8::1"].map(|text| text.parse().unwrap());
        assert_eq!(parse(&bytes(&flow6)), Some(Event { source, destination, ..event }));
        for unknown in [RefusedFlow { reason: 0, ..flow }, RefusedFlow { family: 5, ..flow }] {
            assert_eq!(parse(&bytes(&unknown)), None);
        }
    }

    proptest! {
        #[test]
        fn no_record_makes_the_reader_panic(record in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&record);
        }
    }
}
