//! Kernels out of the archives of Debian and Ubuntu, by an apt with lists of its own: the machine's are not touched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    catalogue::{Series, Source, series_of},
    files,
};
use crate::{arch::Arch, progress, workspace::Workspace};

/// An option of a line of sources.list.
const TRUSTED: &str = "[trusted=yes] ";

const DEBIAN: &str = "http://deb.debian.org/debian";

/// Where a Debian has the keys of its archive.
const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Ubuntu's own archives; machines that run Debian have none in their lists.
fn ubuntu(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "http://archive.ubuntu.com/ubuntu",
        Arch::Arm64 => "http://ports.ubuntu.com/ubuntu-ports",
    }
}

/// A kernel that was unpacked.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Such as `6.1.0-56-cloud-amd64`.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// `lib/modules/RELEASE` of its packages.
    pub(crate) modules: PathBuf,
}

pub(crate) struct Archive<'a> {
    workspace: &'a Workspace,
    directory: PathBuf,
    arch: Arch,
    /// Names of the packages on offer, a line each.
    packages: String,
}

impl<'a> Archive<'a> {
    /// Reads the lists of all series. A source out of reach has none.
    pub(crate) fn open(workspace: &'a Workspace, arch: Arch, directory: &Path) -> Result<Self> {
        let apt = directory.join("apt");
        for part in ["lists/partial", "cache/archives/partial", "etc"] {
            fs::create_dir_all(apt.join(part)).context("cannot create apt's folders")?;
        }
        let mut archive = Self { workspace, directory: directory.to_owned(), arch, packages: String::new() };
        let sources = sources(&archive.mirror()?, arch);
        write(&apt.join("sources.list"), &sources)?;
        write(&apt.join("status"), "")?;
        write(&apt.join("apt.conf"), &configuration(&apt, arch))?;
        let mut update = archive.apt("apt-get");
        update.args(["update", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20"]);
        progress::run("package lists of kernels", update, None)?;
        let names = archive.apt("apt-cache").args(["pkgnames", "linux-"]).output().context("cannot run apt-cache")?;
        archive.packages = String::from_utf8_lossy(&names.stdout).into_owned();
        Ok(archive)
    }

    /// Fetches and unpacks the newest kernel of a series, unless it is there already. None: no archive has one.
    pub(crate) fn fetch(&self, series: &Series) -> Result<Option<Kernel>> {
        let Some(release) = series.newest(self.arch, self.packages.lines()) else { return Ok(None) };
        let root = self.directory.join(release);
        if !root.is_dir() {
            let unfinished = self.directory.join("unfinished");
            let _ = fs::remove_dir_all(&unfinished);
            fs::create_dir_all(&unfinished).context("cannot create a folder")?;
            // Some distributions have the image, its modules and its binary in one package, some in three.
            let names = ["linux-image", "linux-modules", "linux-binary"].map(|kind| format!("{kind}-{release}"));
            let names = names.iter().filter(|name| self.packages.lines().any(|line| line == **name));
            let mut download = self.apt("apt-get");
            download.arg("download").args(names).current_dir(&unfinished);
            progress::run(&format!("kernel {release}"), download, None)?;
            let packages = fs::read_dir(&unfinished)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
            files::unpack(self.workspace, &packages, &unfinished)?;
            packages.iter().try_for_each(fs::remove_file)?;
            fs::rename(&unfinished, &root).context("cannot rename a folder")?;
        }
        let first = |places: [PathBuf; 2], what: &str| {
            places.into_iter().find(|path| path.exists()).with_context(|| format!("{release} has no {what}"))
        };
        let modules = ["lib", "usr/lib"].map(|lib| root.join(lib).join("modules").join(release));
        let modules = first(modules, "modules")?;
        let image = first([root.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")], "image")?;
        Ok(Some(Kernel { release: release.to_owned(), image, modules }))
    }

    /// Downloads packages of a suite of Debian, and all that they need. Returns where they are.
    pub(crate) fn download(&self, suite: &str, names: &[&str]) -> Result<Vec<PathBuf>> {
        let install = |more: &[&str]| {
            let mut install = self.apt("apt-get");
            install.args(["install", "--yes", "--no-install-recommends", "--target-release", suite]);
            install.args(more).args(names);
            install
        };
        let archives = self.directory.join("apt/cache/archives");
        // As if nothing had been downloaded yet: apt names only what it would fetch.
        let listed = install(&["--print-uris", "--quiet=2", "-o", "Dir::Cache::archives=none/"]).output();
        let listed = listed.context("cannot run apt-get")?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        progress::run("programs for guests", install(&["--download-only"]), None)?;
        let paths: Vec<_> = listed.lines().filter_map(file_of_uri).map(|name| archives.join(name)).collect();
        ensure!(!paths.is_empty(), "apt names no packages of {suite} for guests");
        Ok(paths)
    }

    /// Where this machine has Debian's packages from; on Ubuntu, Debian's own archive.
    fn mirror(&self) -> Result<String> {
        let mut targets = self.workspace.command("apt-get");
        targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
        let answer = targets.output().context("cannot run apt-get")?;
        let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
        Ok(answer.lines().find(|line| line.ends_with("/debian/")).unwrap_or(DEBIAN).to_owned())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = self.workspace.command(program);
        command.env("APT_CONFIG", self.directory.join("apt").join("apt.conf")).env("LC_ALL", "C");
        command
    }
}

/// Ubuntu's keys are in no package of Debian, and Debian's are not on every Ubuntu: what comes from there is not verified. It is
/// unpacked, and runs in an emulator alone, which has no network.
fn sources(mirror: &str, arch: Arch) -> String {
    let mut lines = String::new();
    let debian = if Path::new(DEBIAN_KEYS).exists() { "" } else { TRUSTED };
    for series in series_of(arch) {
        let (trust, archive, suites) = match &series.source {
            Source::Debian(suites) => (debian, mirror, *suites),
            Source::Ubuntu(suite) => (TRUSTED, ubuntu(arch), std::slice::from_ref(suite)),
        };
        for suite in suites {
            let line = format!("deb {trust}{archive} {suite} main\n");
            // Two series may share a suite, and apt complains of a line that comes twice.
            if !lines.contains(&line) {
                lines.push_str(&line);
            }
        }
    }
    lines
}

fn configuration(apt: &Path, arch: Arch) -> String {
    let (apt, arch) = (apt.display(), arch.debian());
    format!(
        "Dir::State \"{apt}\";\nDir::State::status \"{apt}/status\";\nDir::State::lists \"{apt}/lists\";\n\
         Dir::Cache \"{apt}/cache\";\nDir::Etc::sourcelist \"{apt}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
         APT::Architecture \"{arch}\";\nAPT::Architectures {{\"{arch}\";}};\nAPT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
    )
}

/// Of `'URI' FILE SIZE HASH`.
fn file_of_uri(line: &str) -> Option<&str> {
    line.strip_prefix('\'')?.split_whitespace().nth(1)
}

fn write(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
