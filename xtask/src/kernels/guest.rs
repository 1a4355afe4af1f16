//! One boot: a kernel and its image in an emulator without a network, whose console says how the steps end.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    archive::Kernel,
    catalogue::Series,
    console::{Console, Outcome},
    image::Image,
    step::Step,
};
use crate::workspace::Workspace;

/// How long the console may be silent: no test and no boot takes longer in the emulator.
const SILENCE: Duration = Duration::from_secs(900);
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

pub(crate) struct Guest<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) image: &'a Image,
    pub(crate) series: &'a Series,
    pub(crate) kernel: &'a Kernel,
}

/// The emulator, which ends with us.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guest<'_> {
    pub(crate) fn run(&self, steps: &[Step]) -> Result<Outcome> {
        let release = &self.kernel.release;
        eprintln!("==> {release}");
        let image = self.image.for_kernel(self.workspace, self.series, self.kernel, steps)?;
        let log = image.with_extension("log");
        let mut emulator = self.emulator(&image)?;
        let output = emulator.0.stdout.take().context("the emulator has no console")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    break;
                }
                line.clear();
            }
        });
        let mut file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut console = Console::default();
        let mut spoke = Instant::now();
        while let Ok(line) = lines.recv_timeout(SILENCE) {
            writeln!(file, "{line}").context("cannot write the log")?;
            console.read(&line);
            if spoke.elapsed() > SIGN_OF_LIFE {
                eprintln!("    {console}");
                spoke = Instant::now();
            }
        }
        drop(emulator);
        fs::remove_file(&image).context("cannot remove the image")?;
        if !console.has_begun() {
            bail!("it did not come up; what it printed is in {}", log.display());
        }
        Ok(console.outcome(release, steps))
    }

    fn emulator(&self, image: &std::path::Path) -> Result<Emulator> {
        let mut emulator = self.workspace.command("qemu-system-x86_64");
        emulator.args("-accel tcg,thread=multi -cpu max -smp 2 -m 3G -nographic -no-reboot -nic none".split(' '));
        emulator.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(image);
        emulator.args(["-append", "console=ttyS0 quiet panic=-1"]);
        let child = emulator.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        Ok(Emulator(child.context("cannot run qemu-system-x86_64")?))
    }
}
