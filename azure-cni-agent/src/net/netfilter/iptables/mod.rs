//! The legacy iptables, by getsockopt (include/uapi/linux/netfilter_ipv4/ip_tables.h, …_ipv6/ip6_tables.h).

mod dropping;
mod rules;
mod table;

pub use dropping::dropping_tables;
pub use rules::{sources, translated};
pub use table::{Mark, marks};
