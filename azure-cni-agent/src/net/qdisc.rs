//! The qdisc whose filters see what comes in at an interface. It has one place, for `clsact` or for `ingress`, and only the first has
//! filters for what goes out: those that are meant for it would see what comes in (net/sched/sch_ingress.c).

use futures::StreamExt;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::error::NetError;
use super::netlink::Netlink;

impl Netlink {
    /// Its kind; `None` if there is none, or if the interface is gone. Reads only.
    pub async fn ingress_qdisc(&self, interface: u32) -> Result<Option<String>, NetError> {
        let failed = |error| NetError::new(format!("reading the qdisc of interface number {interface}"), error);
        let mut qdisc = TcMessage::with_index(interface.cast_signed());
        qdisc.header.parent = TcHandle::INGRESS;
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetQueueDiscipline(qdisc));
        request.header.flags = NLM_F_REQUEST;
        let mut responses = self.handle.clone().request(request).map_err(failed)?;
        let error = match responses.next().await.map(|message| message.payload) {
            Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewQueueDiscipline(qdisc))) => {
                return Ok(qdisc.attributes.into_iter().find_map(|attribute| match attribute {
                    TcAttribute::Kind(kind) => Some(kind),
                    _ => None,
                }));
            }
            Some(NetlinkPayload::Error(error)) => rtnetlink::Error::NetlinkError(error),
            _ => rtnetlink::Error::RequestFailed,
        };
        match failed(error) {
            error if error.is_absent() || error.is_invalid() => Ok(None),
            error => Err(error),
        }
    }
}
