//! What the demo found, for people and for programs.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    measure::{Measured, Speed},
    table::{Cell, Table},
};

/// The whole result.
pub(crate) struct Report {
    pub(crate) bare: Speed,
    pub(crate) paths: Vec<Measured>,
}

impl Report {
    /// Everything that is not as promised, by path.
    pub(crate) fn faults(&self) -> Vec<String> {
        let named = |path: &Measured| -> Vec<String> {
            path.faults().into_iter().map(|fault| format!("{}: {fault}", path.name)).collect()
        };
        self.paths.iter().flat_map(named).collect()
    }

    /// One row per path, the baseline last.
    pub(crate) fn table(&self, colour: bool) -> String {
        let mut table = Table::new([
            "Path",
            "From",
            "To",
            "TCP",
            "UDP",
            "ICMP",
            "Source seen",
            "Latency",
            "Throughput",
            "Of bare veth",
        ]);
        table.align_right([7, 8, 9]);
        for path in &self.paths {
            let [latency, throughput, share] = self.speed_cells(path.speed.as_ref().ok());
            table.row([
                Cell::plain(path.name),
                Cell::plain(&path.from),
                Cell::plain(&path.to),
                reached(path.tcp.is_ok()),
                reached(path.udp.is_ok()),
                reached(path.icmp.is_ok()),
                source(path),
                latency,
                throughput,
                share,
            ]);
        }
        let [latency, throughput, share] = self.speed_cells(Some(&self.bare));
        let none = || Cell::plain("");
        table.row([
            Cell::plain("bare veth pair"),
            none(),
            none(),
            none(),
            none(),
            none(),
            none(),
            latency,
            throughput,
            share,
        ]);
        table.render(colour)
    }

    /// One sentence if all is well, else every fault.
    pub(crate) fn verdict(&self) -> String {
        let faults = self.faults();
        if faults.is_empty() {
            return format!("All {} paths behave as promised.", self.paths.len());
        }
        format!("NOT as promised:\n{}", faults.iter().map(|fault| format!("  - {fault}\n")).collect::<String>())
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "ok": self.faults().is_empty(),
            "faults": self.faults(),
            "bareVeth": speed_json(Some(&self.bare)),
            "paths": self.paths.iter().map(path_json).collect::<Vec<_>>(),
        })
    }

    fn speed_cells(&self, speed: Option<&Speed>) -> [Cell; 3] {
        let Some(speed) = speed else { return [Cell::plain("-"), Cell::plain("-"), Cell::plain("-")] };
        let share = speed.bits_per_second / self.bare.bits_per_second * 100.0;
        [
            Cell::plain(&format!("{:.1} us", speed.latency.as_nanos() as f64 / 1e3)),
            Cell::plain(&format!("{:.2} Gbit/s", speed.bits_per_second / 1e9)),
            Cell::plain(&format!("{share:.0} %")),
        ]
    }
}

fn reached(ok: bool) -> Cell {
    if ok { Cell::good("ok") } else { Cell::bad("FAIL") }
}

/// The source that the far end saw, by which name, and whether it is the promised one.
fn source(path: &Measured) -> Cell {
    let whose = if path.own_source { "its own" } else { "the VM's primary" };
    let wrong = |seen: &IpAddr| *seen != path.promised;
    match (&path.tcp, &path.udp) {
        (Ok(seen), _) | (_, Ok(seen)) if wrong(seen) => Cell::bad(&format!("{seen} WRONG, not {}", path.promised)),
        (_, Ok(seen)) if wrong(seen) => Cell::bad(&format!("{seen} WRONG, not {}", path.promised)),
        (Ok(seen), _) | (_, Ok(seen)) if path.strays.is_empty() => Cell::good(&format!("{seen} {whose}")),
        (Ok(seen), _) | (_, Ok(seen)) => Cell::bad(&format!("{seen} and STRAYS")),
        (Err(_), Err(_)) => Cell::bad("none"),
    }
}

fn path_json(path: &Measured) -> Value {
    json!({
        "name": path.name,
        "from": path.from,
        "to": path.to,
        "sourcePromised": path.promised,
        "tcpSourceSeen": path.tcp.as_ref().ok(),
        "udpSourceSeen": path.udp.as_ref().ok(),
        "icmp": path.icmp.is_ok(),
        "speed": speed_json(path.speed.as_ref().ok()),
        "faults": path.faults(),
    })
}

fn speed_json(speed: Option<&Speed>) -> Value {
    let Some(speed) = speed else { return Value::Null };
    json!({ "latencyNanoseconds": speed.latency.as_nanos() as u64, "bitsPerSecond": speed.bits_per_second })
}
