//! What a guest finds in its memory: programs with their libraries, the tests, the sources that tests read, and the
//! modules of its kernel. Archives of the form that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst), one
//! behind the other.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    archive::{Archive, Kernel},
    catalogue::Series,
    files, modules,
    step::Step,
    userland,
};
use crate::{arch::Arch, progress, workspace::Workspace};

/// The folder of the images of guests that run.
const GUESTS: &str = "guests";

const INIT: &str = include_str!("init.sh");

pub(crate) struct Image {
    pub(super) arch: Arch,
    /// The programs around the tests; then the tests, the binaries and the sources.
    parts: [PathBuf; 2],
    pub(super) directory: PathBuf,
    /// Name and path of each test binary.
    tests: Vec<(String, PathBuf)>,
}

impl Image {
    pub(crate) fn build(workspace: &Workspace, arch: Arch, archive: &Archive<'_>, directory: &Path) -> Result<Self> {
        let userland = userland::build(workspace, archive, directory)?;
        // A run that was killed has left its own there.
        files::fresh(&directory.join(GUESTS))?;
        let root = directory.join("root");
        files::fresh(&root)?;
        let tests = test_binaries(workspace, arch)?;
        let binaries = binaries_dir(workspace, arch);
        let ours = ["azure-cni", "azure-cni-agent", "azure-cni-ctl"].map(|name| binaries.join(name));
        for path in tests.iter().map(|(_, path)| path).chain(&ours) {
            files::copy(path, &place(&root, path))?;
            let mut strip = workspace.command(arch.tool("strip"));
            strip.arg("--strip-debug").arg(place(&root, path));
            progress::run("strip", strip, None)?;
        }
        sources(workspace, &root)?;
        fs::write(root.join("init"), INIT).context("cannot write init")?;
        make_executable(&root.join("init"))?;
        let programs = directory.join("programs.cpio");
        files::pack(workspace, &root, &programs)?;
        Ok(Self { arch, parts: [userland, programs], directory: directory.to_owned(), tests })
    }

    /// The whole of what a kernel unpacks at its start. Guests that run beside each other have nothing in common here.
    pub(crate) fn for_kernel(
        &self,
        workspace: &Workspace,
        series: &Series,
        kernel: &Kernel,
        steps: &[Step],
    ) -> Result<GuestImage> {
        let image = GuestImage::new(&self.directory, &kernel.release)?;
        let root = image.0.join("modules");
        modules::take(workspace, kernel, &root)?;

        let left_out: String = series.left_out.iter().map(|name| format!(" --skip {name}")).collect();
        let lines: Vec<String> = steps
            .iter()
            .map(|step| {
                let (_, binary) = self.tests.iter().find(|(name, _)| name == step.binary).expect("both were built");
                let (jit, lacks) = (u8::from(step.jit), step.lacks.unwrap_or("none"));
                format!("step '{}' {jit} {lacks} {} {}{left_out}\n", step.name, binary.display(), step.arguments)
            })
            .collect();
        fs::write(root.join("steps"), lines.concat()).context("cannot write the steps")?;
        let variables = format!(
            "export AZURE_CNI_BIN_DIR='{}'\ncd '{}'\n",
            binaries_dir(workspace, self.arch).display(),
            workspace.root.display()
        );
        fs::write(root.join("environment"), variables).context("cannot write the environment")?;

        let modules = image.0.join("modules.cpio");
        files::pack(workspace, &root, &modules)?;
        let mut whole = File::create(image.path()).context("cannot write the image")?;
        for part in self.parts.iter().chain([&modules]) {
            let mut part = File::open(part).with_context(|| format!("cannot read {}", part.display()))?;
            io::copy(&mut part, &mut whole).context("cannot write the image")?;
        }
        Ok(image)
    }
}

/// The folder of a guest's image, which goes when this does: an image has more than 100 MB.
pub(super) struct GuestImage(PathBuf);

impl GuestImage {
    fn new(directory: &Path, release: &str) -> Result<Self> {
        let image = Self(directory.join(GUESTS).join(release));
        files::fresh(&image.0)?;
        Ok(image)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.join("image.cpio")
    }
}

impl Drop for GuestImage {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("    cannot remove {}: {error}", self.0.display());
        }
    }
}

/// What users install, as the tests have it.
fn binaries_dir(workspace: &Workspace, arch: Arch) -> PathBuf {
    arch.target(workspace).join("xtask/bin")
}

/// Where a file of this machine lies in the image: at the same place.
fn place(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
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
fn test_binaries(workspace: &Workspace, arch: Arch) -> Result<Vec<(String, PathBuf)>> {
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
    arch.configure(&mut build);
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
    use crate::{arch::NATIVE, kernels::catalogue::series_of};

    #[test]
    fn test_binary_is_found_by_the_name_of_its_target() {
        let said = "  Executable unittests src/lib.rs (target/release/deps/programs_of-1a)\n  Executable tests/main.rs (target/release/deps/programs-2b)\n";
        assert_eq!(executable(said, "programs"), Some("target/release/deps/programs-2b"));
        assert_eq!(executable(said, "system"), None);
    }

    /// An agent that starts on a node finds none loaded either.
    #[test]
    fn guest_loads_no_module_for_the_agent() {
        let commands = INIT.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(commands.filter(|line| line.contains("modprobe") || line.contains("insmod")).count(), 0);
    }

    fn of_kernel(release: &str, directory: &Path) -> (Image, Kernel) {
        let nowhere = directory.join("nowhere");
        let kernel = Kernel { release: release.to_owned(), image: nowhere.clone(), modules: nowhere.clone() };
        let parts = [nowhere.clone(), nowhere];
        (Image { arch: NATIVE, parts, directory: directory.to_owned(), tests: Vec::new() }, kernel)
    }

    #[test]
    fn image_that_cannot_be_packed_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (image, kernel) = of_kernel("6.1.0-50", directory.path());
        let workspace = Workspace::find().unwrap();
        let series = series_of(NATIVE).next().unwrap();
        assert!(image.for_kernel(&workspace, series, &kernel, &[]).is_err());
        assert_eq!(fs::read_dir(directory.path().join(GUESTS)).unwrap().count(), 0);
    }

    #[test]
    fn guests_have_folders_of_their_own_as_long_as_they_run() {
        let directory = tempfile::tempdir().unwrap();
        let one = GuestImage::new(directory.path(), "6.1.0-50").unwrap();
        fs::write(one.path(), "one").unwrap();
        let other = GuestImage::new(directory.path(), "6.12.117").unwrap();
        fs::write(other.path(), "other").unwrap();
        assert_eq!(fs::read(one.path()).unwrap(), b"one");
        drop(one);
        assert_eq!(fs::read(other.path()).unwrap(), b"other");
        drop(other);
        assert_eq!(fs::read_dir(directory.path().join(GUESTS)).unwrap().count(), 0);
    }
}
