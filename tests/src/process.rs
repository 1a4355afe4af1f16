//! Child processes that cannot outlive this one.
//!
//! The kernel kills a child when the thread that started it ends (`PR_SET_PDEATHSIG`), so a daemon gets a thread of its
//! own that lives as long as it does. A process is signalled by its id only while it is known not to be reaped yet, so
//! no signal can reach a stranger.

use std::{
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::{Pid, getpid, getppid},
};

use crate::error::{Attempt, Error, Result};

/// Has the kernel kill the command's process when the thread that spawns it ends, and lets every signal reach it
/// even if this process has blocked some.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let attach = move || {
        SigSet::empty().thread_set_mask()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the call above. Then the kernel would never send the signal.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec the closure makes three system calls, which are async-signal-safe; it allocates
    // nothing and takes no lock.
    unsafe { command.pre_exec(attach) };
}

/// Leaves the command's process these capabilities alone, of those that root has (capabilities(7), "Capability bounding set").
pub(crate) fn keep_capabilities(command: &mut Command, kept: &'static [u32]) {
    let drop_others = move || {
        for capability in (0..64).filter(|capability| !kept.contains(capability)) {
            // SAFETY: the call reads no memory. Capabilities that this kernel does not know are EINVAL.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability)) };
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(drop_others) };
}

/// Runs a command to its end, feeding it `stdin`; one that takes longer than `limit` is killed.
pub(crate) fn run(mut command: Command, stdin: &[u8], limit: Duration) -> Result<Output> {
    let text = describe(&command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .attempt(|| format!("start `{text}`"))?;
    let (mut input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (status, stdout, stderr) = thread::scope(|scope| {
        // A child need not read its input. Its status shows whether that was wrong.
        scope.spawn(move || input.as_mut().map(|pipe| pipe.write_all(stdin)));
        let stdout = scope.spawn(|| collect(output));
        let stderr = scope.spawn(|| collect(errors));
        let status = wait_until(&mut child, Instant::now() + limit);
        (status, stdout.join().expect("does not panic"), stderr.join().expect("does not panic"))
    });
    match status.attempt(|| format!("wait for `{text}`"))? {
        Some(status) => Ok(Output { status, stdout, stderr }),
        None => Err(Error::Overdue { command: text, limit, stderr: String::from_utf8_lossy(&stderr).into_owned() }),
    }
}

/// Runs a command that must succeed; returns its standard output.
pub(crate) fn run_ok(command: Command, stdin: &[u8], limit: Duration) -> Result<String> {
    let text = describe(&command);
    let output = run(command, stdin, limit)?;
    if !output.status.success() {
        let stderr = [output.stderr, output.stdout].concat();
        let stderr = String::from_utf8_lossy(&stderr).trim_end().to_owned();
        return Err(Error::Command { command: text, status: output.status, stderr });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn collect(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A pipe that breaks half-way still shows what came before.
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    bytes
}

fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_micros(200);
    loop {
        match child.try_wait()? {
            None if Instant::now() < deadline => thread::sleep(pause),
            None => {
                child.kill()?;
                return child.wait().map(|_| None);
            }
            exited => return Ok(exited),
        }
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn describe(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut text = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// A long-running process; dropping this kills and reaps it.
pub(crate) struct Daemon {
    pid: Pid,
    end: Arc<End>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct End {
    status: Mutex<Option<ExitStatus>>,
    known: Condvar,
}

impl End {
    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Starts the command in a process group of its own, so that Ctrl-C reaches only us.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let text = describe(&command);
        let (report, started) = mpsc::channel();
        let end = Arc::new(End::default());
        let keeper = thread::spawn({
            let end = Arc::clone(&end);
            move || match command.process_group(0).stdin(Stdio::null()).spawn() {
                Ok(child) => {
                    let _ = report.send(Ok(child.id()));
                    keep(child, &end);
                }
                Err(error) => drop(report.send(Err(error))),
            }
        });
        let id = started.recv().expect("the keeper always answers").attempt(|| format!("start `{text}`"))?;
        Ok(Self { pid: Pid::from_raw(id.cast_signed()), end, keeper: Some(keeper) })
    }

    /// Sends a signal, unless the process has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let ended = self.end.lock();
        if ended.is_none() {
            // Held under the lock the process is not reaped, so the id is still its own and the call cannot miss.
            let _ = kill(self.pid, signal);
        }
    }

    /// Waits for the end of the process; `None` if it still runs after `limit`.
    pub(crate) fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let waited = self.end.known.wait_timeout_while(self.end.lock(), limit, |status| status.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Waits for the child without reaping it, then reaps it under the lock.
fn keep(mut child: Child, end: &End) {
    let id = Pid::from_raw(child.id().cast_signed());
    while waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
    let mut status = end.lock();
    *status = child.wait().ok();
    end.known.notify_all();
}
