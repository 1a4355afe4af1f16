//! What all maps have in common: how they are opened, and what their errors mean.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::Pod;
use aya::maps::{Map, MapData, MapError};
use azure_cni_common::family::Address;

use crate::error::DatapathError;
use crate::pins::Pins;

/// An address as maps hold it.
pub(crate) trait MapAddress: Address + Pod {}
impl<A: Address + Pod> MapAddress for A {}

/// Opens a map where it is pinned.
pub(crate) fn open<T>(pins: &Pins, name: &'static str, kind: fn(MapData) -> Map) -> Result<T, DatapathError>
where
    T: TryFrom<Map, Error = MapError>,
{
    MapData::from_pin(pins.map(name)).and_then(|data| T::try_from(kind(data))).map_err(in_map(name))
}

/// How many entries a map has room for.
pub(crate) fn max_entries(pins: &Pins, name: &'static str) -> Result<u32, DatapathError> {
    MapData::from_pin(pins.map(name)).and_then(|data| data.info()).map(|info| info.max_entries()).map_err(in_map(name))
}

/// Names the map in which a call failed.
pub(crate) fn in_map(name: &'static str) -> impl Fn(MapError) -> DatapathError {
    move |source| DatapathError::Map { name, source: Box::new(source) }
}

/// A key that is not there is no error.
pub(crate) fn absent_is_none<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Locks also what a thread held that panicked: between two system calls, it has left no map half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
