//! The routers between the machines: the platform's own, and optionally one in front of the Internet.
//!
//! A router answers every ARP request, delivers each address to the MAC of the machine that owns it, and knows every
//! neighbour beforehand. On a dual-stack network it is [`GATEWAY6`] on every link, with the platform's MAC.

use std::fmt::Write;

use crate::{
    error::Result,
    ip::configure,
    namespace::Namespace,
    offload::set_checksum_offload,
    options::FabricOptions,
    plan::{Delivery, GATEWAY_MAC, GATEWAY6, Place, mac_text},
    station::{Host, Station},
};

/// A router, and how its links are made.
pub(crate) struct Router {
    namespace: Namespace,
    mtu: u16,
    checksum_offload: bool,
    dual_stack: bool,
}

impl Router {
    pub(crate) fn start(name: &str, options: &FabricOptions) -> Result<Self> {
        let namespace = Namespace::create(name)?;
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/default/send_redirects", "0"),
        ] {
            namespace.sysctl(key, value)?;
        }
        if options.dual_stack {
            namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        }
        let (mtu, checksum_offload, dual_stack) = (options.mtu, options.checksum_offload, options.dual_stack);
        Ok(Self { namespace, mtu, checksum_offload, dual_stack })
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Silently drops packets to unused addresses of these prefixes.
    ///
    /// An end of a pair whose other end stays down loses everything, and makes the unused addresses answerable by proxy
    /// ARP, as on the platform.
    pub(crate) fn lose(&self, prefixes: &[&str]) -> Result<()> {
        let mut nowhere = String::from(
            "link add nowhere type veth peer name nowhere-end\nlink set nowhere arp off addrgenmode none up\n",
        );
        for prefix in prefixes {
            writeln!(nowhere, "route add {prefix} dev nowhere").expect("a String takes all");
        }
        configure(&self.namespace, &nowhere)
    }

    /// Links a machine to the router: `eth0` there, its name here.
    pub(crate) fn attach(&self, place: Place) -> Result<Host> {
        let host = Host::unattached(place)?;
        self.prepare_host(&host)?;
        let (name, mtu, mac) = (&host.place().name, self.mtu, mac_text(host.place().mac));
        let mut router_side = format!(
            "link add {name} mtu {mtu} type veth peer name eth0 address {mac} mtu {mtu} netns {name}\n{}\
             link set {name} up\n",
            self.platform_gateway(name)
        );
        let mut host_side = String::from("link set eth0 up\n");
        for Delivery { router, address, prefix_len, secondaries } in host.place().deliveries() {
            write!(
                router_side,
                "addr replace {router} dev lo\n\
                 route add {address} dev {name}\n\
                 neigh replace {address} lladdr {mac} dev {name} nud permanent\n"
            )
            .expect("a String takes all");
            for secondary in secondaries {
                writeln!(router_side, "route add {secondary} via {address} dev {name} onlink")
                    .expect("a String takes all");
            }
            let no_dad = if address.is_ipv6() { "nodad" } else { "" };
            writeln!(host_side, "addr add {address}/{prefix_len} dev eth0 {no_dad}").expect("a String takes all");
        }
        configure(&self.namespace, &router_side)?;
        for key in ["conf/{}/proxy_arp", "conf/{}/forwarding"] {
            self.namespace.sysctl(&format!("net/ipv4/{}", key.replace("{}", name)), "1")?;
        }
        self.namespace.sysctl(&format!("net/ipv4/neigh/{name}/proxy_delay"), "0")?;
        set_checksum_offload(&self.namespace, name, self.checksum_offload)?;
        configure(host.namespace(), &host_side)?;
        set_checksum_offload(host.namespace(), "eth0", self.checksum_offload)?;
        // Loose, as in Debian and Ubuntu. Set here because namespaces inherit the machine's value.
        for conf in ["all", "default", "eth0"] {
            host.namespace().sysctl(&format!("net/ipv4/conf/{conf}/rp_filter"), "2")?;
        }
        Ok(host)
    }

    /// Links a router that stands between this one and `place`, by a link of its own MTU.
    pub(crate) fn lead_to(&self, beyond: &Self, place: &Place, near: &Place, mtu: u16) -> Result<()> {
        const NEAR_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
        const FAR_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
        let (near_name, far_name) = (self.namespace.name(), beyond.namespace.name());
        let (near_mac, far_mac) = (mac_text(NEAR_MAC), mac_text(FAR_MAC));
        let mut near_side = format!(
            "link add {far_name} mtu {mtu} address {near_mac} type veth \
             peer name {near_name} mtu {mtu} address {far_mac} netns {far_name}\n\
             link set {far_name} up\n"
        );
        let mut far_side = format!("link set {near_name} up\n");
        for (far, near) in place.deliveries().zip(near.deliveries()) {
            let (to_far, to_near) = (far.router, near.router);
            let any = if to_far.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            write!(
                near_side,
                "neigh add {to_far} lladdr {far_mac} dev {far_name} nud permanent\n\
                 route add {}/{} via {to_far} dev {far_name} onlink\n",
                far.address,
                if to_far.is_ipv4() { 32 } else { 128 },
            )
            .expect("a String takes all");
            write!(
                far_side,
                "neigh add {to_near} lladdr {near_mac} dev {near_name} nud permanent\n\
                 route add {any} via {to_near} dev {near_name} onlink\n"
            )
            .expect("a String takes all");
        }
        configure(&self.namespace, &near_side)?;
        configure(&beyond.namespace, &far_side)?;
        set_checksum_offload(&self.namespace, far_name, self.checksum_offload)?;
        set_checksum_offload(&beyond.namespace, near_name, self.checksum_offload)
    }

    /// The address and MAC of the platform's gateway, set before the link is up so that no other MAC appears on it.
    fn platform_gateway(&self, link: &str) -> String {
        if !self.dual_stack {
            return String::new();
        }
        let mac = mac_text(GATEWAY_MAC);
        format!("link set {link} address {mac} addrgenmode none\naddr add {GATEWAY6}/64 dev {link} nodad\n")
    }

    /// Has a machine's interface, which is not there yet, use its IPv6 addresses at once and learn none by itself.
    fn prepare_host(&self, host: &Host) -> Result<()> {
        if self.dual_stack {
            for key in ["accept_dad", "accept_ra"] {
                for conf in ["all", "default"] {
                    host.namespace().sysctl(&format!("net/ipv6/conf/{conf}/{key}"), "0")?;
                }
            }
        }
        Ok(())
    }
}

/// Sends everything that a machine has no other route for to its router.
pub(crate) fn route_to_everything(host: &Host) -> Result<()> {
    let mut routes = format!("route add default via {} dev eth0\n", host.place().gateway);
    if host.place().v6.is_some() {
        writeln!(routes, "route add default via {GATEWAY6} dev eth0").expect("a String takes all");
    }
    configure(host.namespace(), &routes)
}
