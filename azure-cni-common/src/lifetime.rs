//! How long a flow may stay silent before its entry counts as absent.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::conntrack::{Origin, QUESTION_PORTS, State};
use crate::family::{Be16, TCP, UDP};

/// Which times a flow is given.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Lifetime(pub u8);

impl Lifetime {
    pub const TCP: Self = Self(0);
    /// UDP, ICMP echo and all others.
    pub const DATAGRAM: Self = Self(1);
    /// Of this node, to a port where one datagram asks and one replies.
    pub const QUESTION: Self = Self(2);

    pub fn of(protocol: u8, origin: Origin, responder_port: Be16) -> Self {
        match protocol {
            TCP => Self::TCP,
            UDP if origin == Origin::NODE && QUESTION_PORTS.contains(&responder_port) => Self::QUESTION,
            _ => Self::DATAGRAM,
        }
    }
}

/// How long a flow may stay silent before its entry counts as absent, in seconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Timeouts {
    pub tcp_half_open_secs: u32,
    pub tcp_established_secs: u32,
    /// One end has sent FIN.
    pub tcp_half_closed_secs: u32,
    /// Both have, or a reset was seen.
    pub tcp_closed_secs: u32,
    /// UDP, ICMP echo and all others without a reply yet. None of the three gets shorter as a flow goes on, so that no forged reply
    /// shortens a life.
    pub datagram_one_way_secs: u32,
    /// The same with a reply.
    pub datagram_exchange_secs: u32,
    /// The same, going on after the reply for two seconds and more.
    pub datagram_stream_secs: u32,
    /// Of [`Lifetime::QUESTION`], with and without a reply, until they are a stream.
    pub datagram_question_secs: u32,
}

impl Timeouts {
    /// In the range of the kernel's own tracking (net/netfilter/nf_conntrack_proto_*.c), but an established TCP flow
    /// lives one day, not five: twelve keep-alive intervals of two hours (RFC 9293 section 3.8.4). A question lives as long as a
    /// resolver waits for its reply (resolv.conf(5), timeout).
    pub const DEFAULT: Self = Self {
        tcp_half_open_secs: 60,
        tcp_established_secs: 86_400,
        tcp_half_closed_secs: 120,
        tcp_closed_secs: 10,
        datagram_one_way_secs: 30,
        datagram_exchange_secs: 30,
        datagram_stream_secs: 180,
        datagram_question_secs: 5,
    };

    pub const fn secs(&self, timeout: Timeout) -> u32 {
        match timeout {
            Timeout::TcpHalfOpen => self.tcp_half_open_secs,
            Timeout::TcpEstablished => self.tcp_established_secs,
            Timeout::TcpHalfClosed => self.tcp_half_closed_secs,
            Timeout::TcpClosed => self.tcp_closed_secs,
            Timeout::DatagramOneWay => self.datagram_one_way_secs,
            Timeout::DatagramExchange => self.datagram_exchange_secs,
            Timeout::DatagramStream => self.datagram_stream_secs,
            Timeout::DatagramQuestion => self.datagram_question_secs,
        }
    }
}

/// One of [`Timeouts`]; its number is its place there, in words.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    TcpHalfOpen,
    TcpEstablished,
    TcpHalfClosed,
    TcpClosed,
    DatagramOneWay,
    DatagramExchange,
    DatagramStream,
    DatagramQuestion,
}

const _: () = assert!(size_of::<Timeouts>() == 4 * (Timeout::DatagramQuestion as usize + 1));

impl Timeout {
    /// What a flow in this state is given if nothing more is seen.
    #[inline(always)]
    pub fn of(lifetime: Lifetime, state: State) -> Self {
        if lifetime == Lifetime::TCP { Self::of_tcp(state) } else { Self::of_datagrams(lifetime, state) }
    }

    fn of_tcp(state: State) -> Self {
        if state.is_closed() {
            Self::TcpClosed
        } else if state.is_closing() {
            Self::TcpHalfClosed
        } else if state.has(State::ESTABLISHED) {
            Self::TcpEstablished
        } else {
            Self::TcpHalfOpen
        }
    }

    fn of_datagrams(lifetime: Lifetime, state: State) -> Self {
        if state.has(State::ESTABLISHED) {
            Self::DatagramStream
        } else if lifetime == Lifetime::QUESTION {
            Self::DatagramQuestion
        } else if state.has(State::SEEN_REPLY) {
            Self::DatagramExchange
        } else {
            Self::DatagramOneWay
        }
    }
}

pub const NS_PER_SEC: u64 = 1_000_000_000;

/// How long TCP lasts whose other end does not acknowledge what it was sent; in seconds. As in net/netfilter/nf_conntrack_proto_tcp.c, TCP_CONNTRACK_UNACK.
pub const UNACKNOWLEDGED_SECS: u32 = 300;
