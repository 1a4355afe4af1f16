//! The qdisc whose filters see what comes in at an interface. It has one place, for `clsact` or for `ingress`, and only the first has
//! filters for what goes out: those that are meant for it would see what comes in (net/sched/sch_ingress.c).

use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::error::NetError;
use super::netlink::Netlink;

impl Netlink {
    /// Its kind; `None` if there is none, or if the interface is gone.
    ///
    /// Reads all qdiscs: the kernel answers a question for one by telling every listener (net/sched/sch_api.c, tc_get_qdisc).
    pub async fn ingress_qdisc(&self, interface: u32) -> Result<Option<String>, NetError> {
        let mut kind = None;
        let request = || self.handle.qdisc().get().index(interface.cast_signed()).execute();
        let read = self.dump(request, |qdisc: &TcMessage| {
            if qdisc.header.index == interface.cast_signed() && qdisc.header.parent == TcHandle::INGRESS {
                kind = qdisc.attributes.iter().find_map(|attribute| match attribute {
                    TcAttribute::Kind(kind) => Some(kind.clone()),
                    _ => None,
                });
            }
        });
        read.await
            .map_err(|error| NetError::new(format!("reading the qdisc of interface number {interface}"), error))?;
        Ok(kind)
    }
}
