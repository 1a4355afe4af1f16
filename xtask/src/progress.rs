//! Long steps, shown while they run.
//!
//! On a terminal a step is one live line: its name, the time that it has taken, the last line of its output. Elsewhere it is a plain
//! line at the start, one now and then, and one at the end. The whole output is kept, and shown only where the step fails.

use std::{
    io::{self, BufRead as _, BufReader, IsTerminal as _, PipeReader},
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// How often the live line moves.
const TICK: Duration = Duration::from_millis(100);
/// How often a step without a terminal says that it still runs.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// How much of a failed step's output is worth showing.
const LINES_SHOWN: usize = 40;

/// Runs a step to its end, or until `limit` has passed.
pub(crate) fn run(name: &str, mut command: Command, limit: Option<Duration>) -> Result<()> {
    let started = Instant::now();
    let (reader, writer) = io::pipe().context("cannot create a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("cannot create a pipe")?).stderr(writer);
    let mut child =
        command.spawn().with_context(|| format!("{name}: cannot run {}", command.get_program().display()))?;
    // The pipe ends when no process can write to it any more, and `command` holds an end.
    drop(command);

    let lines = lines_of(reader);
    let mut display = Display::start(name);
    let mut output = Vec::new();
    loop {
        match lines.recv_timeout(TICK) {
            Ok(line) => {
                display.last_line(&line);
                output.push(line);
            }
            Err(RecvTimeoutError::Timeout) => display.still_running(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if limit.is_some_and(|limit| started.elapsed() > limit) {
            child.kill().with_context(|| format!("{name}: cannot be stopped"))?;
            child.wait().with_context(|| format!("{name}: cannot be waited for"))?;
            display.finish("stopped");
            bail!("{name}: no end after {} s", started.elapsed().as_secs());
        }
    }
    let status = child.wait().with_context(|| format!("{name}: cannot be waited for"))?;
    display.finish(if status.success() { "done" } else { "failed" });
    if !status.success() {
        let tail = output.split_off(output.len().saturating_sub(LINES_SHOWN));
        bail!("{name}: {status}\n{}", tail.join("\n"));
    }
    Ok(())
}

/// Runs a step that shows its progress by itself, as cargo does.
pub(crate) fn show(name: &str, mut command: Command) -> Result<()> {
    eprintln!("==> {name}");
    let status = command.status().with_context(|| format!("{name}: cannot run {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}

/// Reads aside, so that the live line moves also while the step is silent.
fn lines_of(reader: PipeReader) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&bytes);
            // A carriage return overwrites the line: its last state counts.
            if let Some(line) = text.split(['\r', '\n']).rfind(|line| !line.trim().is_empty()) {
                // A failed send means that the step was stopped and its output is not read any more.
                if sender.send(line.to_owned()).is_err() {
                    break;
                }
            }
            bytes.clear();
        }
    });
    receiver
}

enum Display {
    Live(ProgressBar),
    Plain { name: String, started: Instant, spoke: Instant, last_line: String },
}

impl Display {
    fn start(name: &str) -> Self {
        if io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}");
            let bar = ProgressBar::new_spinner().with_style(style.expect("a template that is known here"));
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(TICK);
            return Self::Live(bar);
        }
        eprintln!("==> {name}");
        let now = Instant::now();
        Self::Plain { name: name.to_owned(), started: now, spoke: now, last_line: String::new() }
    }

    fn last_line(&mut self, line: &str) {
        match self {
            Self::Live(bar) => bar.set_message(line.to_owned()),
            Self::Plain { last_line, .. } => line.clone_into(last_line),
        }
        self.still_running();
    }

    fn still_running(&mut self) {
        if let Self::Plain { name, started, spoke, last_line } = self
            && spoke.elapsed() >= SIGN_OF_LIFE
        {
            eprintln!("    {name}: {} s, {last_line}", started.elapsed().as_secs());
            *spoke = Instant::now();
        }
    }

    fn finish(self, outcome: &str) {
        match self {
            Self::Live(bar) => {
                let elapsed = bar.elapsed().as_secs();
                bar.finish_and_clear();
                eprintln!("==> {}: {outcome} in {elapsed} s", bar.prefix());
            }
            Self::Plain { name, started, .. } => {
                eprintln!("    {name}: {outcome} in {} s", started.elapsed().as_secs())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failed_step_shows_what_it_printed_on_either_stream() {
        let error = run("try", shell("echo to stdout; echo to stderr >&2; exit 3"), None).unwrap_err().to_string();
        for part in ["try", "3", "to stdout", "to stderr"] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    }

    #[test]
    fn a_failed_step_shows_the_end_of_a_long_output() {
        let error = run("try", shell("seq 1000; exit 1"), None).unwrap_err().to_string();
        assert!(error.ends_with("\n999\n1000"), "{error}");
        assert_eq!(error.lines().count(), LINES_SHOWN + 1);
    }

    #[test]
    fn a_step_that_does_not_end_is_stopped_at_its_limit() {
        let started = Instant::now();
        let error = run("try", shell("exec sleep 60"), Some(Duration::from_millis(50))).unwrap_err().to_string();
        assert!(error.contains("no end"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_step_that_succeeds_is_silent_about_its_output() {
        run("try", shell("echo noise"), None).unwrap();
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run("try", Command::new("/nonexistent/program"), None).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/program"), "{error}");
    }
}
