//! Two namespaces and a bare veth pair: the most that this machine gives, measured in the same run.

use std::net::Ipv4Addr;

use crate::{
    error::Result,
    fabric::Fabric,
    ip::configure,
    plan::{Place, mac_text},
    station::{Host, Station},
};

/// Two stations with nothing but a veth pair between them.
pub struct Baseline {
    /// One end.
    pub near: Host,
    /// The other.
    pub far: Host,
}

impl Baseline {
    /// Builds the pair next to a network, with the kernel's defaults for veth and the network's MTU.
    pub fn beside(fabric: &Fabric) -> Result<Self> {
        let (near, far) = (Host::unattached(end("bare-near", 1))?, Host::unattached(end("bare-far", 2))?);
        let mtu = fabric.mtu();
        configure(
            near.namespace(),
            &format!(
                "link add eth0 mtu {mtu} address {} type veth peer name eth0 mtu {mtu} address {} netns {}",
                mac_text(near.place().mac),
                mac_text(far.place().mac),
                far.name()
            ),
        )?;
        for host in [&near, &far] {
            let Place { address, prefix_len, .. } = host.place();
            configure(host.namespace(), &format!("link set eth0 up\naddr add {address}/{prefix_len} dev eth0"))?;
        }
        Ok(Self { near, far })
    }
}

/// An end's place, on a network of documentation addresses (RFC 5737, TEST-NET-1).
fn end(name: &str, number: u8) -> Place {
    Place {
        name: name.into(),
        mac: [0x02, 0, 0, 0, 0, number],
        address: Ipv4Addr::new(192, 0, 2, number),
        prefix_len: 24,
        gateway: Ipv4Addr::new(192, 0, 2, 254),
        secondaries: Vec::new(),
        v6: None,
    }
}
