//! What a pod says on its link: it does not fill the host's table of neighbours, and what it honestly says is answered.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    thread,
    time::Duration,
};

use azure_cni_tests::{
    Fabric, Pod, Result, Station, configure,
    probe::{self, LinkSender},
    query,
};

const FORGERIES: u16 = 200;

/// Of the host's table: the addresses behind a pod's interface.
fn neighbours(pod: &Pod) -> Result<Vec<String>> {
    let rows = query(pod.vm().namespace(), &format!("neigh show nud all dev {}", pod.host_interface()))?;
    let of_row = |row: &serde_json::Value| row["dst"].as_str().unwrap_or_default().to_owned();
    let mut found: Vec<String> = rows.iter().map(of_row).filter(|address| !address.starts_with("ff0")).collect();
    found.sort();
    Ok(found)
}

fn arp(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let head = [&[0xff; 6][..], &mac, &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]].concat();
    [&head[..], &mac, &sender.octets(), &[0; 6], &target.octets()].concat()
}

/// A neighbour solicitation with the sender's MAC as its option (RFC 4861 section 4.3).
fn solicitation(mac: [u8; 6], source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let body = [&[0; 4][..], &target.octets(), &[1, 1], &mac].concat();
    let builder = etherparse::PacketBuilder::ethernet2(mac, [0x33, 0x33, 0xff, a, b, c])
        .ipv6(source.octets(), group.octets(), 255)
        .icmpv6_raw(135, 0, [0; 4]);
    let mut frame = Vec::new();
    builder.write(&mut frame, &body[4..]).expect("a vector takes all");
    frame
}

#[test]
fn forged_arp_and_neighbour_solicitations_make_no_neighbours_and_honest_ones_are_answered() -> Result<()> {
    let net = Fabric::builder().dual_stack().start()?;
    let vm = net.vm(0);
    let pods = [vm.add_pod("a")?];
    let pod = &pods[0];
    let before = neighbours(pod)?;
    let link = &query(pod.namespace(), "link show dev eth0")?[0];
    let mac = link["address"].as_str().expect("a link has one").split(':');
    let mac: Vec<u8> = mac.map(|part| u8::from_str_radix(part, 16).expect("hex")).collect();
    let mac: [u8; 6] = mac.try_into().expect("six bytes");
    let (node, node6) = (vm.address(), vm.address6().expect("dual stack"));

    let sender = LinkSender::open(pod.namespace(), "eth0")?;
    for number in 1..=FORGERIES {
        let [high, low] = number.to_be_bytes();
        let forged = Ipv4Addr::new(10, 240, 200 + high, low);
        sender.send(&arp(mac, forged, node))?;
        for forged in [
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x66, number),
            Ipv6Addr::new(0xfd00, 0x10, 0x240, 0x77, 0, 0, 0, number),
        ] {
            sender.send(&solicitation(mac, forged, node6))?;
        }
    }
    thread::sleep(Duration::from_millis(200));
    assert_eq!(neighbours(pod)?, before, "neighbours that nobody is");
    let dropped = vm.dropped()?;
    let counted = |reason: &str| dropped.get(reason).copied().unwrap_or_default();
    assert!(counted("arp_not_owned") >= FORGERIES.into(), "{dropped:?}");
    assert!(counted("source_not_owned") >= 2 * u64::from(FORGERIES), "{dropped:?}");

    // The pod resolves the node's address by itself. By IPv6 the kernel answers for addresses of the interface alone.
    configure(pod.namespace(), &format!("route add {node} dev eth0\n"))?;
    probe::ping(pod, node)?;
    let found = query(pod.namespace(), &format!("neigh show to {node} dev eth0"))?;
    assert_eq!(found[0]["lladdr"], "aa:aa:aa:aa:aa:aa");
    pods.iter().try_for_each(Pod::del)?;
    vm.expect_clean()
}
