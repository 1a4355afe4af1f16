//! Whether a station's connections are over.

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Attempt, Error, Result},
    station::Station,
};

/// Far above what an end without loss takes, on an emulated machine too.
const LIMIT: Duration = Duration::from_secs(10);

/// States in which an end of a connection sends nothing by itself any more, or is none: TIME_WAIT, CLOSE, LISTEN (include/net/tcp_states.h).
const SILENT: [&str; 3] = ["06", "07", "0A"];

/// Waits until no TCP connection of the station has anything left to send: what an earlier one sends late is not taken for a later one's.
pub fn await_endings(station: &dyn Station) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let what = || format!("read the connections of {}", station.name());
        let unfinished = station.namespace().run(unfinished).attempt(what)?;
        if unfinished.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let problem = format!("connections that do not end within {LIMIT:?}");
            return Err(Error::Answer { command: what(), answer: unfinished.join("\n"), problem });
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The lines of the connections that go on (proc_pid_net(5), `tcp`: the fourth column is the state).
fn unfinished() -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}"))?;
        let goes_on = |line: &&str| line.split_whitespace().nth(3).is_some_and(|state| !SILENT.contains(&state));
        lines.extend(text.lines().skip(1).filter(goes_on).map(str::to_owned));
    }
    Ok(lines)
}
