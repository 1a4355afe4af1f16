//! What a rule of nftables asks of a packet's addresses, and where it leads: its expressions run on bytes whose origin is known
//! instead of on a packet.
//!
//! The rule: what is not known to look, to count or to mark only, acts. What is asked of bytes that come from the destination is read, or the
//! rule is not understood.

use super::super::nfnetlink::{Attributes, NFPROTO_IPV4, NFPROTO_IPV6, find, name, number};
use super::super::prefixes::AddressBytes;
use super::super::xtables;
use super::verdict::Verdict;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFT_REG_VERDICT: u32 = 0;
const NFT_PAYLOAD_LL_HEADER: u32 = 0;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_META_NFPROTO: u32 = 15;
const NFT_LOOKUP_F_INV: u32 = 1;
/// `enum nft_ct_keys`: the addresses of a connection, of either direction.
const NFT_CT_ADDRESSES: [u32; 6] = [8, 9, 19, 20, 21, 22];
/// `enum nft_cmp_ops`.
const EQ: u32 = 0;
const LT: u32 = 2;
const LTE: u32 = 3;
const GT: u32 = 4;
const GTE: u32 = 5;

/// Expressions that look, count or mark, and the attribute that names the register they write to, if they write to one.
const HARMLESS: [(&[u8], Option<u16>); 16] = [
    (b"exthdr", Some(1)),
    (b"rt", Some(1)),
    (b"numgen", Some(1)),
    (b"fib", Some(1)),
    (b"osf", Some(1)),
    (b"xfrm", Some(1)),
    (b"socket", Some(2)),
    (b"tunnel", Some(2)),
    (b"counter", None),
    (b"limit", None),
    (b"log", None),
    (b"quota", None),
    (b"connlimit", None),
    (b"last", None),
    (b"dynset", None),
    (b"notrack", None),
];

/// What stands for such a comparison in an error.
pub const DERIVED: &str = "what is made of it";
/// The length of Ethernet's header.
const ETHERNET: usize = 14;

/// Of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

/// Where a byte of the registers comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Byte {
    Other,
    /// The packet's family.
    Family,
    Address(AddressByte),
    /// Made of the destination by means that are not followed.
    Derived,
}

impl Byte {
    const fn is_of_destination(self) -> bool {
        matches!(self, Self::Derived | Self::Address(AddressByte { end: End::Destination, .. }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressByte {
    pub end: End,
    pub is_v6: bool,
    /// Its place in the address.
    pub index: usize,
    pub mask: u8,
}

/// What an address must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bits {
    pub is_v6: bool,
    pub value: AddressBytes,
    pub mask: AddressBytes,
}

/// A set or a map that is asked for a key which holds bytes of the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    pub set: Vec<u8>,
    /// Where in the key they are. Those behind the end of the set's keys are none of it.
    pub bytes: Vec<(usize, AddressByte)>,
    /// Where in the key the first byte is that is only made of the destination.
    pub derived_at: Option<usize>,
    pub has_verdicts: bool,
}

/// What is known of a rule.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub source: Option<Bits>,
    pub destination: Option<Bits>,
    /// Least and greatest destination.
    pub bounds: [Option<(bool, AddressBytes)>; 2],
    pub lookups: Vec<Lookup>,
    pub verdicts: Vec<Verdict>,
    pub acts: bool,
    pub not_understood: Option<String>,
}

/// Reads the attribute that holds the expressions of a rule, in a table of this family.
pub fn read(expressions: &[u8], family: u8) -> Reading {
    let mut run = Run { family, registers: [Byte::Other; 64], reading: Reading::default() };
    for (_, expression) in Attributes(expressions).filter(|(kind, _)| *kind == NFTA_LIST_ELEM) {
        let Some(named) = find(expression, NFTA_EXPR_NAME) else { continue };
        run.execute(name(named), find(expression, NFTA_EXPR_DATA).unwrap_or_default());
    }
    run.reading
}

struct Run {
    family: u8,
    /// Four of 16 bytes, or 16 of four: two names for the same memory.
    registers: [Byte; 64],
    reading: Reading,
}

impl Run {
    fn execute(&mut self, named: &[u8], data: &[u8]) {
        let number_of = |kind| find(data, kind).and_then(number);
        match named {
            b"payload" if number_of(5).is_none() => self.load(number_of(1), number_of(2), number_of(3), number_of(4)),
            b"meta" => match (number_of(1), number_of(2)) {
                (Some(register), Some(NFT_META_NFPROTO)) => self.write(register, &[Byte::Family]),
                (Some(register), _) => self.write(register, &[Byte::Other; 16]),
                // The mark, or the like.
                _ => {}
            },
            b"cmp" => {
                let value = find(data, 3).and_then(|data| find(data, NFTA_DATA_VALUE)).unwrap_or_default();
                self.compare(number_of(1), number_of(2), value);
            }
            b"range" => {
                let value = |kind| find(data, kind).and_then(|data| find(data, NFTA_DATA_VALUE)).unwrap_or_default();
                if number_of(2) == Some(EQ) {
                    self.compare(number_of(1), Some(GTE), value(3));
                    self.compare(number_of(1), Some(LTE), value(4));
                } else {
                    self.refuse_derived(number_of(1), value(3).len());
                }
            }
            b"bitwise" => self.mask(number_of(1), number_of(2), number_of(6), data),
            b"byteorder" => self.derive(number_of(1), number_of(4), number_of(2)),
            b"hash" => self.derive(number_of(1), number_of(3), number_of(2)),
            b"ct" => {
                let is_address = number_of(2).is_some_and(|key| NFT_CT_ADDRESSES.contains(&key));
                let byte = if is_address { Byte::Derived } else { Byte::Other };
                self.write(number_of(1).unwrap_or_default(), &[byte; 16]);
            }
            b"lookup" => self.look_up(number_of(2), number_of(3), number_of(5), find(data, 1)),
            // An object by a map.
            b"objref" => {
                self.look_up(number_of(3), None, None, find(data, 4));
                self.reading.acts = true;
            }
            b"immediate" if number_of(1) == Some(NFT_REG_VERDICT) => {
                self.reading.verdicts.extend(find(data, 2).and_then(Verdict::read));
            }
            b"immediate" => self.write(number_of(1).unwrap_or_default(), &[Byte::Other; 16]),
            b"match" => {
                let (named, revision) = (find(data, 1).map(name).unwrap_or_default(), number_of(2).unwrap_or_default());
                if xtables::chooses_destinations(named, revision, find(data, 3).unwrap_or_default()) {
                    self.not_understood(format!("-m {}", String::from_utf8_lossy(named)));
                }
            }
            b"target" => self.reading.acts |= find(data, 1).is_none_or(|target| xtables::acts(name(target))),
            _ => match HARMLESS.iter().find(|(harmless, _)| *harmless == named) {
                Some((_, Some(kind))) => self.write(number_of(*kind).unwrap_or_default(), &[Byte::Other; 16]),
                Some((_, None)) => {}
                None => self.reading.acts = true,
            },
        }
    }

