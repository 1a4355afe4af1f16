//! The legacy iptables' FORWARD policies.

use std::io;

use super::super::policy::{Dropping, POD_INTERFACES};
use super::table::{FAMILIES, Family};

/// NF_INET_FORWARD.
const FORWARD: usize = 2;
/// The verdict of a policy: `-NF_DROP - 1`.
const DROP: i32 = -1;
/// `struct xt_entry_target`, before the verdict.
const TARGET_HEADER: usize = 32;

pub fn dropping_tables() -> io::Result<Vec<Dropping>> {
    let mut found = Vec::new();
    for family in &FAMILIES {
        found.extend(dropping(family)?);
    }
    Ok(found)
}

fn dropping(family: &Family) -> io::Result<Option<Dropping>> {
    let Some(table) = family.table("filter")? else { return Ok(None) };
    let drops = policy(&table.entries, table.info.underflow[FORWARD] as usize, family.offsets_at) == Some(DROP);
    Ok(drops.then(|| Dropping {
        chain: format!("FORWARD of {}", family.program),
        ipv4: family.is_ipv4,
        ipv6: !family.is_ipv4,
        names_pods: table.entries.windows(POD_INTERFACES.len()).any(|bytes| bytes == POD_INTERFACES),
    }))
}

/// The verdict of the entry at `underflow`, the last one of its chain.
fn policy(entries: &[u8], underflow: usize, offsets_at: usize) -> Option<i32> {
    let entry = entries.get(underflow..)?;
    let target = usize::from(u16::from_ne_bytes(entry.get(offsets_at..)?.get(..2)?.try_into().ok()?));
    let verdict = entry.get(target + TARGET_HEADER..)?.get(..4)?;
    Some(i32::from_ne_bytes(verdict.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_where_the_entry_says() {
        let mut entries = vec![0_u8; 300];
        entries[100 + 88..][..2].copy_from_slice(&112_u16.to_ne_bytes());
        entries[100 + 112 + TARGET_HEADER..][..4].copy_from_slice(&DROP.to_ne_bytes());
        assert_eq!(policy(&entries, 100, 88), Some(DROP));
        assert_eq!(policy(&entries, 290, 88), None, "cut short");
    }
}
