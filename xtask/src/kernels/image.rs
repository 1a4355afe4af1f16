//! What a guest finds in its memory: programs of this machine with their libraries, the tests, the sources that tests read, and the
//! modules of its kernel. Archives of the form that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst), one
//! behind the other.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{archive::Kernel, catalogue::Series, files, modules, step::Step};
use crate::{progress, workspace::Workspace};

/// What tests run. The names of iptables are one program, which reads the name it is called by.
const PROGRAMS: &[&str] = &[
    "ip",
    "tc",
    "nft",
    "iptables",
    "ip6tables",
    "iptables-legacy",
    "iptables-legacy-restore",
    "sysctl",
    "unshare",
    "iperf3",
    "mount",
];

/// What stands in for the rest, by busybox.
const BUSYBOX: &[&str] = &["sh", "modprobe", "poweroff", "cat", "echo", "mkdir", "sleep", "uname", "true"];

const INIT: &str = include_str!("init.sh");

pub(crate) struct Image {
    /// Programs, tests and sources.
    base: PathBuf,
    directory: PathBuf,
    /// Name and path of each test binary.
    tests: Vec<(String, PathBuf)>,
}

impl Image {
    pub(crate) fn build(workspace: &Workspace, directory: &Path) -> Result<Self> {
        let root = directory.join("root");
        files::fresh(&root)?;
        for folder in ["bin", "proc", "sys", "dev", "run", "tmp", "etc", "var"] {
            fs::create_dir_all(root.join(folder)).context("cannot create a folder of the image")?;
        }
        let mut taken = BTreeSet::new();
        for name in PROGRAMS {
            let path = find(name).with_context(|| format!("{name} is not installed: run `cargo xtask setup`"))?;
            take(&root, &path, &mut taken)?;
        }
        take(&root, &find("busybox").context("busybox is not installed")?, &mut taken)?;
        for name in BUSYBOX {
            let link = root.join("bin").join(name);
            if !link.exists() {
                symlink("/usr/bin/busybox", &link).with_context(|| format!("cannot link {name}"))?;
            }
        }
        let extensions = Path::new("/usr/lib/x86_64-linux-gnu/xtables");
        for extension in fs::read_dir(extensions).context("iptables has no extensions here")? {
            take(&root, &extension?.path(), &mut taken)?;
        }
        let tests = test_binaries(workspace)?;
        for (_, path) in &tests {
            take(&root, path, &mut taken)?;
            strip(workspace, &place(&root, path))?;
        }
        let binaries = workspace.target.join("xtask").join("bin");
        for name in ["azure-cni", "azure-cni-agent", "azure-cni-ctl"] {
            take(&root, &binaries.join(name), &mut taken)?;
            strip(workspace, &place(&root, &binaries.join(name)))?;
        }
        sources(workspace, &root)?;
        fs::write(root.join("init"), INIT).context("cannot write init")?;
        make_executable(&root.join("init"))?;
        let base = directory.join("base.cpio");
        files::pack(workspace, &root, &base)?;
        Ok(Self { base, directory: directory.to_owned(), tests })
    }

