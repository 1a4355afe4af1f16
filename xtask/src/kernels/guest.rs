//! One boot: a kernel and its image in an emulator without a network, whose console says how the steps end.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    archive::Kernel,
    catalogue::Series,
    console::{Console, Outcome},
    emulator::Emulator,
    image::Image,
    step::Step,
};
use crate::{arch::Arch, workspace::Workspace};

/// How long the console may be silent: no test and no boot takes longer in the emulator.
const SILENCE: Duration = Duration::from_secs(900);
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// A guest that has yet to boot.
pub(crate) struct Guest<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) arch: Arch,
    pub(crate) series: &'static Series,
    pub(crate) kernel: Kernel,
    pub(crate) steps: &'static [Step],
    pub(crate) image: &'a Image,
}

impl Guest<'_> {
    /// The emulator ends with the thread that calls this, at the latest.
    pub(crate) fn run(&self) -> Result<Outcome> {
        let release = &self.kernel.release;
        eprintln!("==> {release}");
        let log = self.image.directory.join(format!("{release}.log"));
        let image = self.image.for_kernel(self.workspace, self.series, &self.kernel, self.steps)?;
        let mut emulator = self.emulator(&image.path())?;
        let output = emulator.console().context("the emulator has no console")?;
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
                eprintln!("    {release}: {console}");
                spoke = Instant::now();
            }
        }
        if !console.has_begun() {
            bail!("it did not come up; what it printed is in {}", log.display());
        }
        Ok(console.outcome(release, self.steps))
    }

    fn emulator(&self, image: &Path) -> Result<Emulator> {
        // Without what costs an emulator time: string instructions, which it does byte by byte and which kernels take for every copy if
        // the processor says that they are fast; a fifth level of page tables; signed pointers, which its own arm64 processor has and the
        // platform's VMs do not.
        let (program, machine, console) = match self.arch {
            Arch::X86_64 => ("qemu-system-x86_64", "-cpu max,-erms,-fsrm,-la57", "ttyS0"),
            Arch::Arm64 => ("qemu-system-aarch64", "-machine virt -cpu neoverse-n1", "ttyAMA0"),
        };
        let mut emulator = self.workspace.command(program);
        emulator.args(machine.split(' '));
        emulator.args("-accel tcg,thread=multi -smp 2 -m 3G -nographic -no-reboot -nic none".split(' '));
        emulator.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(image);
        emulator.args(["-append", &format!("console={console} quiet panic=-1")]);
        Emulator::start(emulator).with_context(|| format!("cannot run {program}"))
    }
}
