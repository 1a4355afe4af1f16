//! What a compiler says about itself, and whether it suits us.
//!
//! bpf-linker reads the compiler's bitcode with its own LLVM, which must not be older than the compiler's.

use std::{fmt, str::FromStr};

/// The LLVM that `setup` builds bpf-linker with.
pub(crate) const LINKER_LLVM: u32 = 22;

/// `rust-version` of the workspace.
pub(crate) const OLDEST_RUST: Version = Version { major: 1, minor: 95 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl FromStr for Version {
    type Err = ();

    /// Reads the first two numbers of `1.97.0-nightly` or of a package's `1.96.0+dfsg1-1~deb12u2`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('.');
        let mut number = || numbers.next().and_then(|number| number.parse().ok()).ok_or(());
        Ok(Self { major: number()?, minor: number()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    pub(crate) version: Version,
    pub(crate) nightly: bool,
    pub(crate) llvm: u32,
    /// The whole answer, which names one build of one compiler.
    pub(crate) identity: String,
}

impl Compiler {
    /// Reads the answer to `rustc -vV`.
    pub(crate) fn parse(answer: &str) -> Option<Self> {
        let field = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let release = field("release")?;
        Some(Self {
            version: release.parse().ok()?,
            nightly: release.ends_with("-nightly"),
            llvm: field("LLVM version")?.split('.').next()?.parse().ok()?,
            identity: answer.to_owned(),
        })
    }

    pub(crate) fn suits(&self) -> bool {
        self.version >= OLDEST_RUST && self.llvm <= LINKER_LLVM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHTLY: &str = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\ncommit-hash: e50aa6fba\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";

    #[test]
    fn a_compiler_is_read_from_its_own_output() {
        let compiler = Compiler::parse(NIGHTLY).unwrap();
        assert_eq!(compiler.version, Version { major: 1, minor: 97 });
        assert_eq!((compiler.nightly, compiler.llvm), (true, 22));
        assert!(!Compiler::parse(&NIGHTLY.replace("-nightly", "")).unwrap().nightly);
        assert_eq!(Compiler::parse("error: no such toolchain"), None);
    }

    #[test]
    fn a_compiler_suits_when_new_enough_and_its_llvm_is_not_beyond_the_linkers() {
        for (release, llvm, suits) in [
            ("1.97.0-nightly", "22.1.4", true),
            ("1.95.0", "21.1.0", true),
            ("1.94.1", "21.1.0", false),
            ("1.99.0-nightly", "23.1.0", false),
        ] {
            let answer = format!("release: {release}\nLLVM version: {llvm}\n");
            assert_eq!(Compiler::parse(&answer).unwrap().suits(), suits, "{answer}");
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!("1.100.0".parse::<Version>() > "1.96.0+dfsg1-1~deb12u2".parse::<Version>());
        assert!("1".parse::<Version>().is_err());
        assert!("(none)".parse::<Version>().is_err());
    }
}