    /// The whole of what a kernel unpacks at its start.
    pub(crate) fn for_kernel(
        &self,
        workspace: &Workspace,
        series: &Series,
        kernel: &Kernel,
        steps: &[Step],
    ) -> Result<PathBuf> {
        let root = self.directory.join("modules");
        modules::take(workspace, kernel, &root)?;

        let left_out: String = series.left_out.iter().map(|name| format!(" --skip {name}")).collect();
        let lines: Vec<String> = steps
            .iter()
            .map(|step| {
                let (_, binary) = self.tests.iter().find(|(name, _)| name == step.binary).expect("both were built");
                let jit = u8::from(step.jit);
                format!("step '{}' {jit} {} {}{left_out}\n", step.name, binary.display(), step.arguments)
            })
            .collect();
        fs::write(root.join("steps"), lines.concat()).context("cannot write the steps")?;
        let variables = format!(
            "export AZURE_CNI_BIN_DIR='{}'\ncd '{}'\n",
            workspace.target.join("xtask").join("bin").display(),
            workspace.root.display()
        );
        fs::write(root.join("environment"), variables).context("cannot write the environment")?;

        let modules = self.directory.join("modules.cpio");
        files::pack(workspace, &root, &modules)?;
        let whole = self.directory.join(format!("{}.cpio", kernel.release));
        let parts = [&self.base, &modules].map(fs::read);
        let mut content = Vec::new();
        for part in parts {
            content.extend(part.context("cannot read a part of the image")?);
        }
        fs::write(&whole, content).with_context(|| format!("cannot write {}", whole.display()))?;
        Ok(whole)
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    // Administration programs are not in everyone's PATH.
    std::env::split_paths(&folders)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Where a file of this machine lies in the image: at the same place.
fn place(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Copies a file, what its name links to, and the libraries that it needs.
fn take(root: &Path, path: &Path, taken: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !taken.insert(path.to_owned()) {
        return Ok(());
    }
    files::copy(path, &place(root, path))?;
    let libraries = Command::new("ldd").arg(path).stderr(Stdio::null()).output().context("cannot run ldd")?;
    for library in libraries_in(&String::from_utf8_lossy(&libraries.stdout)) {
        take(root, &library, taken)?;
    }
    Ok(())
}

/// Of what ldd prints: `name => /path (address)`, or `/path (address)` of the loader.
fn libraries_in(answer: &str) -> Vec<PathBuf> {
    answer
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

fn strip(workspace: &Workspace, binary: &Path) -> Result<()> {
    let mut strip = workspace.command("strip");
    strip.arg("--strip-debug").arg(binary);
    progress::run("strip", strip, None)
}

/// Tests read sources and documents of the checkout.
fn sources(workspace: &Workspace, root: &Path) -> Result<()> {
    let files = workspace.command("git").args(["ls-files", "-z"]).output().context("cannot run git")?;
    ensure!(files.status.success(), "git knows no files here: {}", String::from_utf8_lossy(&files.stderr));
    let names = String::from_utf8_lossy(&files.stdout).into_owned();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let from = workspace.root.join(name);
        if from.is_file() {
            files::copy(&from, &place(root, &from))?;
        }
    }
    Ok(())
}

/// The test binaries that cargo has built, by the name of their target.
fn test_binaries(workspace: &Workspace) -> Result<Vec<(String, PathBuf)>> {
    let mut build = workspace.cargo();
    build.args([
        "test",
        "--release",
        "--workspace",
        "--exclude",
        crate::build_ebpf::PACKAGE,
        "--no-run",
        "--bins",
        "--tests",
    ]);
    let answer = build.output().context("cannot run cargo")?;
    ensure!(answer.status.success(), "the tests do not build: {}", String::from_utf8_lossy(&answer.stderr));
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    ["programs", "system"]
        .into_iter()
        .map(|name| {
            let path = executable(&said, name).with_context(|| format!("cargo names no test binary {name}"))?;
            Ok((name.to_owned(), workspace.root.join(path)))
        })
        .collect()
}

/// Of `Executable tests/main.rs (target/release/deps/NAME-HASH)`.
fn executable<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let paths =
        said.lines().filter_map(|line| line.trim().strip_prefix("Executable")?.rsplit_once('(')?.1.strip_suffix(')'));
    paths.into_iter().find(|path| {
        let file = path.rsplit_once('/').map_or(*path, |(_, file)| file);
        file.rsplit_once('-').is_some_and(|(stem, _)| stem == name)
    })
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context("cannot make init executable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_every_form_of_line() {
        let answer = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld.so (0x7f)\n";
        assert_eq!(libraries_in(answer), ["/lib/libc.so.6", "/lib64/ld.so"].map(PathBuf::from));
        assert_eq!(libraries_in("\tnot a dynamic executable\n"), Vec::<PathBuf>::new());
    }

    #[test]
    fn test_binary_is_found_by_the_name_of_its_target() {
        let said = "  Executable unittests src/lib.rs (target/release/deps/programs_of-1a)\n  Executable tests/main.rs (target/release/deps/programs-2b)\n";
        assert_eq!(executable(said, "programs"), Some("target/release/deps/programs-2b"));
        assert_eq!(executable(said, "system"), None);
    }
}
