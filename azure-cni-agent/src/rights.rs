//! The capabilities that the agent needs, beside being root: in a container even root may lack some.
//!
//! The rule: what is missing is said at the start and by name. The kernel says of each only that something is not permitted, or that a
//! program is not.

use std::io;

/// Numbers as in include/uapi/linux/capability.h. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON, and is needed beside them: to enter
/// pods' namespaces, and to look at programs of others.
const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// Those of the calling thread that are missing (proc_pid_status(5), `CapEff`).
pub fn missing() -> io::Result<Vec<&'static str>> {
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    missing_of(&status).ok_or_else(|| io::Error::other("/proc/thread-self/status has no CapEff"))
}

fn missing_of(status: &str) -> Option<Vec<&'static str>> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    Some(NEEDED.iter().filter(|(number, _)| effective & 1 << number == 0).map(|(_, name)| *name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_that_is_missing_is_named() {
        let of = |effective: &str| missing_of(&format!("Name:\tx\nCapPrm:\t0\nCapEff:\t{effective}\nCapBnd:\t0\n"));
        assert_eq!(of("000001ffffffffff").unwrap(), [""; 0]);
        assert_eq!(of("0000000000201000").unwrap(), [""; 0]);
        assert_eq!(of("0000000000200000").unwrap(), ["CAP_NET_ADMIN"]);
        // What a container has by default.
        assert_eq!(of("00000000a80425fb").unwrap(), ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
        assert_eq!((missing_of(""), of("none")), (None, None));
    }
}
