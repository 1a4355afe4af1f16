//! What the agent reads out of rules that the programs of a node have written.

use std::net::SocketAddr;

use azure_cni_agent::net::{Hindrances, ServiceRules};
use azure_cni_tests::{
    IpVersion::{V4, V6},
    Namespace, ProxyMode, Result, Sandbox, Service, kube_proxy_by, nft, restore_rules as restore,
};

struct Node {
    namespace: Namespace,
    // Ends after the namespace.
    _sandbox: Sandbox,
}

impl Node {
    fn new() -> Result<Self> {
        let sandbox = Sandbox::enter()?;
        Ok(Self { namespace: Namespace::create("node")?, _sandbox: sandbox })
    }

    /// Of nftables and of the legacy iptables, or the error.
    fn read(&self) -> std::result::Result<[Vec<String>; 2], String> {
        let ServiceRules { nftables, iptables } =
            self.namespace.run(ServiceRules::read).rules.map_err(|error| error.to_string())?;
        Ok([nftables, iptables].map(|prefixes| prefixes.iter().map(ToString::to_string).collect()))
    }
}

#[test]
fn every_form_in_which_a_rule_names_destinations_is_read() -> Result<()> {
    let node = Node::new()?;
    assert_eq!(node.read(), Ok([vec![], vec![]]));
    for (family, rule, expected) in [
        ("ip", "ip daddr 10.1.1.1 tcp dport 80 dnat to 10.2.2.2", &["10.1.1.1/32"][..]),
        ("ip", "ip daddr 10.1.0.0/16 tcp dport 80 redirect to :8080", &["10.1.0.0/16"]),
        ("ip", "ip daddr 10.1.16.0/20 dnat to 10.2.2.2", &["10.1.16.0/20"]),
        ("ip", "ip daddr & 255.0.0.255 == 10.0.0.7 dnat to 10.2.2.2", &["10.0.0.0/8"]),
        // nft loads both addresses at once.
        ("ip", "ip saddr 10.3.3.3 ip daddr 10.1.1.1 dnat to 10.2.2.2", &["10.1.1.1/32"]),
        ("ip", "ip daddr 10.1.1.1-10.1.1.4 dnat to 10.2.2.2", &["10.1.1.1/32", "10.1.1.2/31", "10.1.1.4/32"]),
        ("ip", "ip daddr { 10.1.1.1, 10.1.1.9 } dnat to 10.2.2.2", &["10.1.1.1/32", "10.1.1.9/32"]),
        (
            "ip",
            "ip daddr { 10.1.1.0/24, 10.1.2.0/24, 10.1.9.9 } dnat to 10.2.2.2",
            &["10.1.1.0/24", "10.1.2.0/24", "10.1.9.9/32"],
        ),
        ("ip", "ip daddr { 240.0.0.0/4 } dnat to 10.2.2.2", &["240.0.0.0/4"]),
        (
            "ip",
            "ip daddr . tcp dport { 10.1.1.1 . 80, 10.1.1.9 . 81 } dnat to 10.2.2.2",
            &["10.1.1.1/32", "10.1.1.9/32"],
        ),
        ("ip", "ip daddr . tcp dport { 10.1.1.0/24 . 80-90 } dnat to 10.2.2.2", &["10.1.1.0/24"]),
        ("ip", "tcp dport . ip daddr { 80 . 10.1.1.1 } dnat to 10.2.2.2", &["10.1.1.1/32"]),
        ("ip", "dnat to ip daddr map { 10.1.1.1 : 10.2.2.2 }", &["10.1.1.1/32"]),
        (
            "ip",
            "ip daddr vmap { 10.1.1.1 : drop, 10.1.1.2 : accept, 10.1.1.3 : jump leading }",
            &["10.1.1.1/32", "10.1.1.3/32"],
        ),
        // What all destinations meet leads to further destinations, and acts on none of its own.
        ("ip", "ip daddr vmap { 10.1.1.1 : accept, * : jump further }", &["10.7.7.7/32"]),
        ("ip", "ip daddr . tcp dport vmap { 10.1.1.1 . 80 : accept, * : jump further }", &["10.7.7.7/32"]),
        ("ip", "ip daddr vmap { 10.1.1.0/24 : drop, * : jump further }", &["10.1.1.0/24", "10.7.7.7/32"]),
        ("ip", "ip daddr 0.0.0.0/0 jump further", &["10.7.7.7/32"]),
        ("ip", "ip daddr { 0.0.0.0/0 } jump further", &["10.7.7.7/32"]),
        ("ip", "ip daddr vmap { 0.0.0.0/0 : jump further }", &["10.7.7.7/32"]),
        ("ip", "ip daddr . tcp dport vmap { 0.0.0.0/0 . 80 : jump further }", &["10.7.7.7/32"]),
        ("ip", "ip daddr 0.0.0.0-255.255.255.255 jump further", &["10.7.7.7/32"]),
        ("ip", "ip daddr 0.0.0.0/0 dnat to 10.2.2.2", &[]),
        ("ip", "ip saddr . ip daddr { 10.3.3.3 . 10.1.1.1 } tcp dport vmap { 80 : jump further }", &["10.1.1.1/32"]),
        ("ip", "ip daddr & 0.255.255.255 == 0.7.7.7 dnat to 10.2.2.2", &["0.0.0.0/1", "128.0.0.0/1"]),
        ("ip", "ip daddr & 0.255.255.255 == 0.7.7.7 meta mark set 1", &[]),
        ("ip6", "ip6 daddr ::/0 jump further", &["fd00::7/128"]),
        ("ip6", "ip6 daddr vmap { ::/0 : jump further }", &["fd00::7/128"]),
        ("ip", "ct original ip saddr 10.1.1.1 meta mark set 1", &[]),
        ("ip", "ip daddr 10.1.1.1 counter meta mark set 1", &[]),
        ("ip", "ip daddr 10.1.1.1 return", &[]),
        ("ip", "ip daddr 10.1.0.0/16 jump marking", &[]),
        ("ip", "ip daddr 10.1.0.0/16 jump leading", &["10.1.0.0/16"]),
        ("ip", "meta l4proto vmap { tcp : jump further }", &["10.7.7.7/32"]),
        ("ip", "jump further", &["10.7.7.7/32"]),
        ("ip", "ip daddr != 10.1.1.1 dnat to 10.2.2.2", &[]),
        ("ip", "ip daddr != { 10.1.1.1 } dnat to 10.2.2.2", &[]),
        ("ip", "ip saddr 10.1.1.1 dnat to 10.2.2.2", &[]),
        ("ip", "fib daddr type local tcp dport 80 dnat to 10.2.2.2", &[]),
        ("ip6", "ip6 daddr fd00::9 tcp dport 80 dnat to fd00::2", &["fd00::9/128"]),
        ("ip6", "ip6 daddr fd00:1::/61 dnat to fd00::2", &["fd00:1::/61"]),
        ("ip6", "ip6 saddr fd00::1 ip6 daddr fd00::9 dnat to fd00::2", &["fd00::9/128"]),
        ("ip6", "ip6 daddr { fd00:1::/64, fd00::9 } dnat to fd00::2", &["fd00::9/128", "fd00:1::/64"]),
        ("ip6", "ip6 daddr . tcp dport { fd00::9 . 80 } dnat to fd00::2", &["fd00::9/128"]),
        ("ip6", "ip6 daddr fd00::1-fd00::2 dnat to fd00::2", &["fd00::1/128", "fd00::2/128"]),
        ("inet", "ip daddr 10.1.1.1 dnat ip to 10.2.2.2", &["10.1.1.1/32"]),
        ("inet", "ip6 daddr fd00::9 dnat ip6 to fd00::2", &["fd00::9/128"]),
        ("inet", "ip daddr { 10.1.1.1 } dnat ip to 10.2.2.2", &["10.1.1.1/32"]),
    ] {
        let further = if family == "ip6" { "ip6 daddr fd00::7 redirect" } else { "ip daddr 10.7.7.7 redirect" };
        nft(
            &node.namespace,
            &format!(
                "table {family} one {{\n\
                   chain marking {{ meta mark set 1; }}\n\
                   chain leading {{ redirect; }}\n\
                   chain further {{ {further}; }}\n\
                   chain pre {{ type nat hook prerouting priority dstnat; {rule}; }}\n\
                   chain out {{ type nat hook output priority -100; }}\n\
                   chain filter {{ type filter hook prerouting priority 0; }}\n\
                 }}\n"
            ),
        )?;
        let expected = expected.iter().map(|prefix| (*prefix).to_owned()).collect();
        assert_eq!(node.read(), Ok([expected, vec![]]), "{family}: {rule}");
        nft(&node.namespace, &format!("delete table {family} one\n"))?;
    }
    Ok(())
}

