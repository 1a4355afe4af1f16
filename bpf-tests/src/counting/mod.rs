//! Counts the instructions that a packet has the programs execute, exactly: no performance counter, no tracing, no interpreter.
//!
//! A node's programs are loaded once more, with code in each basic block that adds the block's length to a counter, and pinned in
//! the place of those that count nothing. They are made of the same object, use the node's own maps, and are verified like
//! any others; the kernel runs them, helpers included. What is counted is the program as it was compiled: an instruction of 16
//! bytes is one, helpers' own code is none, and a jump that the kernel leaves out, because a constant decides it, is one.

mod blocks;
mod instrument;
mod load;

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use aya::maps::{Array, Map, MapData, MapInfo};
use aya_obj::Object;
use aya_obj::generated::bpf_func_info;
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;
use azure_cni_datapath::Hook;
use ebpf_stack::functions;

use crate::rig::Rig;
use instrument::instrument;
pub use load::Code;
use load::load_classifier;

/// Of a rig whose programs count.
pub struct Counter {
    total: Array<MapData, u64>,
    /// Open for as long as the map is.
    fd: RawFd,
}

impl Counter {
    pub fn create() -> Self {
        let one_number = aya_obj::Map::new_from_params(BPF_MAP_TYPE_ARRAY as u32, 4, 8, 1, 0);
        let map = MapData::create(one_number, "executed", None).expect("the kernel makes a map");
        let fd = map.fd().as_fd().as_raw_fd();
        Self { total: Array::try_from(Map::Array(map)).expect("an array of numbers"), fd }
    }

    /// Instructions executed since it was made.
    pub fn total(&self) -> u64 {
        self.total.get(&0, 0).expect("the map has one number")
    }
}

impl Rig {
    /// Puts programs that count in the place of the rig's own.
    pub fn count_instructions(&mut self) -> Counter {
        self.is_used_up = true;
        let counter = Counter::create();
        // Open until all is loaded: code has their numbers.
        let maps = self.maps_of_programs();
        let object = relocated(self.settings().object, &maps);
        for hook in Hook::ALL {
            let program = &object.programs[hook.program()];
            let function = &object.functions[&program.function_key()];
            let code = Code {
                name: hook.program(),
                instructions: &function.instructions,
                functions: &function.func_info.func_info,
                btf_id: self.program(hook).info().expect("what the kernel knows of it").btf_id(),
            };
            let pin = self.program_pin(hook);
            std::fs::remove_file(&pin).expect("the program that counts nothing is pinned");
            load_counting(&code, &counter, &pin).unwrap_or_else(|problem| panic!("{}: {problem}", hook.program()));
        }
        counter
    }

    /// By name, constants included.
    fn maps_of_programs(&self) -> HashMap<String, MapData> {
        let ids = Hook::ALL.into_iter().flat_map(|hook| {
            self.program(hook)
                .info()
                .and_then(|info| info.map_ids())
                .expect("the kernel reports it")
                .unwrap_or_default()
        });
        let open = |id| {
            let name = MapInfo::from_id(id).expect("a map in use").name_as_str().expect("UTF-8").to_owned();
            (name, MapData::from_id(id).expect("a map in use"))
        };
        ids.map(open).collect()
    }
}

/// Loads and pins what counts as well as doing what the code does. Says what keeps it from that.
pub fn load_counting(code: &Code, counter: &Counter, pin: &Path) -> Result<(), String> {
    let frames = functions(code.instructions).map_err(|error| error.to_string())?;
    let counting = instrument(code.instructions, &frames, counter.fd)?;
    let moved = |info: &bpf_func_info| bpf_func_info { insn_off: counting.moved_to[info.insn_off as usize], ..*info };
    let functions: Vec<_> = code.functions.iter().map(moved).collect();
    let code = Code { instructions: &counting.instructions, functions: &functions, ..*code };
    load_classifier(&code, pin).map_err(|error| error.to_string())
}

/// The object with maps in the place of its references to them.
fn relocated(object: &[u8], maps: &HashMap<String, MapData>) -> Object {
    let mut object = Object::parse(object).expect("the agent's loader has loaded it");
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let known = object.maps.clone();
    let used = known.iter().filter_map(|(name, map)| Some((&**name, maps.get(name)?.fd().as_fd().as_raw_fd(), map)));
    object.relocate_maps(used, &sections).expect("every map that a program uses is there");
    object.relocate_calls(&sections).expect("every function that is called is there");
    object
}
