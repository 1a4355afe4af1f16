//! The names of an object's sections, to see that a section is there.
//!
//! Reads what the ELF header says (64-bit, little-endian: elf.h, `Elf64_Ehdr` and `Elf64_Shdr`) and nothing more. Names may share
//! their bytes (`.BTF` is the end of `.rel.BTF`), so a search in the string table would not do.

/// The names of all sections; none if this is not such an object.
pub(crate) fn section_names(object: &[u8]) -> Option<Vec<&[u8]>> {
    const CLASS64_LITTLE_ENDIAN: &[u8] = b"\x7fELF\x02\x01";
    if !object.starts_with(CLASS64_LITTLE_ENDIAN) {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(field(object, 0x28)?)).ok()?;
    let half = |at| field(object, at).map(u16::from_le_bytes).map(usize::from);
    let (size, count, names_index) = (half(0x3a)?, half(0x3c)?, half(0x3e)?);
    let header = |index: usize| object.get(table.checked_add(index * size)?..);

    let names_start = usize::try_from(u64::from_le_bytes(field(header(names_index)?, 0x18)?)).ok()?;
    let names = object.get(names_start..)?;
    (0..count)
        .map(|index| {
            let start = usize::try_from(u32::from_le_bytes(field(header(index)?, 0)?)).ok()?;
            names.get(start..)?.split(|&byte| byte == 0).next()
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
    fn what_is_cut_short_or_no_object_has_no_names() {
        assert_eq!(section_names(b""), None);
        assert_eq!(section_names(b"#!/bin/sh\n"), None);
        let whole = object(b"\0.BTF\0", &[0, 1]);
        for length in 0..whole.len() - 5 {
            assert_eq!(section_names(&whole[..length]), None, "{length}");
        }
    }
}