#[test]
fn what_is_made_of_a_destination_is_not_understood_where_it_leads_to_a_translation() -> Result<()> {
    let node = Node::new()?;
    for asked in [
        "ct original ip daddr 10.7.7.7",
        "ct original ip daddr { 10.7.7.7, 10.7.7.8 }",
        "ip daddr | 0.0.0.1 == 10.7.7.7",
        "ip daddr & 255.255.0.0 > 10.1.0.0",
        "jhash ip daddr mod 4 1",
    ] {
        for (acts, is_refused) in [("redirect", true), ("jump leading", true), ("meta mark set 1", false)] {
            nft(
                &node.namespace,
                &format!(
                    "table ip one {{\n\
                       chain leading {{ redirect; }}\n\
                       chain pre {{ type nat hook prerouting priority dstnat; {asked} {acts}; }}\n\
                     }}\n"
                ),
            )?;
            let read = node.read();
            assert_eq!(read.is_err(), is_refused, "{asked} {acts}: {read:?}");
            nft(&node.namespace, "delete table ip one\n")?;
        }
    }
    Ok(())
}

fn services(addresses: [&str; 2], backend: &str) -> Vec<Service> {
    let [cluster, external] = addresses;
    let backends = vec![backend.parse().expect("an address"); 2];
    let address = SocketAddr::new(cluster.parse().expect("an address"), 80);
    let external = vec![external.parse().expect("an address")];
    vec![Service { name: "web", address, external, backends, node_port: Some(30_080) }]
}

