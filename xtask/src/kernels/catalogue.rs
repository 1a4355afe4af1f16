//! Which kernels: a series, and where its packages are. Which build of it is taken is known only at run time, as archives drop old ones.

use crate::arch::Arch;

/// Where packages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Suites of Debian.
    Debian(&'static [&'static str]),
    /// A release of Ubuntu; its kernels for the platform's VMs.
    Ubuntu(&'static str),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Series {
    /// The first two numbers of a release; `newest` is the newest that Debian has. Behind them may stand what is different about it.
    pub(crate) name: &'static str,
    /// Of another page size than 4 KiB, as packages name it.
    pages: Option<&'static str>,
    pub(crate) source: Source,
    /// Who runs it.
    pub(crate) nodes: &'static str,
    /// On these it lacks what the programs need, and the agent says so.
    too_old_on: &'static [Arch],
    /// Parts of the names of tests that it cannot run.
    pub(crate) left_out: &'static [&'static str],
}

const fn series(name: &'static str, source: Source, nodes: &'static str) -> Series {
    Series { name, pages: None, source, nodes, too_old_on: &[], left_out: &[] }
}

impl Series {
    const fn too_old_on(self, too_old_on: &'static [Arch]) -> Self {
        Self { too_old_on, ..self }
    }

    const fn with_pages(self, pages: &'static str) -> Self {
        Self { pages: Some(pages), ..self }
    }

    const fn without(self, left_out: &'static [&'static str]) -> Self {
        Self { left_out, ..self }
    }
}

/// TCX is there from 6.6 on.
const TCX: &str = "through_tcx";

/// In ascending order.
pub(crate) static SERIES: &[Series] = &[
    series("5.10", Source::Debian(&["bullseye"]), "Debian 11").too_old_on(&[Arch::X86_64, Arch::Arm64]),
    // arm64 has the atomics from 5.18 on.
    series("5.15", Source::Ubuntu("jammy-updates"), "Ubuntu 22.04 of the platform").too_old_on(&[Arch::Arm64]).without(
        &[
            TCX,
            // Their packets say by which interface they came, which its BPF_PROG_TEST_RUN refuses.
            "packet_for_an_address_of_the_pool_that_no_pod_has_is_dropped_wherever",
            "packet_for_a_service_with_an_address_of_the_pool_goes_up_and_never_out_again",
            "pods_address_from_the_wire_does_not_reach_a_pod_through_the_stack",
            "host_agent_and_metadata_are_out_of_reach_through_a_service_that_is_masqueraded",
            "flow_between_pods_through_a_service_is_its_openers",
        ],
    ),
    series("6.1", Source::Debian(&["bookworm"]), "Debian 12").without(&[TCX]),
    // No suite is for it: bookworm-backports has gone on to 6.12. It is looked for in all that are read for the others.
    series("6.6", Source::Debian(&[]), "long-term kernel"),
    series("6.8", Source::Ubuntu("noble-updates"), "Ubuntu 24.04 of the platform"),
    series("6.8-64k", Source::Ubuntu("noble-updates"), "pages of 64 KiB").with_pages("generic-64k"),
    series("6.12", Source::Debian(&["trixie"]), "Debian 13"),
    series("6.12-16k", Source::Debian(&["trixie"]), "pages of 16 KiB").with_pages("arm64-16k"),
    series("6.18", Source::Debian(&["trixie-backports"]), "long-term kernel"),
    series("newest", Source::Debian(&["sid", "trixie-backports"]), "the newest of Debian"),
];

/// Those that a processor has.
pub(crate) fn series_of(arch: Arch) -> impl Iterator<Item = &'static Series> {
    SERIES.iter().filter(move |series| arch == Arch::Arm64 || series.pages.is_none())
}

/// The oldest that serves, and the newest.
pub(crate) fn ends_of(arch: Arch) -> impl Iterator<Item = &'static Series> {
    let mut serving = series_of(arch).filter(move |series| !series.is_too_old(arch));
    let oldest = serving.next();
    oldest.into_iter().chain(serving.last())
}

impl Series {
    pub(crate) fn is_too_old(&self, arch: Arch) -> bool {
        self.too_old_on.contains(&arch)
    }

    /// The newest build of the series among the packages of its source. `packages`: names such as
    /// `linux-image-6.1.0-56-cloud-amd64`; what is returned is without `linux-image-`.
    pub(crate) fn newest<'a>(&self, arch: Arch, packages: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        let flavour = match (self.pages, self.source) {
            (Some(pages), _) => format!("-{pages}"),
            (None, Source::Debian(_)) => format!("-cloud-{}", arch.debian()),
            (None, Source::Ubuntu(_)) => "-azure".to_owned(),
        };
        packages
            .filter_map(|package| package.strip_prefix("linux-image-"))
            .filter_map(|release| Some((release, release.strip_suffix(&flavour)?)))
            .filter(|(_, version)| self.has(version))
            .max_by_key(|(_, version)| numbers(version))
            .map(|(release, _)| release)
    }

    /// Metapackages have names without a third number.
    fn has(&self, version: &str) -> bool {
        let name = self.name.split('-').next().unwrap_or(self.name);
        numbers(version).len() > 2 && (name == "newest" || version.starts_with(&format!("{name}.")))
    }
}

