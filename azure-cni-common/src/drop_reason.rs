//! Why a packet was dropped: a numbered table. A number, once used, always means the same.
//!
//! `docs/drop-reasons.md`, the operator's command and the counters are made from this table.

macro_rules! drop_reasons {
    ($($number:literal $variant:ident $name:literal $meaning:literal;)+) => {
        /// Why a packet was dropped. The number is the index into the counters' map.
        #[must_use]
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DropReason {
            $(#[doc = $meaning] $variant = $number,)+
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &[DropReason] = &[$(DropReason::$variant,)+];

            /// Entries of the counters' map; entry 0 is never counted. More than there are reasons, so that a new
            /// reason does not change the map.
            pub const SLOTS: u32 = 64;

            pub const fn number(self) -> u32 {
                self as u32
            }

            /// Stable name: metric label and column of the operator's command.
            pub const fn name(self) -> &'static str {
                match self {
                    $(DropReason::$variant => $name,)+
                }
            }

            pub const fn meaning(self) -> &'static str {
                match self {
                    $(DropReason::$variant => $meaning,)+
                }
            }
        }
    };
}

drop_reasons! {
    1 Malformed "malformed" "A pod sent a packet whose headers are cut short or contradict each other.";
    2 SourceNotOwned "source_not_owned" "A pod sent a packet from an address that is not its own.";
    3 PlatformBlocked "platform_blocked" "A pod tried to reach the platform's host agent (168.63.129.16, TCP 80 or 32526), which only the VM may.";
    4 NatPortsExhausted "nat_ports_exhausted" "No port of this pod's share of the NAT range was found free for this destination within the bounded search.";
    5 FlowTableFull "flow_table_full" "The connection table is full; live flows are not evicted, so the new one was refused.";
    6 NatTableFull "nat_table_full" "The table of translations is full; the new flow was refused.";
    7 FragmentNotTranslated "fragment_not_translated" "A later fragment was on its way to a destination that asks for source NAT, and its packet's first fragment did not come before it or soon after.";
    8 IcmpNotTranslated "icmp_not_translated" "An ICMP message that belongs to no flow, or a packet whose transport header cannot be found, was on its way to a destination that asks for source NAT.";
    9 EndpointGone "endpoint_gone" "The reply of a translated flow came for a pod that is no longer there.";
    10 RewriteFailed "rewrite_failed" "The kernel refused to change the packet (no memory, or a header that shrank in between).";
    11 HostPortTaken "host_port_taken" "A socket of the host uses a port of the NAT range that a pod's flow to the same destination holds.";
    12 VlanTagged "vlan_tagged" "A pod sent a frame with a VLAN tag, which the host's stack might take off after its source was to be checked.";
    13 MetadataBlocked "metadata_blocked" "A pod tried to reach the platform's metadata service (169.254.169.254, TCP 80), which the configuration keeps from pods.";
    14 MartianSource "martian_source" "A packet for a pod came from the wire with a source that no machine out there has: an address of this node or of its pods, loopback, multicast or the like.";
    15 IcmpNotOwned "icmp_not_owned" "A pod sent an ICMP error about a packet that the error's receiver did not send to it.";
    16 IcmpRateLimited "icmp_rate_limited" "A pod sent more ICMP errors than its share: 100 a second, 50 at once.";
    17 ArpNotOwned "arp_not_owned" "A pod sent an ARP packet that names an address as its sender's that is not the pod's own, or another MAC than its frame.";
    18 NoSuchPod "no_such_pod" "A packet was for an address of the pool that no pod has; the platform's router would have sent it back again and again.";
    19 PodFlowShare "pod_flow_share" "This pod holds its share of the connection table, which no pod may hold alone; its new flow was refused.";
    20 NatAddressTaken "nat_address_taken" "Another pod, or the host, talks to this address by the same protocol without ports, and there are no ports to tell two apart.";
    21 BandwidthLimit "bandwidth_limit" "A pod with a bandwidth limit sent or was sent more than that.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_gap_and_names_are_unique() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.number() as usize, index + 1);
            assert!(DropReason::ALL.iter().filter(|r| r.name() == reason.name()).count() == 1);
            assert!(reason.name().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            assert!(reason.meaning().ends_with('.'));
        }
        assert!(DropReason::ALL.len() < DropReason::SLOTS as usize);
    }
}
