//! The filter at one place of an interface. Reading it changes nothing, and no listener hears of it.
//!
//! The agent reads this one filter instead of a dump of all: that is one exchange, waits for no other dump of this socket,
//! and does not depend on other filters.

use azure_cni_datapath::{FilterHolder, FilterPlace};
use futures::StreamExt;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcMessage, TcOption};

use super::error::NetError;
use super::netlink::Netlink;

impl Netlink {
    /// What holds a place. `None` if nothing does, or if the interface or its clsact qdisc is gone.
    pub async fn filter_holder(&self, interface: u32, place: FilterPlace) -> Result<Option<FilterHolder>, NetError> {
        let failed = |error| NetError::new(format!("reading a filter of interface number {interface}"), error);
        let mut responses = self.handle.clone().request(request(interface, place)).map_err(failed)?;
        let error = match responses.next().await.map(|message| message.payload) {
            Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewTrafficFilter(filter))) => {
                return Ok(Some(holder(&filter)));
            }
            Some(NetlinkPayload::Error(error)) => rtnetlink::Error::NetlinkError(error),
            _ => rtnetlink::Error::RequestFailed,
        };
        match failed(error) {
            error if error.is_absent() || error.is_invalid() => Ok(None),
            error => Err(error),
        }
    }

    /// What holds the priority of a place, under whatever handle and for whatever protocol: beside it, the kernel takes no
    /// filter of another kind.
    pub async fn priority_holder(&self, interface: u32, place: FilterPlace) -> Result<Option<FilterHolder>, NetError> {
        let failed = |error| NetError::new(format!("reading the filters of interface number {interface}"), error);
        let mut responses = self.handle.clone().request(dump_request(interface, place)).map_err(failed)?;
        let mut found = None;
        while let Some(message) = responses.next().await {
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewTrafficFilter(filter)) => {
                    found.get_or_insert_with(|| holder(&filter));
                }
                NetlinkPayload::Error(error) => return Err(failed(rtnetlink::Error::NetlinkError(error))),
                _ => {}
            }
        }
        Ok(found)
    }
}

fn dump_request(interface: u32, place: FilterPlace) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut filter = TcMessage::with_index(interface.cast_signed());
    filter.header.parent = place.parent.into();
    filter.header.info = u32::from(place.priority) << 16;
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetTrafficFilter(filter));
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request
}

fn request(interface: u32, place: FilterPlace) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut filter = TcMessage::with_index(interface.cast_signed());
    filter.header.parent = place.parent.into();
    filter.header.handle = place.handle.into();
    // include/uapi/linux/pkt_sched.h: TC_H_MAKE of the priority and the protocol in network byte order.
    filter.header.info = u32::from(place.priority) << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetTrafficFilter(filter));
    request.header.flags = NLM_F_REQUEST;
    request
}

fn holder(filter: &TcMessage) -> FilterHolder {
    let mut holder = FilterHolder { program_id: None, name: String::new() };
    for attribute in &filter.attributes {
        match attribute {
            TcAttribute::Kind(kind) if holder.name.is_empty() => holder.name.clone_from(kind),
            TcAttribute::Options(options) => {
                for option in options {
                    match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => holder.program_id = Some(*id),
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => holder.name.clone_from(name),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    holder
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::tc::TcHandle;

    use super::*;

    #[test]
    fn the_place_is_asked_for_as_the_kernel_names_it() {
        let request = request(7, FilterPlace { parent: 0xffff_fff2, priority: 1, handle: 0xac1 });
        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::GetTrafficFilter(filter)) = request.payload else {
            panic!("{request:?}");
        };
        assert_eq!(filter.header.index, 7);
        assert_eq!(filter.header.parent, TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS });
        assert_eq!(filter.header.handle, TcHandle { major: 0, minor: 0xac1 });
        assert_eq!(filter.header.info, 0x0001_0000 | u32::from(3u16.to_be()));
        assert_eq!(request.header.flags, NLM_F_REQUEST, "neither a dump nor a change");
    }

    #[test]
    fn a_program_is_known_by_its_id_and_another_filter_by_its_kind() {
        let mut filter = TcMessage::default();
        filter.attributes = vec![TcAttribute::Kind("u32".to_owned())];
        assert_eq!(holder(&filter), FilterHolder { program_id: None, name: "u32".to_owned() });
        let options = [TcFilterBpfOption::ProgName("to_wire".to_owned()), TcFilterBpfOption::ProgId(12)];
        filter.attributes =
            vec![TcAttribute::Kind("bpf".to_owned()), TcAttribute::Options(options.map(TcOption::Bpf).to_vec())];
        assert_eq!(holder(&filter), FilterHolder { program_id: Some(12), name: "to_wire".to_owned() });
    }
}
