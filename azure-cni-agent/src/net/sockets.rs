//! Ports that sockets of the agent's own network namespace hold: TCP sockets that listen, UDP sockets that are bound.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use azure_cni_common::family::{TCP, UDP};

/// `TCP_LISTEN` (include/net/tcp_states.h).
const LISTEN: u8 = 0x0a;

/// Both families: a socket on `::` takes IPv4 too. The calling thread's lists, as the process's first thread may be in
/// another namespace.
const TCP_LISTS: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
const UDP_LISTS: [&str; 2] = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"];

/// The kernel's list of sockets is missing or has another form. A retry does not help.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct SocketsError {
    path: PathBuf,
    source: std::io::Error,
}

/// A port by its protocol's number.
pub type HeldPort = (u8, u16);

/// Blocks while the kernel lists the sockets.
pub fn held_ports() -> Result<BTreeSet<HeldPort>, SocketsError> {
    let mut held = BTreeSet::new();
    for (protocol, lists) in [(TCP, TCP_LISTS), (UDP, UDP_LISTS)] {
        for path in lists.map(Path::new) {
            let failed = |source| SocketsError { path: path.to_owned(), source };
            let file = match File::open(path) {
                // A kernel without IPv6.
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound
                        && path.as_os_str().as_encoded_bytes().ends_with(b"6") =>
                {
                    continue;
                }
                other => other.map_err(failed)?,
            };
            let ports = ports(protocol, BufReader::new(file)).map_err(failed)?;
            held.extend(ports.into_iter().map(|port| (protocol, port)));
        }
    }
    Ok(held)
}

/// The ports of a list as `tcp4_seq_show` and `udp4_seq_show` print it (net/ipv4/tcp_ipv4.c, net/ipv4/udp.c).
fn ports(protocol: u8, list: impl BufRead) -> std::io::Result<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for line in list.lines().skip(1) {
        let line = line?;
        let (port, state) = socket(&line)
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, format!("no socket: {line:?}")))?;
        // Sockets that listen come first (tcp_seq_next), so the many sockets of connections need not be read.
        if protocol == TCP && state != LISTEN {
            break;
        }
        ports.insert(port);
    }
    // Sockets that are not bound yet.
    ports.remove(&0);
    Ok(ports)
}

/// Local port and state of `sl: address:port address:port state …`, in hexadecimal.
fn socket(line: &str) -> Option<(u16, u8)> {
    let mut columns = line.split_ascii_whitespace();
    let (_, port) = columns.nth(1)?.rsplit_once(':')?;
    let state = columns.nth(1)?;
    Some((u16::from_str_radix(port, 16).ok()?, u8::from_str_radix(state, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use proptest::prelude::*;

    use super::*;

    const HEADER: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

    fn read(protocol: u8, rows: &[&str]) -> std::io::Result<Vec<u16>> {
        let text = [&[HEADER], rows].concat().join("\n");
        ports(protocol, text.as_bytes()).map(|ports| ports.into_iter().collect())
    }

    #[test]
    fn tcp_ports_count_if_they_listen_and_udp_ports_if_they_are_bound() {
        let rows = [
            "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31 1 0 100 0",
            "   1: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 32 1 0 100 0",
            "   2: 0100007F:1F91 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 33 1 0 100 0",
        ];
        assert_eq!(read(TCP, &rows).unwrap(), [22, 8080]);
        assert_eq!(read(UDP, &rows).unwrap(), [22, 8080, 8081]);
        let v6 = "   0: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:0";
        assert_eq!(read(UDP, &[v6]).unwrap(), [53]);
        assert_eq!(read(TCP, &[]).unwrap(), [0_u16; 0]);
    }

    #[test]
    fn a_list_of_another_form_is_an_error_not_an_empty_set() {
        for row in
            ["", "0:", "   0: 0100007F 00000000:0000 0A", "   0: 0100007F:XYZ 00000000:0000 0A", "0: 0:1 0:0 listen"]
        {
            assert!(read(TCP, &[row, ""]).is_err(), "{row:?}");
        }
    }

    #[test]
    fn the_sockets_of_this_process_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bound = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let port = |address: std::io::Result<std::net::SocketAddr>| address.unwrap().port();
        let held = held_ports().unwrap();
        assert!(held.contains(&(TCP, port(listener.local_addr()))), "{held:?}");
        assert!(held.contains(&(UDP, port(bound.local_addr()))), "{held:?}");
        assert!(!held.contains(&(TCP, port(client.local_addr()))), "{held:?}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "([0-9A-F]{1,9}|[ :\n\t]|.){0,80}") {
            let _ = ports(TCP, text.as_bytes());
            let _ = ports(UDP, text.as_bytes());
        }
    }
}
