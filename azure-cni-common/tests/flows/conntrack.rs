//! The model's flows: `azure-cni-ebpf/src/conntrack.rs` over small tables.

use azure_cni_common::conntrack::{Event, Observed, Sender, State, Timeouts, is_worth_writing, observe};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Be16;
use azure_cni_common::flow::{Flow, FlowKey, Nat, Origin, Path, Side, Tuple};

use crate::node::{Key, Net, Node};

pub enum Tracking {
    Known { flow: Flow, is_opener: bool, is_settling: bool, is_refused: bool },
    New(Side),
}

impl<F: Net> Node<F> {
    pub fn track(&mut self, tuple: &Tuple<F::Address>, event: Event) -> Tracking {
        let now_ns = self.now_ns;
        let (key, side) = FlowKey::of(tuple);
        let is_in_flows = self.flows.get(&key).is_some();
        if let Some(flow) = self.flows.get(&key).or_else(|| self.opening.get(&key)) {
            if flow.is_live(now_ns)
                && let Observed::Continues(state) = observe(flow.state, flow.sender(side), event)
            {
                let is_settling = !is_in_flows && state.is_settled(flow.origin);
                let expires_ns = Timeouts::DEFAULT.expiry_ns(now_ns, key.protocol(), state);
                let is_refused = is_settling && !self.flows.insert(key, Flow { state, expires_ns, ..flow });
                if is_settling && !is_refused {
                    self.opening.remove(&key);
                } else if !is_settling && (state != flow.state || is_worth_writing(flow.expires_ns, expires_ns)) {
                    let entry = if is_in_flows { self.flows.get_mut(&key) } else { self.opening.get_mut(&key) };
                    *entry.unwrap() = Flow { state, expires_ns, ..flow };
                }
                return Tracking::Known { flow, is_opener: flow.opener == side, is_settling, is_refused };
            }
            self.flows.remove(&key);
            self.give_port_back(&key, &flow, side);
        }
        Tracking::New(side)
    }

    pub fn open(
        &mut self,
        tuple: &Tuple<F::Address>,
        event: Event,
        side: Side,
        origin: Origin,
        path: Path,
        nat: Nat,
    ) -> Result<Path, DropReason> {
        let flow = Flow::opened_by(side, origin, path, nat);
        self.remember(tuple, Flow { state: begin(Sender::Opener, event), ..flow })
    }

    pub fn open_translated(
        &mut self,
        tuple: &Tuple<F::Address>,
        event: Event,
        side: Side,
        path: Path,
        port: Be16,
    ) -> Result<Path, DropReason> {
        let flow = Flow::opened_by(side, Origin::NODE, path, Nat::TRANSLATED);
        self.remember(tuple, Flow { nat_port: port, state: begin(Sender::Opener, event), ..flow })
    }

    pub fn remember(&mut self, tuple: &Tuple<F::Address>, flow: Flow) -> Result<Path, DropReason> {
        let (key, _) = FlowKey::of(tuple);
        let expires_ns = Timeouts::DEFAULT.expiry_ns(self.now_ns, tuple.protocol, flow.state);
        let is_settled = flow.state.is_settled(flow.origin);
        if is_settled {
            self.opening.remove(&key);
        }
        let table = if is_settled { &mut self.flows } else { &mut self.opening };
        if table.insert(key, Flow { expires_ns, ..flow }) { Ok(flow.path) } else { Err(DropReason::FlowTableFull) }
    }

    pub fn decide(&mut self, tuple: &Tuple<F::Address>, nat: Nat, nat_port: Be16) {
        let (key, _) = FlowKey::of(tuple);
        let entry = self.flows.get_mut(&key).or_else(|| self.opening.get_mut(&key));
        if let Some(flow) = entry {
            *flow = Flow { nat, nat_port, ..*flow };
        }
    }

    pub fn peek(&self, key: &Key<F>) -> Option<Flow> {
        self.flows.get(key).or_else(|| self.opening.get(key)).filter(|flow| flow.is_live(self.now_ns))
    }
}

pub fn begin(sender: Sender, event: Event) -> State {
    match observe(State::NEW, sender, event) {
        Observed::Continues(state) => state,
        Observed::Restarts => State::NEW,
    }
}
