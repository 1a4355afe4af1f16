//! A map of the network.

use std::fmt::Write;

use azure_cni_tests::{Fabric, HOST_ADDRESS, Pod, Station, VNET_PREFIX};

/// The width of a VM's column.
const HALF: usize = 46;

/// Draws who is where, with the addresses and interfaces of this very run.
pub(crate) fn draw(net: &Fabric, pods: &[[Pod; 2]]) -> String {
    let hosts = [
        [station(net.internet()), "an Internet host".into(), "|".into()],
        [station(net.peer()), "a host of a peered VNet".into(), "|".into()],
    ];
    let vms: Vec<[String; 5]> = net
        .vms()
        .iter()
        .zip(pods)
        .map(|(vm, [a, b])| {
            [
                "|".into(),
                format!("{}  eth0", station(vm)),
                "|".into(),
                format!("+-- {}  {}", station(a), a.host_interface()),
                format!("+-- {}  {}", station(b), b.host_interface()),
            ]
        })
        .collect();

    let mut map = String::new();
    columns(&mut map, &hosts[0], &hosts[1]);
    let wire = format!("==[ VNet {VNET_PREFIX}, the platform's router ]");
    writeln!(map, "  ====+{wire:=<width$}+{:=<width$}", "", width = HALF - 1).expect("a String takes all");
    columns(&mut map, &vms[0], &vms[1]);
    writeln!(
        map,
        "\n  eBPF: from_endpoint and to_endpoint on each azv*, from_wire and to_wire on each eth0 of a VM.\n  \
         The agents learn their pools from the platform's wire server, 168.63.129.16.\n  \
         The Internet's host can answer primary addresses only; {HOST_ADDRESS} belongs to the VM's own stack."
    )
    .expect("a String takes all");
    map
}

fn station(station: &dyn Station) -> String {
    format!("{}  {}", station.name(), station.address())
}

fn columns(map: &mut String, left: &[String], right: &[String]) {
    for (left, right) in left.iter().zip(right) {
        writeln!(map, "      {left:<HALF$}{right}").expect("a String takes all");
    }
}
