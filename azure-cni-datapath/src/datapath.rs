//! The loaded data path: its programs, and the maps that they share with the agent.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Mutex;

use nix::fcntl::Flock;

use crate::attach;
use crate::bpffs;
use crate::carry_over::{self, EarlierLayout};
use crate::error::DatapathError;
use crate::events::EventSource;
use crate::filter::{Attachment, FilterHolder};
use crate::hook::{AttachMode, AttachModes, Hook};
use crate::kernel;
use crate::load::{self, Loaded};
use crate::map::lock;
use crate::pins::{Pins, unpin};
use crate::settings::Settings;
use crate::size_problem::SizeProblem;
use crate::sizes;
use crate::successors::Successors;
use crate::tables::Tables;
use crate::tcx_query;

pub struct Datapath {
    /// Ends with the agent, however it ends.
    _claim: Flock<File>,
    pins: Pins,
    modes: AttachModes,
    loaded: Loaded,
    has_ipv6: bool,
    /// The maps that have got another size, until no program works with the old ones any more.
    successors: Mutex<Successors>,
    tables: Tables,
}

impl Datapath {
    /// Loads the programs. Maps that are pinned already keep their contents. They are used, or, if another size is wanted, have
    /// got a successor with all they hold.
    ///
    /// Interfaces keep running the programs of an earlier agent until those are replaced. Then call [`Self::settle`].
    pub fn open(settings: &Settings) -> Result<Self, DatapathError> {
        Self::open_after(settings, carry_over::EARLIER)
    }

    /// The same, where pins of one of these earlier layouts may be left.
    pub fn open_after(settings: &Settings, earlier: &[EarlierLayout]) -> Result<Self, DatapathError> {
        Self::try_open(settings, earlier).map_err(|error| match error {
            // A kernel that lacks something says so in many ways: of a map, of a program, of a place for one.
            DatapathError::Load(_)
            | DatapathError::Program { .. }
            | DatapathError::Map { .. }
            | DatapathError::NoTcx => {
                let missing: Vec<String> = kernel::missing().map(ToString::to_string).collect();
                if missing.is_empty() { error } else { DatapathError::Kernel(missing.join("; ")) }
            }
            other => other,
        })
    }

    fn try_open(settings: &Settings, earlier: &[EarlierLayout]) -> Result<Self, DatapathError> {
        let modes = [settings.attach.uplink, settings.attach.endpoints];
        if modes.contains(&AttachMode::Tcx) && !tcx_query::is_known().map_err(DatapathError::AskTcx)? {
            return Err(DatapathError::NoTcx);
        }
        bpffs::ensure_mounted(&settings.dir)?;
        carry_over::expect_known(&settings.dir, earlier)?;
        let pins = Pins::create(&settings.dir)?;
        let claim = pins.claim()?;
        carry_over::carry_over(&settings.dir, &pins, earlier)?;
        let wanted = sizes::wanted(settings).map_err(|error| Box::new(error.into()))?;
        let mut successors = Successors::prepare(&wanted, &pins)?;
        let loaded = load::load_programs(settings, &wanted, &successors, &pins)?;
        successors.enter(&pins)?;
        successors.problems.iter().for_each(|problem| tracing::warn!("{problem}"));
        let tables = Tables::open(&pins, &settings.constants)?;
        let (modes, has_ipv6) = (settings.attach, settings.constants.has_ipv6);
        Ok(Self { _claim: claim, pins, modes, loaded, has_ipv6, successors: Mutex::new(successors), tables })
    }

    /// Whether programs that still run may work with other maps than those that are loaded now.
    pub fn is_unsettled(&self) -> bool {
        lock(&self.successors).are_pending()
    }

    /// To be called once all interfaces run the programs that are loaded now: what earlier ones have written to maps of another
    /// size meanwhile is carried over, and those maps go. Does nothing if sizes are as they were.
    pub fn settle(&self) -> Result<(), DatapathError> {
        let mut successors = lock(&self.successors);
        let known = successors.problems.len();
        successors.settle(&self.pins)?;
        successors.problems[known..].iter().for_each(|problem| tracing::error!("{problem}"));
        Ok(())
    }

    /// The tables that have another size than the one that was asked for.
    pub fn size_problems(&self) -> Vec<SizeProblem> {
        lock(&self.successors).problems.clone()
    }

