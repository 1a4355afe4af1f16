//! A tunnel in a pod, through source NAT: the inner checksum is left to the device, the outer one is finished (local checksum
//! offload, Documentation/networking/checksum-offloads.rst).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use azure_cni_tests::{
    Fabric,
    IpVersion::{V4, V6},
    Pod, Result, Station, configure, probe, set_checksum_offload,
};

#[test]
fn outer_checksum_of_an_encapsulated_packet_is_right_after_translation() -> Result<()> {
    for (toml, version) in [
        ("routing.service_prefixes = []", V4),
        ("routing.service_prefixes = []", V6),
        ("routing.block_imds = false", V4),
        ("routing.block_imds = false", V6),
    ] {
        let net = Fabric::builder().dual_stack().agent_toml("snat.ipv6 = true").agent_toml(toml).start()?;
        // The router finishes the inner checksum, so that the receiver looks at both.
        set_checksum_offload(net.router(), net.internet().name(), false)?;
        let pods = [net.vm(0).add_pod("a")?];
        let (pod, far) = (&pods[0], net.internet());
        let [near_inner, far_inner] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        let zero = if version == V6 { "noudp6zerocsumtx noudp6zerocsumrx" } else { "udpcsum" };
        // Of the port range only the sender's is translated, from outside of the range.
        let tunnel = |from: &dyn Station, to: std::net::IpAddr, inner, mac: &str| {
            format!(
                "link add tunnel address {mac} type vxlan id 7 dstport 4789 srcport 1100 1101 \
                 local {} remote {to} {zero}\n\
                 link set tunnel mtu 1300 up\naddr add {inner}/24 dev tunnel\n",
                from.ip(version)
            )
        };
        let [near_mac, far_mac] = ["02:00:00:00:77:01", "02:00:00:00:77:02"];
        let near = tunnel(pod, far.ip(version), near_inner, near_mac);
        configure(
            pod.namespace(),
            &format!("{near}neigh add {far_inner} lladdr {far_mac} dev tunnel nud permanent\n"),
        )?;
        configure(far.namespace(), &tunnel(far, net.vm(0).ip(version), far_inner, far_mac))?;

        let bind = |station: &dyn Station, inner: Ipv4Addr| {
            let socket = station.namespace().run(|| UdpSocket::bind((inner, 4000))).expect("the tunnel has it");
            socket.set_read_timeout(Some(probe::PATIENCE)).expect("a socket has one");
            socket
        };
        let (sender, receiver) = (bind(pod, near_inner), bind(far, far_inner));
        for length in [10, 1000, 1200] {
            let sent = vec![length as u8; length];
            sender.send_to(&sent, SocketAddr::from((far_inner, 4000))).expect("there is a route");
            let mut buffer = [0; 2000];
            let (received, from) =
                receiver.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{version:?}, {length} bytes: {error}"));
            assert_eq!((&buffer[..received], from.ip()), (&sent[..], near_inner.into()));
        }
        pods.iter().try_for_each(Pod::del)?;
        net.vm(0).expect_clean()?;
    }
    Ok(())
}
