//! Ctrl-C: the process ends at once, and the network with it.
//!
//! No clean-up code runs, because none is needed: namespaces, mounts and children belong to this process, and the kernel
//! takes them down when it ends.

use std::{
    process::exit,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// By convention 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

/// Takes the signals that ask a program to end.
pub(crate) struct Interrupt {
    status: Arc<AtomicI32>,
}

impl Interrupt {
    /// Must come before any other thread starts, so that all of them leave the signals to this one's thread.
    pub(crate) fn install() -> Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block().context("block the signals that end a program")?;
        let status = Arc::new(AtomicI32::new(INTERRUPTED));
        let exit_status = Arc::clone(&status);
        thread::spawn(move || {
            let _ = signals.wait();
            eprintln!("\nTaking the network down.");
            exit(exit_status.load(Ordering::Relaxed));
        });
        Ok(Self { status })
    }

    /// Sleeps until a signal ends the process, which then exits as if it had ended by itself.
    pub(crate) fn wait(&self, ok: bool) -> ! {
        self.status.store(i32::from(!ok), Ordering::Relaxed);
        loop {
            thread::park();
        }
    }
}
