//! A map of any kind as bytes: what carries entries over from one map to another knows nothing of what they mean.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use aya::maps::{MapData, MapError};
use aya::util::nr_cpus;
use aya_obj::generated::bpf_map_type::{self, *};

use crate::batch::{Cursor, read_raw_piece};

/// What a map is, as far as it can be told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub kind: u32,
    pub key_len: u32,
    pub value_len: u32,
    pub max_entries: u32,
    pub flags: u32,
}

impl Shape {
    fn is(&self, kinds: &[bpf_map_type]) -> bool {
        kinds.iter().any(|kind| *kind as u32 == self.kind)
    }

    /// Every index has a value at all times.
    pub fn is_array(&self) -> bool {
        self.is(&[BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY])
    }

    /// What is in it has been read, or is lost.
    pub fn is_ring(&self) -> bool {
        self.is(&[BPF_MAP_TYPE_RINGBUF])
    }

    fn is_hash(&self) -> bool {
        self.is(&[BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH])
    }

    /// Whether an entry of one is an entry of the other.
    pub fn holds_the_same(&self, other: &Self) -> bool {
        (self.key_len, self.value_len, self.is_array()) == (other.key_len, other.value_len, other.is_array())
    }
}

/// What an update does (include/uapi/linux/bpf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Write {
    Any = 0,
    IfAbsent = 1,
    IfPresent = 2,
}

pub(crate) struct RawMap {
    data: MapData,
    pub shape: Shape,
    /// Bytes of a value as the kernel copies it: those of all CPUs together, if there is one for each.
    value_len: usize,
}

/// How many entries one system call reads.
const PIECE: usize = 4096;

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;

/// The part of `union bpf_attr` that commands for one element read. Addresses as 64-bit integers.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    _padding: u32,
    key: u64,
    /// Or where the next key is written.
    value: u64,
    flags: u64,
}

impl RawMap {
    /// `None` if nothing is pinned there.
    pub fn pinned(path: &Path) -> Result<Option<Self>, MapError> {
        match path.try_exists() {
            Ok(false) => Ok(None),
            _ => Self::new(MapData::from_pin(path)?).map(Some),
        }
    }

    pub fn create(name: &str, shape: Shape) -> Result<Self, MapError> {
        let Shape { kind, key_len, value_len, max_entries, flags } = shape;
        let wanted = aya_obj::Map::new_from_params(kind, key_len, value_len, max_entries, flags);
        Self::new(MapData::create(wanted, name, None)?)
    }

    fn new(data: MapData) -> Result<Self, MapError> {
        let info = data.info()?;
        let shape = Shape {
            kind: info.map_type().map_or(0, |kind| kind as u32),
            key_len: info.key_size(),
            value_len: info.value_size(),
            max_entries: info.max_entries(),
            flags: info.map_flags(),
        };
        let value_len = if shape.is(&[BPF_MAP_TYPE_PERCPU_ARRAY]) {
            let cpus = nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
            (shape.value_len as usize).next_multiple_of(8) * cpus
        } else {
            shape.value_len as usize
        };
        Ok(Self { data, shape, value_len })
    }

    pub fn pin(&self, path: &Path) -> Result<(), aya::pin::PinError> {
        self.data.pin(path)
    }

    /// Calls `visit` with each key and value.
    pub fn each(&self, mut visit: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.shape.is_hash() { self.each_in_pieces(visit) } else { self.each_by_key(&mut visit) }
    }

    fn each_in_pieces(&self, mut visit: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
        let lengths = (self.shape.key_len as usize, self.value_len);
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            let piece = read_raw_piece(self.data.fd().as_fd(), from, PIECE, lengths)?;
            let mut entries = piece.keys.chunks_exact(lengths.0).zip(piece.values.chunks_exact(lengths.1));
            entries.try_for_each(|(key, value)| visit(key, value))?;
            cursor = piece.next;
        }
        Ok(())
    }

    /// For maps that change seldom: the kernel starts over if the key it stands at goes.
    fn each_by_key(&self, visit: &mut impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut key = self.next_key(None)?;
        while let Some(at) = key {
            if let Some(value) = self.get(&at)? {
                visit(&at, &value)?;
            }
            key = self.next_key(Some(&at))?;
        }
        Ok(())
    }

    /// How many entries there are.
    pub fn count(&self) -> io::Result<u64> {
        let mut count = 0;
        self.each(|_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    pub fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0u8; self.value_len];
        let found = self.command(BPF_MAP_LOOKUP_ELEM, Some(key), value.as_mut_ptr(), 0);
        Ok(absent_is_none(found)?.map(|()| value))
    }

    pub fn set(&self, key: &[u8], value: &[u8], write: Write) -> io::Result<()> {
        assert_eq!(value.len(), self.value_len, "a value of another map");
        // The kernel only reads it.
        self.command(BPF_MAP_UPDATE_ELEM, Some(key), value.as_ptr().cast_mut(), write as u64)
    }

    fn next_key(&self, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        let mut next = vec![0u8; self.shape.key_len as usize];
        let found = self.command(BPF_MAP_GET_NEXT_KEY, key, next.as_mut_ptr(), 0);
        Ok(absent_is_none(found)?.map(|()| next))
    }

    /// `value` has room for a value of this map, or for a key where the command asks for one.
    fn command(&self, command: libc::c_long, key: Option<&[u8]>, value: *mut u8, flags: u64) -> io::Result<()> {
        assert!(key.is_none_or(|key| key.len() == self.shape.key_len as usize), "a key of another map");
        let mut attr = ElementAttr {
            map_fd: self.data.fd().as_fd().as_raw_fd() as u32,
            _padding: 0,
            key: key.map_or(0, |key| key.as_ptr() as u64),
            value: value as u64,
            flags,
        };
        // SAFETY: the addresses are of memory that lives longer than the call, a key's and a value's length as checked by the
        // callers, all in this file.
        match unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<ElementAttr>()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn absent_is_none(result: io::Result<()>) -> io::Result<Option<()>> {
    match result {
        Ok(()) => Ok(Some(())),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
