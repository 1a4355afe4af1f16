//! Bulk TCP throughput by iperf3, its two ends on different cores.

use std::{
    fs,
    net::IpAddr,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    error::{Attempt, Error, Result},
    namespace::Namespace,
    process::{self, Daemon},
    station::Station,
};

/// iperf3's own port.
const PORT: u16 = 5201;
/// The time for connecting and exchanging results, beyond the measurement itself.
const OVERHEAD: Duration = Duration::from_secs(8);

/// Bits per second that `from` gets through to an address of `server`, sending for `secs` seconds over so many connections.
pub fn throughput(from: &dyn Station, server: &dyn Station, secs: u8, streams: u8) -> Result<f64> {
    Bulk { secs, streams, ..Bulk::new(from, server) }.run()
}

/// A transfer of as much as goes through.
#[derive(Clone, Copy)]
pub struct Bulk<'net> {
    pub client: &'net dyn Station,
    pub server: &'net dyn Station,
    pub address: IpAddr,
    pub secs: u8,
    /// The first of them do not count.
    pub warm_up_secs: u8,
    /// Connections, or flows of datagrams.
    pub streams: u8,
    /// The server sends.
    pub reverse: bool,
    /// Bits per second of datagrams; `None`: TCP.
    pub datagrams: Option<u64>,
}

impl<'net> Bulk<'net> {
    /// One second of TCP over IPv4.
    pub fn new(client: &'net dyn Station, server: &'net dyn Station) -> Self {
        let address = server.address().into();
        Self { client, server, address, secs: 1, warm_up_secs: 0, streams: 1, reverse: false, datagrams: None }
    }

    /// Bits of payload per second that the receiver got.
    pub fn run(&self) -> Result<f64> {
        let (near, far) = two_cores()?;
        let port = PORT.to_string();
        let address = self.address.to_string();

        let mut serve = self.server.namespace().command("iperf3")?;
        serve.args(["--server", "--one-off", "--bind", &address, "--port", &port]);
        serve.stdout(Stdio::null()).stderr(Stdio::null());
        pin(&mut serve, far)?;
        let daemon = Daemon::start(serve)?;
        wait_for_listener(self.server.namespace(), self.address, &daemon)?;

        let mut send = self.client.namespace().command("iperf3")?;
        send.args(["--client", &address, "--port", &port, "--connect-timeout", "1500", "--json"]);
        send.args(["--time", &self.secs.to_string(), "--parallel", &self.streams.to_string()]);
        send.args(["--omit", &self.warm_up_secs.to_string()]);
        if self.reverse {
            send.arg("--reverse");
        }
        if let Some(rate) = self.datagrams {
            let rate = (rate / u64::from(self.streams)).to_string();
            send.args(["--udp", "--length", &DATAGRAM.to_string(), "--bitrate", &rate]);
        }
        pin(&mut send, near)?;
        let limit = Duration::from_secs(u64::from(self.secs) + u64::from(self.warm_up_secs)) + OVERHEAD;
        let report = process::run_ok(send, b"", limit)?;
        received_bits_per_second(&report)
    }
}

/// Bytes of payload: a packet of 1500 bytes in IPv6, with which no path needs fragments.
pub const DATAGRAM: u16 = 1500 - 48;

fn received_bits_per_second(report: &str) -> Result<f64> {
    let wrong = |problem: String| Error::Answer { command: "iperf3 --client".into(), answer: report.into(), problem };
    let json: Value = serde_json::from_str(report).map_err(|error| wrong(error.to_string()))?;
    let rate = json["end"]["sum_received"]["bits_per_second"].as_f64();
    rate.ok_or_else(|| wrong("no end.sum_received.bits_per_second".into()))
}

/// The first and the last core that this process may use, for a sender and its receiver; the same one on a machine with
/// one.
pub fn two_cores() -> Result<(usize, usize)> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).attempt(|| "read the allowed cores".into())?;
    let mut cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core) == Ok(true));
    let first = cores.next().unwrap_or(0);
    Ok((first, cores.next_back().unwrap_or(first)))
}

fn pin(command: &mut Command, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core).attempt(|| format!("choose core {core}"))?;
    let apply = move || Ok(sched_setaffinity(Pid::from_raw(0), &set)?);
    // SAFETY: between fork and exec the closure makes one system call on a value that it owns, which is
    // async-signal-safe; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(apply) };
    Ok(())
}

/// Waits until iperf3 listens, without connecting: it would take that for its one client.
fn wait_for_listener(namespace: &Namespace, address: IpAddr, daemon: &Daemon) -> Result<()> {
    // Kernel Documentation/networking/proc_net_tcp: the address as the machine's own words in hex, then the port; state
    // 0A is listening.
    let hex = |octets: &[u8]| {
        let words = octets.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().expect("four bytes")));
        words.map(|word| format!("{word:08X}")).collect::<String>()
    };
    let (file, address) = match address {
        IpAddr::V4(address) => ("/proc/thread-self/net/tcp", hex(&address.octets())),
        IpAddr::V6(address) => ("/proc/thread-self/net/tcp6", hex(&address.octets())),
    };
    let local = format!("{address}:{PORT:04X}");
    let listens = |table: &str| {
        table.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next() == Some(&local) && fields.nth(1) == Some("0A")
        })
    };
    let deadline = Instant::now() + OVERHEAD;
    loop {
        let table = namespace.run(|| fs::read_to_string(file));
        if listens(&table.attempt(|| "read the sockets".into())?) {
            return Ok(());
        }
        if Instant::now() > deadline || daemon.wait(Duration::ZERO).is_some() {
            let problem = "does not listen".into();
            return Err(Error::Answer { command: "iperf3 --server".into(), answer: String::new(), problem });
        }
        thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_what_the_receiver_counted() {
        let report = r#"{"end":{"sum_sent":{"bits_per_second":9.0},"sum_received":{"bits_per_second":7.5}}}"#;
        assert_eq!(received_bits_per_second(report).expect("a report"), 7.5);
    }

    #[test]
    fn report_without_a_rate_is_an_error() {
        assert!(received_bits_per_second(r#"{"error":"unable to connect"}"#).is_err());
    }
}
