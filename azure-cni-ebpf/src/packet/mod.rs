//! The only module that reads packets: headers in, plain values out; in it, only this file reads memory.
//!
//! Every read is bounded by the packet's end; what does not lie in the linear part is fetched by the kernel's helper.

mod v4;
mod v6;

mod transport;

mod marks;
mod quoted;

pub use marks::{end_wait, may_wait, set_handled_mark, take_handled_mark};
pub use quoted::Quoted;

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use azure_cni_common::conntrack::{Event, TcpFlags};
use azure_cni_common::family::{Be16, Family, TCP};
use azure_cni_common::flow::Tuple;

use quoted::QuotedHeader;

/// Length of an Ethernet header without tags.
pub const ETH_LEN: u32 = 14;

/// include/uapi/linux/if_packet.h
const PACKET_HOST: u32 = 0;
const PACKET_OTHERHOST: u32 = 3;

/// include/uapi/linux/if_ether.h: ETH_P_8021Q and ETH_P_8021AD, of a tag that the kernel has not taken off yet.
const VLAN_ETHERTYPES: [Be16; 2] = [Be16::from_host(0x8100), Be16::from_host(0x88a8)];

/// What a packet is to connection tracking.
#[derive(Clone, Copy)]
pub enum Kind {
    /// [`Packet::event`] says what happens in it.
    Flow,
    /// A later fragment whose first has not come.
    StrayFragment,
    /// An ICMP message about a packet of a flow: see [`is_icmp_error`].
    IcmpError,
    /// Belongs to no flow: other ICMP messages, headers too many to look behind.
    Opaque,
    /// The transport's header is cut short.
    Malformed,
    /// The frame was for all machines of the link; routers do not forward such (RFC 1812 section 5.3.4).
    LinkBroadcast,
}

/// An [`Event`] without what only some of them carry: a payload that is set in some variants only is left uninitialised in
/// the others, and the compiler moves such bytes around where the verifier refuses to read them.
#[derive(Clone, Copy)]
enum EventKind {
    Segment,
    Datagram,
    Reply,
    Fragment,
}

/// How much of the packet that was sent is in this one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    First,
    /// Without the transport's header.
    Later,
}

impl Part {
    fn of(has_offset: bool, has_more: bool) -> Self {
        match (has_offset, has_more) {
            (true, _) => Self::Later,
            (false, true) => Self::First,
            (false, false) => Self::Whole,
        }
    }
}

pub struct Packet<F: Family> {
    /// Ports are zero where the packet has none.
    pub tuple: Tuple<F::Address>,
    pub kind: Kind,
    said: EventKind,
    flags: TcpFlags,
    pub part: Part,
    pub hop_limit: u8,
    /// Of fragments, as it stands in the packet.
    pub identification: u32,
    /// See [`Packet::transport_offset`].
    transport_offset: u16,
    /// Bytes from the start of the IP header to its end of payload.
    pub length: u32,
    /// Index of the interface the program runs at.
    pub ifindex: u32,
    /// Checksum of the IP header, raw; 0 where the family has none.
    pub header_checksum: u16,
}

pub enum Unparsed {
    /// Another protocol, or a frame for another machine.
    NotOurs,
    /// The packet is behind a VLAN tag.
    Tagged,
    Malformed,
}

/// The verifier follows no offset beyond 65,535 into a packet (kernel/bpf/verifier.c, MAX_PACKET_OFF). The deepest
/// transport header is behind four extension headers of 2,048 bytes.
const DEEPEST: u32 = 0x7fff;

/// How a family's header is read.
pub trait Headers: Family + Sized {
    const ECHO: u8;
    const ECHO_REPLY: u8;

    fn is_icmp_error(icmp_type: u8) -> bool;

    /// Of a packet whose ICMP header is right behind its IP header.
    fn icmp_type(ctx: &TcContext) -> Option<u8>;

    fn parse(ctx: &TcContext, packet: &mut Packet<Self>) -> Result<(), Unparsed>;

