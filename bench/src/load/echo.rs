//! Answers datagrams from the very address that each was sent to, of however many the receiver has.

use std::{
    io::{IoSlice, IoSliceMut},
    net::UdpSocket,
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt},
};

use crate::cores;

/// How often it looks whether it is over.
const TICK: Duration = Duration::from_millis(5);

/// A thread that answers until [`Echo::finish`].
pub(crate) struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Echo {
    /// `receiver` may be bound to any address at all, and is as it was afterwards, but for a time limit.
    pub(crate) fn start(receiver: &UdpSocket, on_core: usize) -> Result<Self> {
        setsockopt(receiver, sockopt::Ipv4PacketInfo, &true).context("ask for each datagram's destination")?;
        receiver.set_read_timeout(Some(TICK))?;
        let (socket, stop) = (receiver.try_clone()?, Arc::new(AtomicBool::new(false)));
        let over = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            cores::pin(on_core)?;
            while !over.load(Ordering::Relaxed) {
                answer(&socket)?;
            }
            Ok(())
        });
        Ok(Self { stop, thread: Some(thread) })
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow!("the answering thread failed, see above"))?
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // A caller that wants the result has called `finish`.
        let _ = self.end();
    }
}

/// One datagram, or none within a tick.
fn answer(socket: &UdpSocket) -> Result<()> {
    let (mut byte, mut control) = ([0], nix::cmsg_space!(libc::in_pktinfo));
    let mut into = [IoSliceMut::new(&mut byte)];
    let received = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut into, Some(&mut control), MsgFlags::empty());
    let received = match received {
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
        received => received.context("receive a datagram")?,
    };
    let sent_to = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(info.ipi_addr),
        _ => None,
    });
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: sent_to.context("a datagram without its destination")?,
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let control = [ControlMessage::Ipv4PacketInfo(&info)];
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(&[0])], &control, MsgFlags::empty(), received.address.as_ref())
        .context("answer a datagram")?;
    Ok(())
}