    /// The first byte of a register by its number (include/uapi/linux/netfilter/nf_tables.h, `enum nft_registers`).
    fn place(register: u32) -> Option<usize> {
        match register {
            1..=4 => Some((register as usize - 1) * 16),
            8..=23 => Some((register as usize - 8) * 4),
            _ => None,
        }
    }

    fn write(&mut self, register: u32, bytes: &[Byte]) {
        let registers = Self::place(register).and_then(|place| self.registers.get_mut(place..)).unwrap_or_default();
        registers.iter_mut().zip(bytes).for_each(|(register, byte)| *register = *byte);
    }

    fn at(&self, register: Option<u32>) -> &[Byte] {
        register.and_then(Self::place).and_then(|place| self.registers.get(place..)).unwrap_or_default()
    }

    fn load(&mut self, register: Option<u32>, base: Option<u32>, offset: Option<u32>, length: Option<u32>) {
        let (Some(register), Some(offset), Some(length)) = (register, offset, length) else { return };
        let (of_network, of_link) = (base == Some(NFT_PAYLOAD_NETWORK_HEADER), base == Some(NFT_PAYLOAD_LL_HEADER));
        let is_v6 = match self.family {
            NFPROTO_IPV4 => false,
            NFPROTO_IPV6 => true,
            // A table of both families compares the family before; if it does not, the lengths tell.
            _ => offset >= 20 || offset.saturating_add(length) > 20,
        };
        let byte = |offset: usize| match offset {
            offset if of_network => address_byte(is_v6, offset),
            ETHERNET.. if of_link => Byte::Derived,
            _ => Byte::Other,
        };
        let bytes: Vec<_> = (0..length.min(64)).map(|at| byte((offset.min(64) + at) as usize)).collect();
        self.write(register, &bytes);
    }

