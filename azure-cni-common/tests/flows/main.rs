//! What holds of flows and their translations after any sequence of packets, losses and times, in both families.

// Here "from" is where a packet comes from.
#![allow(clippy::wrong_self_convention)]

mod hooks;

mod conntrack;
mod nat;

mod node;
mod table;
mod traffic;
mod watch;

use azure_cni_common::family::{Ipv4, Ipv6, V4, V6};
use node::Net;
use proptest::prelude::*;
use traffic::{Scene, scenes};
use watch::{Promise, Watch};

impl Net for V4 {
    fn address(number: u8) -> Ipv4 {
        Ipv4::new(10, 240, 0, number)
    }
}

impl Net for V6 {
    fn address(number: u8) -> Ipv6 {
        let mut octets = [0; 16];
        (octets[0], octets[15]) = (0xfd, number);
        Ipv6::from_octets(octets)
    }
}

fn check<F: Net>(scene: &Scene, promise: Promise) -> Result<(), TestCaseError> {
    let mut watch = Watch::<F>::new(scene, promise);
    scene.steps.iter().try_for_each(|step| watch.step(*step)).map_err(TestCaseError::fail)
}

macro_rules! promises {
    ($($name:ident: $promise:ident;)+) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 16_384, failure_persistence: None, ..ProptestConfig::default() })]
            $(
                #[test]
                fn $name(scene in scenes()) {
                    check::<V4>(&scene, Promise::$promise)?;
                    check::<V6>(&scene, Promise::$promise)?;
                }
            )+
        }
    };
}

promises! {
    a_reply_to_a_flow_from_outside_is_never_translated: RepliesKeepTheirSource;
    two_live_flows_never_hold_the_same_port_towards_a_peer: PortsAreHeldOnce;
    a_reply_reversed_reaches_the_pod_and_port_that_asked: RepliesComeBack;
    an_assured_flow_ends_by_its_own_end_or_time_only: AssuredFlowsStay;
    the_translation_of_an_assured_flow_is_assured_too: AssuredTranslationsStay;
    forged_segments_change_no_flow: ForgedChangesNothing;
    a_lost_half_is_made_whole_by_the_next_packet: LostHalvesComeBack;
}
