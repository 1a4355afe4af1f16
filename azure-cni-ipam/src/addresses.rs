//! The address of each family that a pod or the VM has.
//!
//! The rule: there is always an IPv4 address, and IPv6 is optional. IPv4 comes first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub v4: Ipv4Addr,
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// The first address of each family; `None` without an IPv4 address.
    pub fn first_of_each(listed: impl IntoIterator<Item = IpAddr>) -> Option<Self> {
        let (mut first4, mut first6) = (None, None);
        for address in listed {
            match address {
                IpAddr::V4(address) => first4 = first4.or(Some(address)),
                IpAddr::V6(address) => first6 = first6.or(Some(address)),
            }
        }
        first4.map(|v4| Self { v4, v6: first6 })
    }

    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        [Some(IpAddr::V4(self.v4)), self.v6.map(IpAddr::V6)].into_iter().flatten()
    }

    /// The address of the same family as `other`.
    pub fn same_family(&self, other: IpAddr) -> Option<IpAddr> {
        match other {
            IpAddr::V4(_) => Some(self.v4.into()),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_of_each_family_counts_and_ipv4_comes_first() {
        let listed = ["fd00::5", "10.1.0.5", "fd00::6", "10.1.0.6"].map(ip);
        let both = Addresses::first_of_each(listed).unwrap();
        assert_eq!(both.iter().collect::<Vec<_>>(), [ip("10.1.0.5"), ip("fd00::5")]);
        assert_eq!(both.same_family(ip("10.9.9.9")), Some(ip("10.1.0.5")));
        assert_eq!(both.same_family(ip("fd99::9")), Some(ip("fd00::5")));
    }

    #[test]
    fn ipv6_may_be_missing_and_ipv4_may_not() {
        let alone = Addresses::first_of_each([ip("10.1.0.5")]).unwrap();
        assert_eq!(alone.iter().collect::<Vec<_>>(), [ip("10.1.0.5")]);
        assert_eq!(alone.same_family(ip("fd99::9")), None);
        assert_eq!(Addresses::first_of_each([ip("fd00::5")]), None);
        assert_eq!(Addresses::first_of_each([]), None);
    }
}
