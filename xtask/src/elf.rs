//! An object's sections: which there are, and what those hold that a program consists of.
//!
//! Reads what the ELF header says (64-bit, little-endian: elf.h, `Elf64_Ehdr` and `Elf64_Shdr`) and nothing more. Names may share
//! their bytes (`.BTF` is the end of `.rel.BTF`), so a search in the string table would not do.

/// `sh_flags`: the section is in memory while the program runs. Debug information is not.
const SHF_ALLOC: u64 = 2;
/// `sh_type`: the file has no bytes of the section.
const SHT_NOBITS: u32 = 8;

struct Section<'a> {
    name: &'a [u8],
    flags: u64,
    content: &'a [u8],
}

/// The names of all sections; none if this is not such an object.
pub(crate) fn section_names(object: &[u8]) -> Option<Vec<&[u8]>> {
    Some(sections(object)?.into_iter().map(|section| section.name).collect())
}

/// What of an object is in memory while it runs, section by section: the same wherever it was compiled, as debug information has paths
/// of the machine.
pub(crate) fn loaded_contents(object: &[u8]) -> Option<Vec<&[u8]>> {
    let loaded = sections(object)?.into_iter().filter(|section| section.flags & SHF_ALLOC != 0);
    Some(loaded.map(|section| section.content).collect())
}

fn sections(object: &[u8]) -> Option<Vec<Section<'_>>> {
    const CLASS64_LITTLE_ENDIAN: &[u8] = b"\x7fELF\x02\x01";
    if !object.starts_with(CLASS64_LITTLE_ENDIAN) {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(field(object, 0x28)?)).ok()?;
    let half = |at| field(object, at).map(u16::from_le_bytes).map(usize::from);
    let (size, count, names_index) = (half(0x3a)?, half(0x3c)?, half(0x3e)?);
    let header = |index: usize| object.get(table.checked_add(index * size)?..);

    let word = |header: &[u8], at| field(header, at).map(u64::from_le_bytes);
    let place = |header: &[u8], at| usize::try_from(word(header, at)?).ok();

    let names = object.get(place(header(names_index)?, 0x18)?..)?;
    (0..count)
        .map(|index| {
            let header = header(index)?;
            let start = usize::try_from(u32::from_le_bytes(field(header, 0)?)).ok()?;
            let name = names.get(start..)?.split(|&byte| byte == 0).next()?;
            let is_empty = u32::from_le_bytes(field(header, 4)?) == SHT_NOBITS;
            let length = if is_empty { 0 } else { place(header, 0x20)? };
            let content = object.get(place(header, 0x18)?..)?.get(..length)?;
            Some(Section { name, flags: word(header, 8)?, content })
        })
        .collect()
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object of nothing but sections, whose names start at these places of one string table.
    fn object(names: &[u8], starts: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 0x40];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[0x28..0x30].copy_from_slice(&0x40u64.to_le_bytes());
        bytes[0x3a..0x3c].copy_from_slice(&0x40u16.to_le_bytes());
        bytes[0x3c..0x3e].copy_from_slice(&u16::try_from(starts.len()).unwrap().to_le_bytes());
        let names_at = 0x40 + 0x40 * starts.len();
        for start in starts {
            let mut header = [0; 0x40];
            header[..4].copy_from_slice(&start.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(names_at as u64).to_le_bytes());
            bytes.extend(header);
        }
        bytes.extend(names);
        bytes
    }

    #[test]
    fn names_are_found_although_they_share_their_bytes() {
        let object = object(b"\0.rel.BTF\0license\0", &[0, 1, 5, 10]);
        assert_eq!(section_names(&object).unwrap(), [b"".as_slice(), b".rel.BTF", b".BTF", b"license"]);
    }

    #[test]
    fn contents_are_of_the_sections_that_are_loaded() {
        let mut object = object(b"\0.text\0.debug\0.bss\0", &[0, 1, 7, 14]);
        const SECTIONS: [(u32, u64, u64, u64); 3] =
            [(1, SHF_ALLOC, 1, 3), (1, 0, 0, 4), (SHT_NOBITS, SHF_ALLOC, 0, 1 << 20)];
        for (number, (kind, flags, at, size)) in (1..).zip(SECTIONS) {
            let header = 0x40 + 0x40 * number;
            object[header + 4..header + 8].copy_from_slice(&kind.to_le_bytes());
            object[header + 8..header + 16].copy_from_slice(&flags.to_le_bytes());
            object[header + 0x18..header + 0x20].copy_from_slice(&at.to_le_bytes());
            object[header + 0x20..header + 0x28].copy_from_slice(&size.to_le_bytes());
        }
        assert_eq!(loaded_contents(&object).unwrap(), [b"ELF".as_slice(), b""]);
        assert_eq!(loaded_contents(b"no object"), None);
    }

    #[test]
    fn what_is_cut_short_or_no_object_has_no_names() {
        assert_eq!(section_names(b""), None);
        assert_eq!(section_names(b"#!/bin/sh\n"), None);
        let whole = object(b"\0.BTF\0", &[0, 1]);
        for length in 0..whole.len() - 5 {
            assert_eq!(section_names(&whole[..length]), None, "{length}");
        }
    }
}
