//! What the maps are to look like: kinds and layouts as compiled, sizes as configured.

use aya_obj::maps::PinningType;
use aya_obj::{Object, ParseError};

use crate::names::Names;
use crate::raw_map::Shape;
use crate::settings::Settings;

/// A map that is to be pinned.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub name: String,
    pub shape: Shape,
    /// What it held before has no meaning any more.
    pub is_unused: bool,
}

/// All maps that are to be pinned.
pub(crate) fn wanted(settings: &Settings) -> Result<Vec<Wanted>, ParseError> {
    let configured = sizes(settings);
    let object = Object::parse(settings.object)?;
    let pinned = object.maps.iter().filter(|(_, map)| map.pinning() == PinningType::ByName);
    Ok(pinned
        .map(|(name, map)| {
            let is_unused = !settings.constants.has_ipv6 && name.ends_with('6');
            let of_config = configured.iter().find(|(of, _)| of == name).map(|(_, entries)| *entries);
            let max_entries = if is_unused { 1 } else { of_config.unwrap_or(map.max_entries()) };
            let shape = Shape {
                kind: map.map_type(),
                key_len: map.key_size(),
                value_len: map.value_size(),
                max_entries,
                flags: map.map_flags(),
            };
            Wanted { name: name.clone(), shape, is_unused }
        })
        .collect())
}

/// The sizes of the maps whose size is configured, in entries.
pub(crate) fn sizes(settings: &Settings) -> [(&'static str, u32); 12] {
    let Settings { max_flows, max_half_open, max_routes, .. } = *settings;
    // IPv6 is routed: unless it is translated, its translations need no memory.
    let translated6 = |entries: u32| if settings.constants.snat6 { entries } else { UNTRANSLATED.min(entries) };
    [
        (Names::V4.routes, max_routes),
        (Names::V6.routes, max_routes),
        (Names::V4.flows, max_flows),
        (Names::V4.translations, max_flows),
        (Names::V4.half_open, max_half_open),
        (Names::V4.datagrams, max_half_open),
        (Names::V4.half_open_translations, max_half_open),
        (Names::V6.flows, max_flows),
        (Names::V6.translations, translated6(max_flows)),
        (Names::V6.half_open, max_half_open),
        (Names::V6.datagrams, max_half_open),
        (Names::V6.half_open_translations, translated6(max_half_open)),
    ]
}

/// The size of a table of translations that only the host's own flows are noted in.
const UNTRANSLATED: u32 = 1024;
