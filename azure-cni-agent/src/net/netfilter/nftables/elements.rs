//! The elements of a set or a map, and which destinations they stand for.

use ipnet::IpNet;

use super::super::nfnetlink::{Attributes, find, name_attribute, number};
use super::super::prefixes;
use super::expressions::Lookup;
use super::verdict::Verdict;

const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
const NFTA_DATA_VALUE: u16 = 1;
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Empty: it stands for all other keys.
    key: Vec<u8>,
    /// Of a range of concatenated fields, included.
    key_end: Option<Vec<u8>>,
    /// The key is the first one *behind* a range.
    ends_range: bool,
    pub verdict: Option<Verdict>,
}

/// The attributes that ask for the elements of one set.
pub fn of_set(table: &[u8], set: &[u8]) -> Vec<u8> {
    [name_attribute(NFTA_SET_ELEM_LIST_TABLE, table), name_attribute(NFTA_SET_ELEM_LIST_SET, set)].concat()
}

/// Those of one message.
pub fn read(message: &[u8]) -> impl Iterator<Item = Element> {
    let elements = find(message, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    Attributes(elements).filter(|(kind, _)| *kind == NFTA_LIST_ELEM).map(|(_, element)| {
        let value = |kind| find(element, kind).and_then(|data| find(data, NFTA_DATA_VALUE)).map(<[u8]>::to_vec);
        let flags = find(element, NFTA_SET_ELEM_FLAGS).and_then(number).unwrap_or_default();
        Element {
            key: value(NFTA_SET_ELEM_KEY).unwrap_or_default(),
            key_end: value(NFTA_SET_ELEM_KEY_END),
            ends_range: flags & NFT_SET_ELEM_INTERVAL_END != 0,
            verdict: find(element, NFTA_SET_ELEM_DATA).and_then(Verdict::read),
        }
    })
}

/// The length of the keys; `None` if nothing but the element for all other keys is there, if anything.
pub fn key_length(elements: &[Element]) -> Option<usize> {
    elements.iter().map(|element| element.key.len()).max().filter(|length| *length > 0)
}

/// The destinations for which a lookup finds an element that does more than to return, and what it does. For an element that all
/// destinations may find, the prefix has no length.
pub fn destinations(mut elements: Vec<Element>, lookup: &Lookup) -> Vec<(IpNet, Option<Verdict>)> {
    let Some((_, first)) = lookup.bytes.first() else { return Vec::new() };
    if elements.iter().any(|element| element.ends_range) || is_everything(&elements) {
        with_ends(&mut elements);
    }
    let matters = |element: &&Element| element.verdict != Some(Verdict::Nothing);
    let prefixes = elements.iter().filter(matters).flat_map(|element| {
        let (mut least, mut greatest) = ([0; 16], [u8::MAX; 16]);
        let end = element.key_end.as_ref().unwrap_or(&element.key);
        for (at, byte) in &lookup.bytes {
            let (Some(from), Some(to)) = (element.key.get(*at), end.get(*at)) else { continue };
            least[byte.index] = from & byte.mask;
            greatest[byte.index] = to | !byte.mask;
        }
        let prefixes = prefixes::of_range(first.is_v6, &least, &greatest);
        prefixes.into_iter().map(|prefix| (prefix, element.verdict.clone()))
    });
    prefixes.collect()
}

/// The range of all keys has no end, and no other beside it. A set of single keys with nothing but zeros looks the same.
fn is_everything(elements: &[Element]) -> bool {
    let mut ranges = elements.iter().filter(|element| !element.key.is_empty());
    let first = ranges.next().is_some_and(|only| only.key_end.is_none() && only.key.iter().all(|byte| *byte == 0));
    first && ranges.next().is_none()
}

/// Gives the elements that begin a range its last key, and takes those away that end one.
fn with_ends(elements: &mut Vec<Element>) {
    let (others, mut ranges): (Vec<_>, Vec<_>) =
        std::mem::take(elements).into_iter().partition(|element| element.key.is_empty());
    *elements = others;
    // Where a range ends, another may begin.
    ranges.sort_by(|one, other| (&one.key, !one.ends_range).cmp(&(&other.key, !other.ends_range)));
    let mut behind: Option<Vec<u8>> = None;
    for element in ranges.iter_mut().rev() {
        if !element.ends_range {
            let all_ones = || vec![u8::MAX; element.key.len()];
            element.key_end = Some(behind.as_deref().map_or_else(all_ones, one_less));
        }
        behind = Some(element.key.clone());
    }
    elements.extend(ranges.into_iter().filter(|element| !element.ends_range));
}

fn one_less(key: &[u8]) -> Vec<u8> {
    let mut less = key.to_vec();
    for byte in less.iter_mut().rev() {
        let (value, borrows) = byte.overflowing_sub(1);
        *byte = value;
        if !borrows {
            break;
        }
    }
    less
}
