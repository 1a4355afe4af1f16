//! The destinations that the legacy iptables' rules translate: the nat table's PREROUTING, and what it leads to.

use std::collections::BTreeSet;
use std::io;

use ipnet::IpNet;

use super::super::destinations::{Destination, Rule, RulesError, Ruleset, destinations};
use super::super::prefixes::{AddressBytes, length_of, matched, with_bits};
use super::super::xtables;
use super::table::{FAMILIES, Family, Table};

/// NF_INET_PRE_ROUTING.
const PREROUTING: usize = 0;
/// `struct xt_entry_match` and `struct xt_entry_target` begin alike: size, name, revision.
const HEADER: usize = 32;
const NAME_AT: usize = 2;
/// IPT_INV_DSTIP, IP6T_INV_DSTIP.
const INVERTED_DESTINATION: u8 = 0x10;
/// IPT_INV_SRCIP, IP6T_INV_SRCIP.
const INVERTED_SOURCE: u8 = 0x08;
/// The verdict `-NF_DROP - 1`; those of accept and return are no action.
const DROP: i32 = -1;

pub fn translated(found: &mut BTreeSet<IpNet>) -> Result<(), RulesError> {
    for family in &FAMILIES {
        let Some(table) = family.table("nat")? else { continue };
        let root = table.info.hook_entry[PREROUTING];
        destinations(&mut Entries { family, table }, vec![root], found)?;
    }
    Ok(())
}

/// Calls `visit` with the source of each rule that leads somewhere, of the chains whose name is one of these.
pub fn sources(is_of_these: impl Fn(&[u8]) -> bool, mut visit: impl FnMut(IpNet)) -> io::Result<()> {
    for family in &FAMILIES {
        let Some(Table { entries, .. }) = family.table("nat")? else { continue };
        let (mut at, mut chain) = (0, &[][..]);
        while let Some(bytes) = entries.get(at..).filter(|bytes| !bytes.is_empty()) {
            let entry = Entry { family, bytes };
            let (Some(next), Some(target)) = (entry.next_offset(), entry.target()) else { break };
            // An entry with the name of a chain comes before its rules.
            if name(target) == Some(b"ERROR") {
                chain =
                    target.get(HEADER..).and_then(|named| named.split(|byte| *byte == 0).next()).unwrap_or_default();
            }
            let source = entry.address(0, 2, INVERTED_SOURCE).flatten();
            let source = source.map(|(value, mask)| with_bits(!family.is_ipv4, &value, &mask));
            let leads = entry.verdict().is_some_and(|verdict| verdict >= 0);
            if let Some(source) = source.filter(|_| leads && is_of_these(chain)) {
                visit(source);
            }
            at += next;
        }
    }
    Ok(())
}

struct Entries<'a> {
    family: &'a Family,
    table: Table,
}

impl Ruleset for Entries<'_> {
    /// The offset of its first entry.
    type Chain = u32;

    fn rules(&mut self, chain: &u32) -> Result<Vec<Rule<u32>>, RulesError> {
        let mut rules = Vec::new();
        let mut at = *chain as usize;
        while let Some(entry) = self.table.entries.get(at..).filter(|entry| !entry.is_empty()) {
            let entry = Entry { family: self.family, bytes: entry };
            let broken =
                || io::Error::new(io::ErrorKind::InvalidData, "an entry of iptables does not end where it should");
            let next = entry.next_offset().ok_or_else(broken)?;
            let mut rule = entry.rule().ok_or_else(broken)?;
            // A rule without a target "jumps" to the next one.
            rule.chains.retain(|chain| *chain as usize != at + next);
            rules.push(rule);
            if entry.is_last() {
                break;
            }
            at += next;
        }
        Ok(rules)
    }
}

/// One that a rule has besides addresses, interfaces and protocol.
struct Match<'a> {
    name: &'a [u8],
    revision: u32,
    /// What its own program has written.
    told: &'a [u8],
}

struct Entry<'a> {
    family: &'a Family,
    bytes: &'a [u8],
}

impl<'a> Entry<'a> {
    fn offset(&self, at: usize) -> Option<usize> {
        Some(usize::from(u16::from_ne_bytes(*self.bytes.get(self.family.offsets_at + at..)?.first_chunk()?)))
    }

    fn next_offset(&self) -> Option<usize> {
        self.offset(2).filter(|next| *next > self.family.matches_at)
    }

    fn target(&self) -> Option<&'a [u8]> {
        self.bytes.get(self.offset(0)?..self.offset(2)?)
    }

    /// Of a standard target: negative, or the offset of a chain.
    fn verdict(&self) -> Option<i32> {
        let target = self.target()?;
        name(target)?.is_empty().then_some(())?;
        Some(i32::from_ne_bytes(*target.get(HEADER..)?.first_chunk()?))
    }

    /// A chain ends with an entry for every packet that decides: the policy, or the return to whence it was called.
    fn is_last(&self) -> bool {
        let asks =
            self.bytes.get(..self.family.offsets_at - 4).is_none_or(|fields| fields.iter().any(|byte| *byte != 0));
        let has_matches = self.offset(0) != Some(self.family.matches_at);
        !asks && !has_matches && self.verdict().is_some_and(|verdict| verdict < 0)
    }

    fn rule(&self) -> Option<Rule<u32>> {
        let verdict = self.verdict();
        let target = name(self.target()?)?;
        Some(Rule {
            destination: self.destination()?,
            acts: match verdict {
                Some(verdict) => verdict == DROP,
                None => xtables::acts(target),
            },
            chains: verdict.and_then(|verdict| u32::try_from(verdict).ok()).into_iter().collect(),
        })
    }

    fn destination(&self) -> Option<Destination> {
        if let Some((value, mask)) = self.address(1, 3, INVERTED_DESTINATION)? {
            return Some(Destination::OneOf(matched(!self.family.is_ipv4, &value, &mask)));
        }
        let chooses = |of: &Match<'_>| xtables::chooses_destinations(of.name, of.revision, of.told);
        let by = self.matches()?.into_iter().find(chooses);
        let not_understood =
            |by: Match<'_>| Destination::NotUnderstood(format!("-m {}", String::from_utf8_lossy(by.name)));
        Some(by.map_or(Destination::Any, not_understood))
    }

    /// What source or destination must be, and the mask. An entry begins with source, destination, and the masks of both.
    fn address(&self, value: usize, mask: usize, inverted: u8) -> Option<Option<(AddressBytes, AddressBytes)>> {
        let length = length_of(!self.family.is_ipv4);
        let address = |place: usize| {
            let mut address: AddressBytes = [0; 16];
            address[..length].copy_from_slice(self.bytes.get(place * length..)?.get(..length)?);
            Some(address)
        };
        let (value, mask) = (address(value)?, address(mask)?);
        let is_inverted = self.bytes.get(self.family.inverted_at)? & inverted != 0;
        Some((!is_inverted && mask != [0; 16]).then_some((value, mask)))
    }

    fn matches(&self) -> Option<Vec<Match<'a>>> {
        let mut rest = self.bytes.get(self.family.matches_at..self.offset(0)?)?;
        let mut matches = Vec::new();
        while !rest.is_empty() {
            let size = usize::from(u16::from_ne_bytes(*rest.first_chunk()?)).max(HEADER);
            let (revision, told) = (u32::from(*rest.get(HEADER - 1)?), rest.get(HEADER..size)?);
            matches.push(Match { name: name(rest)?, revision, told });
            rest = rest.get(size..)?;
        }
        Some(matches)
    }
}

/// Of a match or a target.
fn name(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(NAME_AT..HEADER - 1)?.split(|byte| *byte == 0).next()
}
