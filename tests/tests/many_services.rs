//! A node of a large cluster: the rules of 16,000 services, as kube-proxy writes them in each of its modes.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use azure_cni_tests::{Fabric, Result, Station, VNET_PREFIX, VNET_PREFIX6, nft, restore_rules};
use serde_json::json;

const SERVICES: u32 = 16_000;
/// A busy machine included. An operator's command that takes longer is run once and no more.
const QUICK: Duration = Duration::from_secs(2);

/// Of the service with this number: its cluster IP, and the address of its load balancer.
fn addresses(v6: bool, number: u32) -> [String; 2] {
    let (high, low) = (number >> 8, number & 0xff);
    if v6 {
        [format!("fd00:5::{number:x}"), format!("2001:db8:5::{number:x}")]
    } else {
        [format!("10.0.{high}.{low}"), format!("198.18.{high}.{low}")]
    }
}

/// The last service takes the VNet for pods, as with a wrong clusterCIDR.
fn local(v6: bool, number: u32) -> Option<&'static str> {
    (number == SERVICES - 1).then_some(if v6 { VNET_PREFIX6 } else { VNET_PREFIX })
}

fn by_nft(v6: bool) -> String {
    let (family, kind, backend) =
        if v6 { ("ip6", "ipv6_addr", "[fd00:10:240::9]") } else { ("ip", "ipv4_addr", "10.240.0.9") };
    let (mut chains, mut elements) = (String::new(), Vec::new());
    for number in 0..SERVICES {
        let [cluster, external] = addresses(v6, number);
        let local = local(v6, number).map(|prefix| format!("{family} saddr {prefix} goto service-{number}; "));
        writeln!(
            chains,
            "chain endpoint-{number} {{ {family} saddr {} jump marking; meta l4proto tcp dnat to {backend}:80; }}\n\
             chain service-{number} {{ {family} daddr {cluster} tcp dport 80 {family} saddr != {} jump marking; goto endpoint-{number}; }}\n\
             chain external-{number} {{ {} jump marking; goto service-{number}; }}",
            backend.trim_matches(['[', ']']),
            if v6 { VNET_PREFIX6 } else { VNET_PREFIX },
            local.unwrap_or_default(),
        )
        .expect("a String takes all");
        elements.push(format!("{cluster} . tcp . 80 : goto service-{number}"));
        elements.push(format!("{external} . tcp . 80 : goto external-{number}"));
    }
    format!(
        "table {family} kube-proxy {{\n\
           chain marking {{ meta mark set meta mark or 0x4000; }}\n\
           {chains}\
           map service-ips {{ type {kind} . inet_proto . inet_service : verdict; elements = {{ {} }}; }}\n\
           chain services {{ {family} daddr . meta l4proto . th dport vmap @service-ips; }}\n\
           chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}\n\
         }}\n\
         table {family} firewall {{ chain forward {{ type filter hook forward priority 0; policy drop; }}\n }}\n",
        elements.join(", ")
    )
}

fn by_iptables(v6: bool) -> String {
    let backend = if v6 { "fd00:10:240::9" } else { "10.240.0.9" };
    let to = if v6 { format!("[{backend}]:80") } else { format!("{backend}:80") };
    let (mut chains, mut rules) = (String::new(), String::new());
    for number in 0..SERVICES {
        let [cluster, external] = addresses(v6, number);
        let id = format!("{number:05}");
        writeln!(chains, ":KUBE-SVC-{id} -\n:KUBE-EXT-{id} -\n:KUBE-SEP-{id} -").expect("a String takes all");
        let local = local(v6, number).map(|prefix| format!("-A KUBE-EXT-{id} -s {prefix} -j KUBE-SVC-{id}\n"));
        writeln!(
            rules,
            "-A KUBE-SERVICES -d {cluster} -p tcp -m tcp --dport 80 -j KUBE-SVC-{id}\n\
             -A KUBE-SERVICES -d {external} -p tcp -m tcp --dport 80 -j KUBE-EXT-{id}\n\
             {}-A KUBE-EXT-{id} -j KUBE-MARK-MASQ\n\
             -A KUBE-EXT-{id} -j KUBE-SVC-{id}\n\
             -A KUBE-SVC-{id} -m comment --comment \"default/{id}\" -j KUBE-SEP-{id}\n\
             -A KUBE-SEP-{id} -s {backend} -j KUBE-MARK-MASQ\n\
             -A KUBE-SEP-{id} -p tcp -m tcp -j DNAT --to-destination {to}",
            local.unwrap_or_default(),
        )
        .expect("a String takes all");
    }
    format!(
        "*nat\n:KUBE-SERVICES -\n:KUBE-MARK-MASQ -\n{chains}-A PREROUTING -j KUBE-SERVICES\n\
         -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n{rules}COMMIT\n*filter\n:FORWARD DROP\nCOMMIT\n"
    )
}

#[test]
fn status_shows_what_rules_do_in_the_way_of_pods_and_is_quick_with_16000_services() -> Result<()> {
    let net = Fabric::builder().dual_stack().start()?;
    let vm = net.vm(0);
    let host = vm.namespace();
    for (mode, v6) in [("nft", false), ("nft", true), ("iptables-nft", false), ("ip6tables-legacy", true)] {
        match mode {
            "nft" => drop(nft(host, &by_nft(v6))?),
            mode => restore_rules(host, &format!("{mode}-restore"), &by_iptables(v6))?,
        }
        let prefix = if v6 { VNET_PREFIX6 } else { VNET_PREFIX };
        vm.await_status("one with both problems", |status| {
            let problems = status["problems"].to_string();
            problems.contains("is drop") && problems.contains(&format!("takes all of {prefix} for pods"))
        })?;
        let began = Instant::now();
        let problems = vm.status()?["problems"].clone();
        assert!(began.elapsed() < QUICK, "{mode}: status takes {:?}", began.elapsed());
        assert_eq!(problems.as_array().map(Vec::len), Some(2), "{mode}: {problems}");

        nft(host, "flush ruleset\n")?;
        if mode == "ip6tables-legacy" {
            restore_rules(host, "ip6tables-legacy-restore", "*nat\nCOMMIT\n*filter\n:FORWARD ACCEPT\nCOMMIT\n")?;
        }
        vm.await_status("well", |status| status["problems"] == json!([]))?;
    }
    vm.expect_clean()
}