    /// The header of the packet that an ICMP error quotes.
    fn parse_quoted(ctx: &TcContext, offset: u32) -> Option<QuotedHeader<Self>>;
}

/// Whether the packet is an ICMP error right behind its IP header: those go a way of their own.
#[inline(always)]
pub fn is_icmp_error<F: Headers>(ctx: &TcContext) -> bool {
    match F::icmp_type(ctx) {
        Some(icmp_type) => F::is_icmp_error(icmp_type),
        None => false,
    }
}

/// Whether the frame says that it holds a packet of this family.
pub fn is_of<F: Family>(ctx: &TcContext) -> bool {
    skb(ctx).protocol == u32::from(F::ETHERTYPE.0)
}

impl<F: Headers> Packet<F> {
    #[inline(always)]
    pub fn parse(&mut self, ctx: &TcContext) -> Result<(), Unparsed> {
        let skb = skb(ctx);
        if skb.vlan_present != 0 || VLAN_ETHERTYPES.iter().any(|tag| skb.protocol == u32::from(tag.0)) {
            return Err(Unparsed::Tagged);
        }
        if skb.protocol != u32::from(F::ETHERTYPE.0) || skb.pkt_type == PACKET_OTHERHOST {
            return Err(Unparsed::NotOurs);
        }
        F::parse(ctx, self)?;
        if matches!(self.kind, Kind::Malformed) {
            return Err(Unparsed::Malformed);
        }
        if skb.pkt_type != PACKET_HOST {
            self.kind = Kind::LinkBroadcast;
        }
        Ok(())
    }

    /// [`Self::parse`] with a stack of its own, for those who need much of theirs later.
    #[inline(never)]
    pub fn parse_apart(&mut self, ctx: &TcContext) -> Result<(), Unparsed> {
        self.parse(ctx)
    }

    /// What the packet says about its flow; to be asked if its kind is [`Kind::Flow`].
    #[inline(always)]
    pub fn event(&self) -> Event {
        match self.said {
            EventKind::Segment => Event::Segment(self.flags),
            EventKind::Datagram => Event::Datagram,
            EventKind::Reply => Event::Reply,
            EventKind::Fragment => Event::Fragment,
        }
    }

    /// The ports are known after all.
    pub fn follows(&mut self, source_port: Be16, destination_port: Be16) {
        self.tuple.source_port = source_port;
        self.tuple.destination_port = destination_port;
        self.kind = Kind::Flow;
        self.said = EventKind::Fragment;
    }

    /// Bytes from the start of the frame to the transport header: at most [`DEEPEST`], as the parser sees to.
    pub fn transport_offset(&self) -> u32 {
        // EventKind again where the verifier has forgotten it.
        u32::from(self.transport_offset) & DEEPEST
    }

    /// Whether the packet, or a segment that the device will cut from it, is longer than `mtu`.
    pub fn exceeds(&self, ctx: &TcContext, mtu: u32) -> bool {
        if self.length <= mtu {
            return false;
        }
        let skb = skb(ctx);
        // A TCP header is at most 60 bytes (RFC 9293 section 3.1): a bound, at the cost of the slower way for few.
        let headers = self.transport_offset() - ETH_LEN + if self.tuple.protocol == TCP { 20 } else { 8 };
        skb.gso_size == 0 || headers + skb.gso_size > mtu
    }
}

fn skb(ctx: &TcContext) -> &__sk_buff {
    // SAFETY: the context the kernel hands to the program lives as long as the program runs.
    unsafe { &*ctx.skb.skb }
}

/// Reads integers at an offset of the frame.
#[inline(always)]
fn read<T: Copy>(ctx: &TcContext, offset: u32) -> Option<T> {
    let start = ctx.data() + offset as usize;
    if start + size_of::<T>() <= ctx.data_end() {
        // SAFETY: inside the packet, as just checked and as the verifier proves. The address need not be a multiple of
        // the alignment: the verifier admits such loads only where the machine executes them (kernel/bpf/verifier.c,
        // check_ptr_alignment).
        return Some(unsafe { (start as *const T).read() });
    }
    ctx.load(offset as usize).ok()
}
