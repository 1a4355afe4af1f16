//! Messages as a kernel gave them, for rules that nft and ip6tables wrote.

use proptest::prelude::*;

use super::super::nfnetlink::{NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6};
use super::super::prefixes;
use super::elements::{self, Element};
use super::expressions::{self, Lookup, Reading};
use super::verdict::Verdict;

/// ip daddr . meta l4proto . th dport vmap @service-ips
const BY_MAP: &str = "340001000c0001007061796c6f61640024000200080001000000000108000200000000010800030000000010080004000000000424000100\
    090001006d657461000000001400020008000200000000100800010000000009340001000c0001007061796c6f61640024000200080001000000000a0800\
    020000000002080003000000000208000400000000023c0001000b0001006c6f6f6b757000002c00020010000100736572766963652d69707300080002000000\
    000108000300000000000800050000000000";
/// Of the map: 10.240.9.9 . tcp . 80 : goto ext
const OF_MAP: &str = "080001006f6e650010000200736572766963652d69707300340003003000010014000100100001000af00909060000000050000018000200\
    1400020008000100fffffffc0800020065787400";
/// ip daddr @nets redirect
const BY_SET: &str = "340001000c0001007061796c6f6164002400020008000100000000010800020000000001080003000000001008000400000000043000\
    01000b0001006c6f6f6b7570000020000200090001006e6574730000000008000200000000010800050000000000140001000a0001007265646972000000\
    04000200";
/// Of the set: 10.1.0.0/16, 10.3.0.0/24
const OF_SET: &str = "080001006f6e6500090002006e657473000000006c000300180001000c000100080001000a0301000800030000000001100001000c0001\
    00080001000a030000180001000c000100080001000a0200000800030000000001100001000c000100080001000a010000180001000c000100080001000000\
    00000800030000000001";
/// ip6tables -t nat -A PREROUTING -s fd00::/64 -d fd00::9 -p tcp --dport 80 -j DNAT --to fd00::2
const OF_IP6TABLES: &str = "24000100090001006d6574610000000014000200080002000000001008000100000000012c00010008000100636d700020000200\
    080001000000000108000200000000000c0003000500010006000000340001000c0001007061796c6f61640024000200080001000000000108000200000000\
    01080003000000000808000400000000083000010008000100636d70002400020008000100000000010800020000000000100003000c000100fd000000000000\
    00340001000c0001007061796c6f6164002400020008000100000000010800020000000001080003000000001808000400000000103800010008000100636d\
    70002c000200080001000000000108000200000000001800030014000100fd000000000000000000000000000009340001000c0001007061796c6f61640024\
    00020008000100000000010800020000000002080003000000000208000400000000022c00010008000100636d70002000020008000100000000010800020000\
    0000000c00030006000100005000002c0001000c000100636f756e746572001c0002000c00010000000000000000000c00020000000000000000005c0001000b\
    00010074617267657400004c00020009000100444e41540000000008000200000000023400030001000000fd000000000000000000000000000002fd00000000\
    0000000000000000000002000000000000000000000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn lookup(expressions: &str) -> (Reading, Lookup) {
    let reading = expressions::read(&bytes(expressions), NFPROTO_IPV4);
    let [lookup] = &reading.lookups[..] else { panic!("{reading:?}") };
    let lookup = lookup.clone();
    (reading, lookup)
}

fn prefixes_of(elements: Vec<Element>, lookup: &Lookup) -> Vec<String> {
    elements::destinations(elements, lookup).iter().map(|(prefix, _)| prefix.to_string()).collect()
}

#[test]
fn a_map_of_services_leads_from_its_keys_to_chains() {
    let (reading, lookup) = lookup(BY_MAP);
    assert_eq!((lookup.set.as_slice(), lookup.bytes.len(), lookup.has_verdicts), (&b"service-ips"[..], 4, true));
    assert_eq!((reading.destination, reading.acts), (None, false));
    let elements: Vec<Element> = elements::read(&bytes(OF_MAP)).collect();
    assert_eq!(elements[0].verdict, Some(Verdict::Chain(b"ext".to_vec())));
    assert_eq!(prefixes_of(elements, &lookup), ["10.240.9.9/32"]);
}

#[test]
fn a_set_of_ranges_is_read_in_whatever_order_it_comes() {
    let (reading, lookup) = lookup(BY_SET);
    assert!(reading.acts && !lookup.has_verdicts);
    let mut elements: Vec<Element> = elements::read(&bytes(OF_SET)).collect();
    let expected = ["10.1.0.0/16", "10.3.0.0/24"];
    assert_eq!(prefixes_of(elements.clone(), &lookup), expected);
    elements.reverse();
    assert_eq!(prefixes_of(elements, &lookup), expected);
}

#[test]
fn a_rule_of_ip6tables_asks_for_source_and_destination_and_acts() {
    let reading = expressions::read(&bytes(OF_IP6TABLES), NFPROTO_IPV6);
    let prefix = |bits: Option<expressions::Bits>| {
        let bits = bits.unwrap();
        prefixes::with_bits(bits.is_v6, &bits.value, &bits.mask).to_string()
    };
    assert_eq!((prefix(reading.source), prefix(reading.destination)), ("fd00::/64".into(), "fd00::9/128".into()));
    assert!(reading.acts);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        damage in proptest::collection::vec((0_usize..600, any::<u8>()), 0..8),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        family in proptest::sample::select(vec![NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6]),
    ) {
        for rule in [BY_MAP, BY_SET, OF_IP6TABLES].map(bytes).into_iter().chain([noise]) {
            let mut rule = rule;
            for (at, byte) in &damage {
                if let Some(place) = rule.get_mut(*at) {
                    *place = *byte;
                }
            }
            let reading = expressions::read(&rule, family);
            for set in [OF_MAP, OF_SET] {
                let mut set = bytes(set);
                for (at, byte) in &damage {
                    if let Some(place) = set.get_mut(*at) {
                        *place = *byte;
                    }
                }
                for lookup in &reading.lookups {
                    let elements: Vec<Element> = elements::read(&set).collect();
                    let _ = elements::destinations(elements, lookup);
                }
            }
        }
    }
}
