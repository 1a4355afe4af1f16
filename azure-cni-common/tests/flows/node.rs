//! What the model of a node knows: its addresses, and tables of a few entries.

use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::egress::{RouteClass, ServicePrefixes, SnatPolicy};
use azure_cni_common::family::Family;
use azure_cni_common::flow::{Flow, FlowKey, Tuple};
use azure_cni_common::nat::{NatHolder, NatKey, PortRange};

use crate::table::Table;

/// A family whose addresses can be counted and shown.
pub trait Net: Family<Address: core::fmt::Debug> {
    fn address(number: u8) -> Self::Address;
}

pub const NODE: u8 = 1;
pub const PODS: [u8; 2] = [2, 3];
/// The VNet, the host, the platform, VNet and Internet by rules of the host, and twice the Internet.
pub const REMOTES: [u8; 7] = [10, 11, 12, 13, 14, 20, 21];
pub const PORTS: PortRange = PortRange { first: 1024, last: 1027 };

/// Of six assured flows.
pub const POD_FLOW_SHARE: usize = 4;

pub type Key<F> = FlowKey<<F as Family>::Address>;
pub type NatTable<F> = Table<NatKey<<F as Family>::Address>, NatHolder<<F as Family>::Address>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Wire,
    Pod,
    Host,
}

/// Where a packet comes out, and with what addresses.
pub type Outcome<A> = Result<(Place, Tuple<A>), DropReason>;

pub struct Node<F: Net> {
    pub now_ns: u64,
    pub services: ServicePrefixes,
    pub snat: SnatPolicy,
    pub flows: Table<Key<F>, Flow>,
    pub half_open: Table<Key<F>, Flow>,
    pub datagrams: Table<Key<F>, Flow>,
    pub translations: NatTable<F>,
    pub half_open_translations: NatTable<F>,
}

impl<F: Net> Node<F> {
    pub fn new(services: ServicePrefixes, snat: SnatPolicy) -> Self {
        Self {
            now_ns: 1 << 40,
            services,
            snat,
            flows: Table::hash(6),
            half_open: Table::lru(4),
            datagrams: Table::lru(4),
            translations: Table::hash(6),
            half_open_translations: Table::lru(4),
        }
    }

    pub fn route(&self, destination: F::Address) -> RouteClass {
        let classes = [
            (10, RouteClass::VNET),
            (11, RouteClass::HOST),
            (12, RouteClass::PLATFORM),
            (13, RouteClass::VNET_BY_HOST),
            (14, RouteClass::INTERNET_BY_HOST),
        ];
        let found = classes.into_iter().find(|(number, _)| F::address(*number) == destination);
        found.map_or(RouteClass::INTERNET, |(_, class)| class)
    }

    pub fn is_pod(&self, address: F::Address) -> bool {
        PODS.into_iter().any(|number| F::address(number) == address)
    }
}