    fn compare(&mut self, register: Option<u32>, operation: Option<u32>, value: &[u8]) {
        let bytes = self.at(register)[..value.len().min(self.at(register).len())].to_vec();
        if operation == Some(EQ) && bytes.first() == Some(&Byte::Family) {
            self.family = value[0];
        }
        if operation == Some(EQ) {
            self.refuse_derived(register, value.len());
            for (byte, value) in bytes.iter().zip(value) {
                let Byte::Address(AddressByte { end, is_v6, index, mask }) = *byte else { continue };
                let bits = match end {
                    End::Source => self.reading.source.get_or_insert_default(),
                    End::Destination => self.reading.destination.get_or_insert_default(),
                };
                bits.is_v6 = is_v6;
                (bits.value[index], bits.mask[index]) = (bits.value[index] | value & mask, bits.mask[index] | mask);
            }
            return;
        }
        let (bound, rest) = match operation {
            Some(GT | GTE) => (0, 0),
            Some(LT | LTE) => (1, u8::MAX),
            _ => return self.refuse_derived(register, value.len()),
        };
        let whole = |(at, byte): (usize, &Byte)| match byte {
            Byte::Address(byte) => byte.end == End::Destination && byte.index == at && byte.mask == u8::MAX,
            _ => false,
        };
        match bytes.first() {
            Some(Byte::Address(AddressByte { is_v6, .. })) if bytes.iter().enumerate().all(whole) => {
                let mut address = [rest; 16];
                address.iter_mut().zip(value).for_each(|(byte, value)| *byte = *value);
                self.reading.bounds[bound] = Some((*is_v6, address));
            }
            _ if bytes.iter().any(|byte| byte.is_of_destination()) => self.not_understood("a part of it".to_owned()),
            _ => {}
        }
    }

    fn not_understood(&mut self, by: String) {
        self.reading.not_understood.get_or_insert(by);
    }

    /// For a comparison of so many bytes.
    fn refuse_derived(&mut self, register: Option<u32>, length: usize) {
        if self.at(register).iter().take(length).any(|byte| *byte == Byte::Derived) {
            self.not_understood(DERIVED.to_owned());
        }
    }

    /// Writes what is made of so many bytes of a register to another.
    fn derive(&mut self, from: Option<u32>, length: Option<u32>, to: Option<u32>) {
        let is_of_destination =
            self.at(from).iter().take(length.unwrap_or(16) as usize).any(|byte| byte.is_of_destination());
        let byte = if is_of_destination { Byte::Derived } else { Byte::Other };
        self.write(to.unwrap_or_default(), &[byte; 16]);
    }

    fn mask(&mut self, from: Option<u32>, to: Option<u32>, operation: Option<u32>, data: &[u8]) {
        let value = |kind| find(data, kind).and_then(|data| find(data, NFTA_DATA_VALUE)).unwrap_or_default();
        let (masks, flips) = (value(4), value(5));
        let is_plain = operation.unwrap_or_default() == 0 && flips.iter().all(|byte| *byte == 0);
        if !is_plain || masks.is_empty() {
            // Of a second register too, on newer kernels.
            let others = find(data, 8).and_then(number);
            let length = find(data, 3).and_then(number);
            let is_of = |register| self.at(register).iter().take(length.unwrap_or(16) as usize);
            let from = if is_of(others).any(|byte| byte.is_of_destination()) { others } else { from };
            return self.derive(from, length, to);
        }
        let masked = |(byte, mask): (&Byte, &u8)| match byte {
            Byte::Address(byte) => Byte::Address(AddressByte { mask: byte.mask & mask, ..*byte }),
            Byte::Derived => Byte::Derived,
            _ => Byte::Other,
        };
        let bytes: Vec<_> = self.at(from).iter().zip(masks).map(masked).collect();
        self.write(to.unwrap_or_default(), &bytes);
    }

    fn look_up(&mut self, from: Option<u32>, to: Option<u32>, flags: Option<u32>, set: Option<&[u8]>) {
        let is_inverted = flags.unwrap_or_default() & NFT_LOOKUP_F_INV != 0;
        let of_destination = |(at, byte): (usize, &Byte)| match byte {
            Byte::Address(byte) if byte.end == End::Destination => Some((at, *byte)),
            _ => None,
        };
        let bytes: Vec<_> = self.at(from).iter().enumerate().filter_map(of_destination).collect();
        let bytes = if is_inverted { Vec::new() } else { bytes };
        let derived_at = self.at(from).iter().position(|byte| *byte == Byte::Derived);
        let has_verdicts = to == Some(NFT_REG_VERDICT);
        if let Some(set) = set.filter(|_| has_verdicts || derived_at.is_some() || !bytes.is_empty()) {
            self.reading.lookups.push(Lookup { set: name(set).to_vec(), bytes, derived_at, has_verdicts });
        }
        if let Some(to) = to {
            self.write(to, &[Byte::Other; 16]);
        }
    }
}

/// The byte at an offset of the network header (RFC 791 section 3.1, RFC 8200 section 3).
fn address_byte(is_v6: bool, offset: usize) -> Byte {
    let (source, destination, length) = if is_v6 { (8, 24, 16) } else { (12, 16, 4) };
    let within = |start: usize, end: End| {
        let index = offset.checked_sub(start).filter(|index| *index < length)?;
        Some(Byte::Address(AddressByte { end, is_v6, index, mask: u8::MAX }))
    };
    within(source, End::Source).or_else(|| within(destination, End::Destination)).unwrap_or(Byte::Other)
}
