//! The bounds of a number, checked with the key's name for the error.

use super::error::ConfigError;

pub(super) fn within(key: &'static str, value: u64, (min, max): (u64, u64)) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(ConfigError::OutOfRange { key, value, min, max }) }
}
