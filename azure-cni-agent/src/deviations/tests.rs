//! A table: what has changed, and what is done about it.

use azure_cni_datapath::FilterHolder;

use super::*;

const OLD: &str = "10.240.0.4";
const NEW: &str = "10.240.0.99";
const OLD6: &str = "fd00::4";

fn link(index: u32, mtu: u32) -> Link {
    Link { mtu, ..Link::nic(index, [2; 6]) }
}

fn wanted(addresses: &[&str]) -> Wanted {
    let primaries = Addresses::first_of_each(addresses.iter().map(|text| text.parse().unwrap())).unwrap();
    Wanted { primaries, dual_stack: primaries.v6.is_some() }
}

fn observed(addresses: &[&str]) -> Observed {
    Observed {
        uplink: Some(link(2, 1500)),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        default_routes: [Some(true), Some(true)],
        programs: Hook::UPLINK.map(|hook| (hook, Attachment::Current)).into(),
        ..Observed::default()
    }
}

fn loaded() -> Loaded {
    Loaded { uplink: link(2, 1500), wanted: wanted(&[OLD, OLD6]), default_routes: [true, true] }
}

#[test]
fn each_change_of_the_node_has_its_remedy() {
    use Remedy::{Operator, PutBack, StartAgain};
    let sound = || observed(&[OLD, OLD6]);
    let gone = |successor, addresses| Observed { uplink: None, successor, ..observed(addresses) };
    let with_programs =
        |programs: [Attachment; 2]| Observed { programs: Hook::UPLINK.into_iter().zip(programs).collect(), ..sound() };
    let listed =
        |primaries: &[&str], present: &[&str]| Observed { listed: Some(wanted(primaries)), ..observed(present) };
    let foreign = || Attachment::Foreign(FilterHolder { program_id: None, name: "u32".to_owned() });
    for (what, observed, remedies, cuts_off) in [
        ("nothing", sound(), vec![], false),
        ("another address came", observed(&[OLD, OLD6, NEW]), vec![], false),
        ("NIC gone", gone(None, &[]), vec![Operator], true),
        ("NIC back without its addresses", gone(Some(link(9, 1500)), &[OLD6]), vec![Operator], true),
        ("NIC back without its IPv6 address", gone(Some(link(9, 1500)), &[OLD]), vec![Operator], true),
        ("NIC back", gone(Some(link(9, 1500)), &[OLD, OLD6]), vec![StartAgain], true),
        ("MTU", Observed { uplink: Some(link(2, 1400)), ..sound() }, vec![StartAgain], true),
        ("primary replaced, not listed", observed(&[NEW, OLD6]), vec![Operator], true),
        ("primary of IPv6 gone", observed(&[OLD]), vec![Operator], true),
        ("both gone", observed(&[NEW]), vec![Operator, Operator], true),
        ("listed first", listed(&[NEW, OLD6], &[OLD, OLD6]), vec![], false),
        ("listed and there", listed(&[NEW, OLD6], &[NEW, OLD6]), vec![StartAgain], false),
        ("both there", listed(&[NEW, OLD6], &[OLD, NEW, OLD6]), vec![StartAgain], false),
        ("listed, and neither is there", listed(&[NEW, OLD6], &[OLD6]), vec![Operator], true),
        ("IPv6 leaves the list", listed(&[OLD], &[OLD, OLD6]), vec![StartAgain], false),
        ("no way out by IPv4", Observed { default_routes: [Some(false), Some(true)], ..sound() }, vec![Operator], true),
        ("no way out by IPv6", Observed { default_routes: [Some(true), Some(false)], ..sound() }, vec![Operator], true),
        ("policy rules", Observed { default_routes: [None, None], ..sound() }, vec![], false),
        ("one program", with_programs([Attachment::Missing, Attachment::Current]), vec![PutBack(Hook::FromWire)], true),
        ("two of one", with_programs([Attachment::Current, Attachment::Outdated]), vec![PutBack(Hook::ToWire)], true),
        ("another owner's program", with_programs([foreign(), Attachment::Current]), vec![], false),
    ] {
        let found = compare(&loaded(), &observed);
        assert_eq!(found.iter().map(Deviation::remedy).collect::<Vec<_>>(), remedies, "{what}: {found:?}");
        assert_eq!(found.iter().any(Deviation::cuts_off), cuts_off, "{what}: {found:?}");
        assert!(found.iter().all(|deviation| !deviation.to_string().is_empty()));
    }
}

#[test]
fn node_that_never_had_a_default_route_has_lost_none() {
    let loaded = Loaded { default_routes: [false, true], wanted: wanted(&[OLD]), ..loaded() };
    let without = Observed { default_routes: [Some(false), Some(false)], ..observed(&[OLD]) };
    assert_eq!(compare(&loaded, &without), [], "no IPv4 from the start, and no pod has IPv6");
}
