//! The destinations that nftables' rules translate: nat chains before routing, and what they lead to.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::rc::Rc;

use ipnet::IpNet;

use super::super::destinations::{Destination, Rule, RulesError, Ruleset, destinations};
use super::super::nfnetlink::{
    NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6, Nfnetlink, find, name, name_attribute, number,
};
use super::super::prefixes;
use super::elements::{self, Element};
use super::expressions::{self, DERIVED, Reading};
use super::numbers::{
    NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETSETELEM, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE,
    NFTA_CHAIN_TYPE, NFTA_HOOK_HOOKNUM, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE,
};
use super::verdict::Verdict;

/// include/uapi/linux/netfilter.h.
const NF_INET_PRE_ROUTING: u32 = 0;

/// A number that changes with every change of the rules; `None` on a kernel without nftables.
pub fn generation() -> io::Result<Option<u32>> {
    Nfnetlink::open()?.map_or(Ok(None), |mut kernel| kernel.generation())
}

/// One attempt, which finds none on a kernel without nftables.
pub fn translated(found: &mut BTreeSet<IpNet>) -> Result<(), RulesError> {
    let Some(mut kernel) = Nfnetlink::open()? else { return Ok(()) };
    let Some(before) = kernel.generation()? else { return Ok(()) };
    read(&mut kernel, found)?;
    if kernel.generation()? == Some(before) { Ok(()) } else { Err(RulesError::Changing) }
}

fn read(kernel: &mut Nfnetlink, found: &mut BTreeSet<IpNet>) -> Result<(), RulesError> {
    let mut roots = Vec::new();
    for family in [NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_INET] {
        kernel.dump(NFT_MSG_GETCHAIN, family, &[], |chain| roots.extend(root(chain, family)))?;
    }
    destinations(&mut Kernel { kernel, elements: HashMap::new() }, roots, found)
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Chain {
    family: u8,
    table: Rc<[u8]>,
    name: Rc<[u8]>,
}

/// The chain, if it is a base chain that translates destinations.
fn root(chain: &[u8], family: u8) -> Option<Chain> {
    let hook = find(find(chain, NFTA_CHAIN_HOOK)?, NFTA_HOOK_HOOKNUM).and_then(number)?;
    let is_root = hook == NF_INET_PRE_ROUTING && name(find(chain, NFTA_CHAIN_TYPE)?) == b"nat";
    let named = |kind| Some(Rc::from(name(find(chain, kind)?)));
    is_root.then_some(Chain { family, table: named(NFTA_CHAIN_TABLE)?, name: named(NFTA_CHAIN_NAME)? })
}

/// Family, table and name.
type SetName = (u8, Rc<[u8]>, Vec<u8>);

/// The rules as they are asked for, chain by chain: most of a cluster's are behind a map, and never read.
struct Kernel<'a> {
    kernel: &'a mut Nfnetlink,
    elements: HashMap<SetName, Rc<Vec<Element>>>,
}

impl Ruleset for Kernel<'_> {
    type Chain = Chain;

    fn rules(&mut self, chain: &Chain) -> Result<Vec<Rule<Chain>>, RulesError> {
        let of_chain =
            [name_attribute(NFTA_RULE_TABLE, &chain.table), name_attribute(NFTA_RULE_CHAIN, &chain.name)].concat();
        let mut readings = Vec::new();
        self.kernel.dump(NFT_MSG_GETRULE, chain.family, &of_chain, |rule| {
            // Older kernels do not narrow a dump.
            let is_of = |kind, wanted: &[u8]| find(rule, kind).is_some_and(|found| name(found) == wanted);
            if is_of(NFTA_RULE_TABLE, &chain.table) && is_of(NFTA_RULE_CHAIN, &chain.name) {
                let expressions = find(rule, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
                readings.push(expressions::read(expressions, chain.family));
            }
        })?;
        readings.into_iter().map(|reading| self.rule(chain, reading)).collect()
    }
}

