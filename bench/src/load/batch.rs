//! Many datagrams with one system call (sendmmsg(2), recvmmsg(2)).

use std::{
    io,
    net::{SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    ptr,
};

/// Datagrams per call: enough that the call's own cost does not count.
pub(super) const BATCH: usize = 64;

/// A datagram that makes a frame of 64 bytes, check sequence included (RFC 2544 section 9): Ethernet 14, IPv4 20, UDP 8,
/// FCS 4.
const PAYLOAD: usize = 64 - 14 - 20 - 8 - 4;

/// Buffers for [`BATCH`] datagrams.
pub(super) struct Batch {
    headers: Vec<libc::mmsghdr>,
    // What the headers point at; boxed slices do not move.
    _vectors: Box<[libc::iovec]>,
    _payloads: Box<[[u8; PAYLOAD]]>,
    names: Box<[libc::sockaddr_in]>,
}

// SAFETY: the pointers lead to what the batch itself owns, and go with it.
unsafe impl Send for Batch {}

impl Batch {
    pub(super) fn new() -> Self {
        let mut payloads = vec![[0x5a; PAYLOAD]; BATCH].into_boxed_slice();
        let to_vector =
            |payload: &mut [u8; PAYLOAD]| libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: PAYLOAD };
        let mut vectors: Box<[libc::iovec]> = payloads.iter_mut().map(to_vector).collect();
        let header = |vector: &mut libc::iovec| libc::mmsghdr {
            msg_hdr: libc::msghdr {
                msg_name: ptr::null_mut(),
                msg_namelen: 0,
                msg_iov: vector,
                msg_iovlen: 1,
                msg_control: ptr::null_mut(),
                msg_controllen: 0,
                msg_flags: 0,
            },
            msg_len: 0,
        };
        let headers = vectors.iter_mut().map(header).collect();
        Self { headers, _vectors: vectors, _payloads: payloads, names: Box::default() }
    }

    /// For a socket that is not connected: one datagram to each of as many targets as there are datagrams.
    pub(super) fn to(targets: &[SocketAddrV4; BATCH]) -> Self {
        let mut batch = Self::new();
        batch.names = targets.iter().copied().map(name).collect();
        for (header, name) in batch.headers.iter_mut().zip(&mut batch.names) {
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        }
        batch
    }

    /// Sends over a socket, which must be connected unless there are targets; returns how many were taken.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        // SAFETY: every header points at one vector, each vector at one payload of its length, and maybe at one name; all live
        // in `self`, which nothing else touches during the call.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), BATCH as u32, 0) };
        counted(sent)
    }

    /// Takes what has arrived, which may be nothing; does not wait.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let (headers, flags) = (self.headers.as_mut_ptr(), libc::MSG_DONTWAIT);
        // SAFETY: as in `send`; payloads may be overwritten, longer datagrams are cut.
        let received = unsafe { libc::recvmmsg(socket.as_raw_fd(), headers, BATCH as u32, flags, ptr::null_mut()) };
        match counted(received) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }
}

/// ip(7): port and address in network byte order.
fn name(target: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: target.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(target.ip().octets()) },
        sin_zero: [0; 8],
    }
}

fn counted(result: libc::c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn batch_arrives_whole() {
        let receiver = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
        let sender = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
        sender.connect(receiver.local_addr().expect("bound")).expect("connected");
        let (mut there, mut here) = (Batch::new(), Batch::new());
        assert_eq!(here.receive(&receiver).expect("nothing yet"), 0);
        let sent = there.send(&sender).expect("sent");
        thread::sleep(Duration::from_millis(20));
        assert_eq!((sent, here.receive(&receiver).expect("received")), (BATCH, BATCH));
    }

    #[test]
    fn batch_with_targets_needs_no_connection() {
        let receiver = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
        let sender = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
        let std::net::SocketAddr::V4(target) = receiver.local_addr().expect("bound") else { panic!("IPv6") };
        assert_eq!(Batch::to(&[target; BATCH]).send(&sender).expect("sent"), BATCH);
        thread::sleep(Duration::from_millis(20));
        assert_eq!(Batch::new().receive(&receiver).expect("received"), BATCH);
    }
}
