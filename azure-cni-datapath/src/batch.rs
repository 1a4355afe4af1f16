//! Reads a hash map, or an array, in pieces: many entries in one system call, from where the last piece ended.
//!
//! aya's iterator needs two system calls for each entry, and starts over when the entry it stands at is removed. The
//! kernel's batch look-up (BPF_MAP_LOOKUP_BATCH, Linux 5.6) counts buckets instead. Entries that come and go do not disturb
//! it, and it locks one bucket at a time. Of an array, it counts indices.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya::Pod;

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// The part of `union bpf_attr` that batch commands read (include/uapi/linux/bpf.h). Addresses as 64-bit integers.
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Where the next piece begins: the number of a bucket, or of the index before it. `None`: at the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cursor(Option<u32>);

/// A piece of a map.
pub(crate) struct Piece<K, V> {
    pub entries: Vec<(K, V)>,
    /// Where the next piece begins; `None` after the last entry.
    pub next: Option<Cursor>,
}

/// A piece of a map whose types are not known: keys and values one after the other.
pub(crate) struct RawPiece {
    pub keys: Vec<u8>,
    pub values: Vec<u8>,
    pub next: Option<Cursor>,
}

/// Reads about `wanted` entries from the cursor on; more if a bucket holds more.
pub(crate) fn read_piece<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    cursor: Cursor,
    wanted: usize,
) -> io::Result<Piece<K, V>> {
    with_room(wanted, |room| {
        let mut keys: Vec<K> = Vec::with_capacity(room);
        let mut values: Vec<V> = Vec::with_capacity(room);
        // SAFETY: both have room for this many keys and values.
        let (count, next) =
            unsafe { look_up(map, cursor, room, keys.as_mut_ptr().cast(), values.as_mut_ptr().cast()) }?;
        // SAFETY: the kernel has filled this many keys; any bytes are a `Pod`.
        unsafe { keys.set_len(count) };
        // SAFETY: as above, for the values.
        unsafe { values.set_len(count) };
        Ok(Piece { entries: keys.into_iter().zip(values).collect(), next })
    })
}

/// The same for keys and values of these lengths in bytes.
pub(crate) fn read_raw_piece(
    map: BorrowedFd<'_>,
    cursor: Cursor,
    wanted: usize,
    (key_len, value_len): (usize, usize),
) -> io::Result<RawPiece> {
    with_room(wanted, |room| {
        let (mut keys, mut values) = (vec![0u8; room * key_len], vec![0u8; room * value_len]);
        // SAFETY: both have room for this many keys and values of the map.
        let (count, next) = unsafe { look_up(map, cursor, room, keys.as_mut_ptr(), values.as_mut_ptr()) }?;
        keys.truncate(count * key_len);
        values.truncate(count * value_len);
        Ok(RawPiece { keys, values, next })
    })
}

fn with_room<T>(wanted: usize, read: impl Fn(usize) -> io::Result<T>) -> io::Result<T> {
    let mut room = wanted.max(16);
    loop {
        match read(room) {
            // One bucket has more entries than there is room for.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => room *= 2,
            other => return other,
        }
    }
}

/// Returns how many entries were read, and where to go on.
///
/// # Safety
///
/// `keys` and `values` have room for `room` keys and values of the map.
unsafe fn look_up(
    map: BorrowedFd<'_>,
    cursor: Cursor,
    room: usize,
    keys: *mut u8,
    values: *mut u8,
) -> io::Result<(usize, Option<Cursor>)> {
    let from = cursor.0.unwrap_or_default();
    let mut next = 0u32;
    let mut attr = BatchAttr {
        in_batch: cursor.0.map_or(0, |_| &raw const from as u64),
        out_batch: &raw mut next as u64,
        keys: keys as u64,
        values: values as u64,
        count: room as u32,
        map_fd: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: every address in `attr` is of memory that lives longer than the call, and that has room for what the kernel
    // writes: `count` keys, `count` values, a bucket's number.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, &raw mut attr, size_of::<BatchAttr>()) };
    let ended = match result {
        0 => false,
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOENT) => true,
            error => return Err(error),
        },
    };
    Ok(((attr.count as usize).min(room), (!ended).then_some(Cursor(Some(next)))))
}