/// Every number in order: what two builds of one flavour differ in.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|character: char| !character.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(name: &str, packages: &[&'static str]) -> Option<&'static str> {
        newest_of(Arch::X86_64, name, packages)
    }

    fn newest_of(arch: Arch, name: &str, packages: &[&'static str]) -> Option<&'static str> {
        series_of(arch).find(|series| series.name == name).unwrap().newest(arch, packages.iter().copied())
    }

    #[test]
    fn builds_are_compared_by_their_numbers_and_not_as_text() {
        let packages =
            ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-100-amd64"];
        assert_eq!(newest("6.1", &packages), Some("6.1.0-56-cloud-amd64"));
    }

    #[test]
    fn a_series_is_not_another_that_begins_alike() {
        let packages = ["linux-image-6.12.118+deb13-cloud-amd64", "linux-image-6.18.15+deb13-cloud-amd64"];
        assert_eq!(newest("6.1", &packages), None);
        assert_eq!(newest("6.12", &packages), Some("6.12.118+deb13-cloud-amd64"));
        assert_eq!(newest("newest", &packages), Some("6.18.15+deb13-cloud-amd64"));
    }

    #[test]
    fn names_that_stand_for_another_package_are_passed_over() {
        let packages =
            ["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64-unsigned"];
        assert_eq!((newest("6.12", &packages), newest("newest", &packages)), (None, None));
    }

    #[test]
    fn ubuntus_kernels_are_those_of_the_platform() {
        let packages =
            ["linux-image-5.15.0-200-generic", "linux-image-5.15.0-1127-azure", "linux-image-5.15.0-1127-azure-fde"];
        assert_eq!(newest("5.15", &packages), Some("5.15.0-1127-azure"));
    }

    #[test]
    fn arm64_has_kernels_of_its_own_and_one_with_other_pages() {
        let packages = [
            "linux-image-6.12.117+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-arm64",
            "linux-image-6.12.107+deb13-arm64-16k",
            "linux-image-6.12.117+deb13-arm64",
        ];
        let newest = |name| newest_of(Arch::Arm64, name, &packages);
        assert_eq!(newest("6.12"), Some("6.12.107+deb13-cloud-arm64"));
        assert_eq!(newest("6.12-16k"), Some("6.12.107+deb13-arm64-16k"));
        assert!(series_of(Arch::X86_64).all(|series| series.pages.is_none()));
    }

    #[test]
    fn arm64_with_pages_of_64_kib_is_ubuntus() {
        let packages = [
            "linux-image-6.8.0-1074-azure",
            "linux-image-6.8.0-9-generic-64k",
            "linux-image-6.8.0-101-generic-64k",
            "linux-image-6.8.0-102-generic",
            "linux-image-generic-64k",
        ];
        let newest = |name| newest_of(Arch::Arm64, name, &packages);
        assert_eq!(newest("6.8-64k"), Some("6.8.0-101-generic-64k"));
        assert_eq!(newest("6.8"), Some("6.8.0-1074-azure"));
    }

    #[test]
    fn a_series_without_a_suite_is_taken_from_wherever_it_is() {
        assert_eq!(newest("6.6", &["linux-image-6.1.0-50-cloud-amd64"]), None);
        assert_eq!(newest("6.6", &["linux-image-6.6.13+bpo-cloud-amd64"]), Some("6.6.13+bpo-cloud-amd64"));
    }

    #[test]
    fn the_ends_are_the_first_and_the_last_of_those_that_serve() {
        let ends = |arch| ends_of(arch).map(|series| series.name).collect::<Vec<_>>();
        assert_eq!(ends(Arch::X86_64), ["5.15", "newest"]);
        assert_eq!(ends(Arch::Arm64), ["6.1", "newest"]);
    }

    #[test]
    fn what_is_too_old_is_older_than_all_that_serve() {
        let too_old = |arch| series_of(arch).filter(move |series| series.is_too_old(arch)).map(|series| series.name);
        assert_eq!(too_old(Arch::X86_64).collect::<Vec<_>>(), ["5.10"]);
        assert_eq!(too_old(Arch::Arm64).collect::<Vec<_>>(), ["5.10", "5.15"]);
        for arch in [Arch::X86_64, Arch::Arm64] {
            assert!(series_of(arch).map(|series| series.is_too_old(arch)).is_sorted_by(|one, next| one >= next));
        }
    }
}
