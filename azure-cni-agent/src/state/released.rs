//! When addresses were released, and which file says so.
//!
//! The rule: of an address the latest release counts alone, and none while an attachment has it. A file that is the last
//! word on no address is of no use, so there are never more of them than addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Release {
    /// Since boot.
    at: Duration,
    file: String,
}

#[derive(Debug, Default)]
pub struct Released(BTreeMap<IpAddr, Release>);

impl Released {
    /// Takes over what a file says. The files that are of no use now, this one perhaps among them.
    pub fn insert(&mut self, addresses: &[IpAddr], at: Duration, file: &str) -> Vec<String> {
        let mut touched = vec![file.to_owned()];
        for address in addresses {
            if self.0.get(address).is_none_or(|earlier| earlier.at <= at) {
                let earlier = self.0.insert(*address, Release { at, file: file.to_owned() });
                touched.extend(earlier.map(|earlier| earlier.file));
            }
        }
        self.unused(touched)
    }

    /// An attachment has these addresses. The files that are of no use now.
    pub fn take(&mut self, addresses: &[IpAddr]) -> Vec<String> {
        let touched = addresses.iter().filter_map(|address| self.0.remove(address)).map(|release| release.file);
        let touched = touched.collect();
        self.unused(touched)
    }

    /// Addresses that were released at that time since boot or later, with when it was.
    pub fn since(&self, time: Duration) -> Vec<(IpAddr, Duration)> {
        self.0
            .iter()
            .filter(|(_, release)| release.at >= time)
            .map(|(address, release)| (*address, release.at))
            .collect()
    }

    fn unused(&self, mut files: Vec<String>) -> Vec<String> {
        files.sort();
        files.dedup();
        files.retain(|file| self.0.values().all(|release| release.file != *file));
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_latest_release_of_an_address_counts_in_whatever_order_files_are_read() {
        let mut released = Released::default();
        assert_eq!(released.insert(&[ip(1)], at(5), "later"), [""; 0]);
        assert_eq!(released.insert(&[ip(1)], at(4), "earlier"), ["earlier"]);
        assert_eq!(released.insert(&[ip(1)], at(6), "latest"), ["later"]);
        assert_eq!(released.since(at(6)), [(ip(1), at(6))]);
        assert_eq!(released.since(at(7)), []);
    }

    #[test]
    fn a_file_is_kept_as_long_as_it_is_the_last_word_on_any_address() {
        let mut released = Released::default();
        assert_eq!(released.insert(&[ip(1), ip(2)], at(1), "both"), [""; 0]);
        assert_eq!(released.take(&[ip(1)]), [""; 0]);
        assert_eq!(released.since(at(0)), [(ip(2), at(1))]);
        assert_eq!(released.insert(&[ip(2), ip(3)], at(2), "next"), ["both"]);
        assert_eq!(released.take(&[ip(2), ip(3)]), ["next"]);
        assert_eq!(released.take(&[ip(2)]), [""; 0]);
    }
}