    /// Whether pods may have IPv6 addresses.
    pub fn has_ipv6(&self) -> bool {
        self.has_ipv6
    }

    /// Whether the hook's program is attached by a clsact filter: then [`Self::attachment`] needs to know what holds
    /// [`Hook::filter_place`].
    pub fn attaches_by_filter(&self, hook: Hook) -> bool {
        self.modes.of(hook) == AttachMode::Clsact
    }

    /// Whether the program that is loaded now runs at the interface. This reads only. `holder`: the filter in the hook's
    /// place, if it is attached by one.
    pub fn attachment(
        &self,
        hook: Hook,
        interface: &str,
        holder: Option<FilterHolder>,
    ) -> Result<Attachment, DatapathError> {
        let loaded = self.loaded.ids.of(hook);
        match self.modes.of(hook) {
            AttachMode::Clsact => Ok(Attachment::by_filter(hook, loaded, holder)),
            AttachMode::Tcx => Ok(Attachment::by_links(loaded, &attach::ours_by_tcx(hook, interface)?)),
        }
    }

    /// Attaches a program to an interface. Fails with [`DatapathError::Occupied`] if there is a filter in its place.
    pub fn attach(&self, hook: Hook, interface: &str) -> Result<(), DatapathError> {
        match self.modes.of(hook) {
            AttachMode::Tcx => attach::attach_tcx(&self.pins, hook, interface),
            AttachMode::Clsact => attach::add_filter(&self.pins, hook, interface),
        }
    }

    /// Swaps the program of an earlier agent for the one that is loaded now. Call it for [`Attachment::Outdated`] only: this
    /// does not check whose filter it replaces.
    pub fn replace(&self, hook: Hook, interface: &str) -> Result<(), DatapathError> {
        match self.modes.of(hook) {
            AttachMode::Tcx => attach::attach_tcx(&self.pins, hook, interface),
            AttachMode::Clsact => attach::replace_filter(&self.pins, hook, interface),
        }
    }

    /// Removes what an agent in the other mode has left at an interface: it would run each packet a second time.
    /// `holder`: the filter in the hook's place, which stays if it is not ours.
    pub fn remove_other_mode(
        &self,
        hook: Hook,
        interface: &str,
        holder: Option<&FilterHolder>,
    ) -> Result<(), DatapathError> {
        match self.modes.of(hook) {
            AttachMode::Tcx if holder.is_some_and(|holder| holder.is_ours(hook)) => {
                attach::remove_filter(hook, interface)
            }
            AttachMode::Tcx => Ok(()),
            AttachMode::Clsact => {
                self.unpin(hook, interface)?;
                // An agent with another `bpffs_dir` may have pinned it too.
                let known = tcx_query::is_known().map_err(DatapathError::AskTcx)?;
                if known { attach::detach_tcx(hook, interface, None) } else { Ok(()) }
            }
        }
    }

    /// Takes a program off an interface that is about to be removed. Succeeds if the program or the interface is gone.
    pub fn detach(&self, hook: Hook, interface: &str) -> Result<(), DatapathError> {
        self.unpin(hook, interface)?;
        if self.attaches_by_filter(hook) {
            let _ = attach::remove_filter(hook, interface);
        }
        Ok(())
    }

    /// Removes what is pinned for an interface. Filters are not pinned: they go with their interface.
    pub fn unpin(&self, hook: Hook, interface: &str) -> Result<(), DatapathError> {
        unpin(&self.pins.link(hook, interface))
    }

    /// Pods' interfaces for which links are pinned, whether the interfaces exist or not.
    pub fn pinned_interfaces(&self) -> Result<BTreeSet<String>, DatapathError> {
        self.pins.endpoint_interfaces()
    }

    /// What keeps programs and maps from being pinned, if anything does.
    pub fn bpffs_problem(&self) -> Option<String> {
        bpffs::problem(&self.pins.root)
    }

    pub fn modes(&self) -> AttachModes {
        self.modes
    }

    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The flows that the programs refuse from now on, and those in the ring that were not read yet.
    pub fn events(&self) -> Result<EventSource, DatapathError> {
        EventSource::open(&self.pins)
    }
}
