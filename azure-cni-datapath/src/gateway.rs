//! The router that all of the Internet is behind, of one address family: an array of one.

use aya::maps::{Array, Map, MapData};

use crate::error::DatapathError;
use crate::map::{MapAddress, in_map, open};
use crate::pins::Pins;

pub(crate) struct Gateway<A: MapAddress> {
    name: &'static str,
    map: Array<MapData, A>,
    /// As this agent has set it.
    published: Option<A>,
}

/// What came of setting it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GatewaySync {
    pub changed: bool,
    /// The map did not have what was set before.
    pub repaired: bool,
}

impl<A: MapAddress> Gateway<A> {
    pub fn open(pins: &Pins, name: &'static str) -> Result<Self, DatapathError> {
        Ok(Self { name, map: open(pins, name, Map::Array)?, published: None })
    }

    /// The unspecified address means none. Writes only if another one is there.
    pub fn set(&mut self, router: A) -> Result<GatewaySync, DatapathError> {
        let present = self.map.get(&0, 0).map_err(in_map(self.name))?;
        let before = self.published.replace(router);
        if present != router {
            self.map.set(0, router, 0).map_err(in_map(self.name))?;
        }
        Ok(GatewaySync {
            changed: before.unwrap_or(present) != router,
            repaired: before.is_some_and(|before| before != present),
        })
    }
}
