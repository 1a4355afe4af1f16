//! The process of an emulator, which does not outlive this one, however this one ends.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdout, Command, Stdio},
};

use nix::{
    errno::Errno,
    sys::{prctl, signal::Signal},
    unistd::{getpid, getppid},
};

/// Ends when it is dropped, and when the thread that has started it ends (`PR_SET_PDEATHSIG`).
pub(super) struct Emulator(Child);

impl Emulator {
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        die_with_thread(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().map(Self)
    }

    /// Can be had once.
    pub(super) fn console(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(unsafe_code, reason = "the signal can be asked for only between fork and exec")]
fn die_with_thread(command: &mut Command) {
    let parent = getpid();
    let attach = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the call above. Then the kernel would never send the signal.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec the closure makes two system calls, which are async-signal-safe; it allocates nothing and takes no
    // lock.
    unsafe { command.pre_exec(attach) };
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, thread};

    use super::*;

    #[test]
    fn emulator_ends_with_the_thread_that_started_it() {
        let start = || {
            let mut sleep = Command::new("sleep");
            sleep.arg("20");
            Emulator::start(sleep).unwrap()
        };
        let mut emulator = thread::spawn(start).join().unwrap();
        assert_eq!(emulator.0.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
    }
}
