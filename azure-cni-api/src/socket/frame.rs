//! A frame: its length as four bytes, big endian, then that many bytes of JSON.

/// The longest frame, without its length. A GC configuration with thousands of attachments fits.
pub const MAX_FRAME: usize = 1 << 20;

/// The bytes of a frame's length.
pub const FRAME_HEADER: usize = 4;
