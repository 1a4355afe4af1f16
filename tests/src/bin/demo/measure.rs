//! Measures a path: does it carry TCP, UDP and ICMP, whom does the far end see, how fast is it.
//!
//! A path that does not carry TCP is not measured further. The verdict shows its error.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use azure_cni_tests::{
    Baseline, Error, Station,
    probe::{self, Arrivals, EchoServer},
};

use crate::paths::Path;

/// How long to measure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    round_trips: usize,
    bulk_secs: u8,
}

impl Effort {
    pub(crate) const QUICK: Self = Self { round_trips: 200, bulk_secs: 1 };
    pub(crate) const FULL: Self = Self { round_trips: 1000, bulk_secs: 2 };
}

/// Speed of a way.
#[derive(Clone, Copy)]
pub(crate) struct Speed {
    pub(crate) latency: Duration,
    pub(crate) bits_per_second: f64,
}

/// What came of a path.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) promised: IpAddr,
    /// Whether the promised source is the sender's own address.
    pub(crate) own_source: bool,
    pub(crate) tcp: Result<IpAddr, String>,
    pub(crate) udp: Result<IpAddr, String>,
    pub(crate) icmp: Result<(), String>,
    /// Sources of packets that reached the far end although they must not have.
    pub(crate) strays: BTreeSet<IpAddr>,
    pub(crate) speed: Result<Speed, String>,
}

impl Measured {
    /// Everything about this path that is not as promised.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (protocol, seen) in [("TCP", &self.tcp), ("UDP", &self.udp)] {
            match seen {
                Ok(source) if *source == self.promised => {}
                Ok(source) => faults.push(format!("{protocol} arrived from {source} instead of {}", self.promised)),
                Err(error) => faults.push(error.clone()),
            }
        }
        faults.extend(self.icmp.as_ref().err().cloned());
        for stray in &self.strays {
            faults.push(format!("a packet from {stray} reached {}", self.to));
        }
        if self.tcp.is_ok() {
            faults.extend(self.speed.as_ref().err().cloned());
        }
        faults
    }
}

/// Probes and measures a path.
pub(crate) fn path(path: &Path, effort: Effort) -> Measured {
    let Path { name, from, to, promised } = *path;
    let mut measured = Measured {
        name,
        from: from.name().into(),
        to: to.name().into(),
        promised,
        own_source: promised == from.address(),
        tcp: Err("not tried".into()),
        udp: Err("not tried".into()),
        icmp: Err("not tried".into()),
        strays: BTreeSet::new(),
        speed: Err("not measured".into()),
    };
    let ends = EchoServer::start(to).and_then(|echo| Ok((echo, Arrivals::watch(to)?)));
    let (echo, arrivals) = match ends {
        Ok(ends) => ends,
        Err(error) => {
            measured.tcp = Err(error.to_string());
            return measured;
        }
    };
    measured.tcp = probe::tcp(from, echo.address()).map(|reached| reached.source_seen.ip()).map_err(text);
    measured.udp = probe::udp(from, echo.address()).map(|reached| reached.source_seen.ip()).map_err(text);
    measured.icmp = probe::ping(from, to.address()).map(drop).map_err(text);
    // Watching costs speed, so it ends before that is measured.
    let sources = arrivals.finish().into_iter().map(|arrival| arrival.source);
    measured.strays = sources.filter(|source| *source == from.address() && *source != promised).collect();
    if measured.tcp.is_ok() {
        measured.speed = speed(from, to, &echo, effort).map_err(text);
    }
    measured
}

/// Measures a bare veth pair.
pub(crate) fn bare(baseline: &Baseline, effort: Effort) -> Result<Speed, Error> {
    let echo = EchoServer::start(&baseline.far)?;
    speed(&baseline.near, &baseline.far, &echo, effort)
}

fn speed(from: &dyn Station, to: &dyn Station, echo: &EchoServer, effort: Effort) -> Result<Speed, Error> {
    let latency = probe::latency(from, echo.address(), effort.round_trips)?;
    let bits_per_second = probe::throughput(from, to, effort.bulk_secs, 1)?;
    Ok(Speed { latency, bits_per_second })
}

fn text(error: Error) -> String {
    error.to_string()
}