#[test]
fn kube_proxys_rules_are_read_in_every_mode() -> Result<()> {
    let node = Node::new()?;
    let v4 = services(["10.0.0.10", "10.240.9.9"], "10.240.0.5:80");
    let v6 = services(["fd00:5::10", "fd00:10:240::99"], "[fd00:10:240::5]:80");
    let all = ["10.0.0.10/32", "10.240.9.9/32", "fd00:5::10/128", "fd00:10:240::99/128"].map(str::to_owned).to_vec();
    for mode in [ProxyMode::Nftables, ProxyMode::Iptables, ProxyMode::LegacyIptables] {
        kube_proxy_by(mode, &node.namespace, V4, "10.240.0.0/16", &v4)?;
        kube_proxy_by(mode, &node.namespace, V6, "fd00:10:240::/48", &v6)?;
        let read = node.read().unwrap_or_else(|error| panic!("{mode:?}: {error}"));
        let expected = if mode == ProxyMode::LegacyIptables { [vec![], all.clone()] } else { [all.clone(), vec![]] };
        assert_eq!(read, expected, "{mode:?}");
        kube_proxy_by(mode, &node.namespace, V4, "10.240.0.0/16", &[])?;
        kube_proxy_by(mode, &node.namespace, V6, "fd00:10:240::/48", &[])?;
        assert_eq!(node.read(), Ok([vec![], vec![]]), "{mode:?}");
    }
    Ok(())
}

#[test]
fn every_form_of_iptables_is_read_or_refused() -> Result<()> {
    let node = Node::new()?;
    for (rule, expected) in [
        ("-d 10.1.1.1 -p tcp --dport 80 -j DNAT --to 10.2.2.2", Ok(&["10.1.1.1/32"][..])),
        ("-d 10.1.16.0/20 -j DNAT --to 10.2.2.2", Ok(&["10.1.16.0/20"])),
        ("-d 10.1.0.0/16 -p tcp -j REDIRECT --to-ports 80", Ok(&["10.1.0.0/16"])),
        ("-d 10.1.1.1 -m comment --comment x -j LEAD", Ok(&["10.1.1.1/32"])),
        ("-d 10.1.0.0/16 -j LEAD", Ok(&["10.1.0.0/16"])),
        ("-d 10.1.0.0/16 -j ONLYMARK", Ok(&[])),
        ("-j FURTHER", Ok(&["10.7.7.7/32"])),
        ("-d 10.1.1.1 -j RETURN", Ok(&[])),
        ("-d 10.1.1.1 -j ACCEPT", Ok(&[])),
        ("-d 10.1.1.1", Ok(&[])),
        ("! -d 10.1.1.1 -p tcp -j REDIRECT --to-ports 80", Ok(&[])),
        ("-s 10.1.1.1 -j DNAT --to 10.2.2.2", Ok(&[])),
        ("-m addrtype --dst-type LOCAL -p tcp --dport 80 -j DNAT --to 10.2.2.2", Ok(&[])),
        ("-m iprange --dst-range 10.1.1.1-10.1.1.9 -j DNAT --to 10.2.2.2", Err("iprange")),
        ("-m iprange --dst-range 10.1.1.1-10.1.1.9 -j ONLYMARK", Ok(&[])),
        ("-m iprange --src-range 10.1.1.1-10.1.1.9 -j DNAT --to 10.2.2.2", Ok(&[])),
        ("-d 10.1.1.1/0.0.255.255 -j DNAT --to 10.2.2.2", Ok(&["0.0.0.0/1", "128.0.0.0/1"])),
        // The programs of nft write some of these as expressions.
        ("-m conntrack --ctorigdst 10.7.7.7 -j DNAT --to 10.2.2.2", Err("destinations by")),
        ("-m conntrack --ctstate NEW -j DNAT --to 10.2.2.2", Ok(&[])),
        ("-m recent --rcheck --rdest -j DNAT --to 10.2.2.2", Err("recent")),
        ("-m recent --rcheck --rsource -j DNAT --to 10.2.2.2", Ok(&[])),
    ] {
        for (place, program) in ["iptables-nft-restore", "iptables-legacy-restore"].into_iter().enumerate() {
            let rules = format!(
                "*nat\n:LEAD -\n:ONLYMARK -\n:FURTHER -\n\
                 -A LEAD -j LEAD2\n-A ONLYMARK -j MARK --set-mark 1\n-A FURTHER -d 10.7.7.7 -p tcp -j REDIRECT\n-A PREROUTING {rule}\n"
            );
            let rules = rules.replace(":LEAD -\n", ":LEAD -\n:LEAD2 -\n-A LEAD2 -p tcp -j REDIRECT\n") + "COMMIT\n";
            restore(&node.namespace, program, &rules)?;
            match (node.read(), expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read[place], expected, "{program}: {rule}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{program}: {rule}: {error}"),
                (read, _) => panic!("{program}: {rule}: {read:?}"),
            }
            restore(&node.namespace, program, "*nat\nCOMMIT\n")?;
        }
    }
    Ok(())
}