impl Kernel<'_> {
    fn rule(&mut self, chain: &Chain, mut reading: Reading) -> Result<Rule<Chain>, RulesError> {
        let mut verdicts = reading.verdicts.clone();
        let mut listed: Option<Vec<IpNet>> = None;
        let mut of_map = false;
        for mut lookup in std::mem::take(&mut reading.lookups) {
            let elements = self.elements(chain, &lookup.set)?;
            let length = elements::key_length(&elements).unwrap_or(usize::MAX);
            lookup.bytes.retain(|(at, _)| *at < length);
            if lookup.derived_at.is_some_and(|at| at < length) {
                reading.not_understood.get_or_insert(DERIVED.to_owned());
            }
            if lookup.bytes.is_empty() {
                verdicts.extend(elements.iter().filter_map(|element| element.verdict.clone()));
                continue;
            }
            let found = elements::destinations(elements.to_vec(), &lookup);
            of_map |= lookup.has_verdicts;
            // What the others do is told by their destinations.
            let of_all = found.iter().filter(|(prefix, _)| prefix.prefix_len() == 0);
            verdicts.extend(of_all.filter_map(|(_, verdict)| verdict.clone()));
            let found: Vec<_> = found.into_iter().map(|(prefix, _)| prefix).collect();
            listed = Some(listed.map_or(found.clone(), |other| narrower(other, found)));
        }
        let chains = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Chain(name) => Some(Chain { name: name.as_slice().into(), ..chain.clone() }),
            _ => None,
        });
        Ok(Rule {
            chains: chains.collect(),
            // The elements that do nothing are left out already.
            acts: reading.acts || of_map || verdicts.contains(&Verdict::Acts),
            destination: destination(&reading, listed),
        })
    }

    fn elements(&mut self, chain: &Chain, set: &[u8]) -> Result<Rc<Vec<Element>>, RulesError> {
        let key = (chain.family, chain.table.clone(), set.to_vec());
        if let Some(known) = self.elements.get(&key) {
            return Ok(known.clone());
        }
        let mut read = Vec::new();
        let of_set = elements::of_set(&chain.table, set);
        self.kernel.dump(NFT_MSG_GETSETELEM, chain.family, &of_set, |message| read.extend(elements::read(message)))?;
        let read = Rc::new(read);
        self.elements.insert(key, read.clone());
        Ok(read)
    }
}

/// Of what a rule asks, all of which a packet must meet, the narrowest; one would do.
fn destination(reading: &Reading, listed: Option<Vec<IpNet>>) -> Destination {
    let bits = reading.destination.map(|bits| prefixes::matched(bits.is_v6, &bits.value, &bits.mask));
    let range = match reading.bounds {
        [None, None] => None,
        [least, greatest] => {
            let is_v6 = least.or(greatest).is_some_and(|(is_v6, _)| is_v6);
            let (least, greatest) =
                (least.map_or([0; 16], |least| least.1), greatest.map_or([u8::MAX; 16], |most| most.1));
            Some(prefixes::of_range(is_v6, &least, &greatest))
        }
    };
    let known = [bits, range, listed].into_iter().flatten().reduce(narrower);
    let is_narrowed = |prefixes: &Vec<IpNet>| prefixes.iter().all(|prefix| prefix.prefix_len() > 0);
    match (known, &reading.not_understood) {
        (Some(prefixes), Some(_)) if is_narrowed(&prefixes) => Destination::OneOf(prefixes),
        (_, Some(by)) => Destination::NotUnderstood(by.clone()),
        (Some(prefixes), None) => Destination::OneOf(prefixes),
        (None, None) => Destination::Any,
    }
}

/// The list whose widest prefix is the narrower one.
fn narrower(one: Vec<IpNet>, other: Vec<IpNet>) -> Vec<IpNet> {
    let widest = |prefixes: &[IpNet]| prefixes.iter().map(IpNet::prefix_len).min().unwrap_or(u8::MAX);
    if widest(&one) < widest(&other) { other } else { one }
}