#[test]
fn legacy_rules_that_change_all_the_time_are_read() -> Result<()> {
    let node = Node::new()?;
    let write = |rules: &str| restore(&node.namespace, "iptables-legacy-restore", &format!("*nat\n{rules}COMMIT\n"));
    let rule = "-A PREROUTING -d 10.1.1.1 -j DNAT --to 10.2.2.2\n";
    write(rule)?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..100).try_for_each(|round| write(&rule.repeat(1 + round % 2 * 500))));
        while !writer.is_finished() {
            assert_eq!(node.read(), Ok([vec![], vec!["10.1.1.1/32".to_owned()]]));
        }
        writer.join().expect("writes")
    })
}

#[test]
fn hosts_that_kube_proxy_takes_for_pods_are_seen_where_it_matters() -> Result<()> {
    let node = Node::new()?;
    let hosts = ["10.240.0.4".parse().expect("an address"), "fd00:10:240::4".parse().expect("an address")];
    let taken = || {
        let found = node.namespace.run(Hindrances::read).expect("readable rules");
        let sentence = found.problems(&hosts, true).pop()?;
        let (_, prefix) = sentence.split_once("takes all of ")?;
        prefix.split(' ').next().map(str::to_owned)
    };
    for (v6, rule, expected) in [
        (false, "-s 10.240.0.0/16 -j KUBE-SVC-A", Some("10.240.0.0/16")),
        (true, "-s fd00:10:240::/48 -j KUBE-SVC-A", Some("fd00:10:240::/48")),
        // With detectLocalMode: InterfaceNamePrefix, and with a prefix of pods alone.
        (false, "-i azv+ -j KUBE-SVC-A", None),
        (false, "-s 10.244.0.0/16 -j KUBE-SVC-A", None),
        (false, "! -s 10.240.0.0/16 -j KUBE-SVC-A", None),
    ] {
        for restore_by in ["nft", "legacy"] {
            let program = format!("{}-{restore_by}-restore", if v6 { "ip6tables" } else { "iptables" });
            let rules = format!("*nat\n:KUBE-SVC-A -\n:KUBE-EXT-A -\n-A KUBE-EXT-A {rule}\nCOMMIT\n");
            restore(&node.namespace, &program, &rules)?;
            assert_eq!(taken().as_deref(), expected, "{program}: {rule}");
            // A service without the policy: only who is masqueraded depends on it.
            let rules = format!("*nat\n:KUBE-SVC-A -\n:KUBE-SVC-B -\n-A KUBE-SVC-B {rule}\nCOMMIT\n");
            restore(&node.namespace, &program, &rules)?;
            assert_eq!(taken(), None, "{program}: {rule}");
            restore(&node.namespace, &program, "*nat\nCOMMIT\n")?;
        }
    }
    let table = |rule: &str| {
        format!(
            "add table ip kube-proxy\ndelete table ip kube-proxy\n\
             table ip kube-proxy {{ chain service-A {{ }}\n chain external-A {{ {rule} goto service-A; }}\n }}\n"
        )
    };
    nft(&node.namespace, &table("ip saddr 10.240.0.0/16"))?;
    assert_eq!(taken().as_deref(), Some("10.240.0.0/16"));
    nft(&node.namespace, &table("iifname \"azv*\""))?;
    assert_eq!(taken(), None);
    Ok(())
}
