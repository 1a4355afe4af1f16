//! The model's flows: `azure-cni-ebpf/src/conntrack.rs` over small tables.

use azure_cni_common::conntrack::{Event, Observed, Origin, Sender, State, Timeouts, is_worth_writing, observe};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Be16;
use azure_cni_common::flow::{Flow, FlowKey, Nat, Path, Side, Tuple};

use crate::node::{Key, Net, Node};

pub enum Tracking {
    Known { flow: Flow, is_initiator: bool, becomes_assured: bool, is_refused: bool },
    New(Side),
}

impl<F: Net> Node<F> {
    pub fn track(&mut self, tuple: &Tuple<F::Address>, event: Event) -> Tracking {
        let now_ns = self.now_ns;
        let (key, side) = FlowKey::of(tuple);
        let is_in_flows = self.flows.get(&key).is_some();
        if let Some(flow) = self.flows.get(&key).or_else(|| self.half_open.get(&key)) {
            if flow.is_live(now_ns)
                && let Observed::Continues(state) = observe(flow.state, flow.sender(side), event)
            {
                let becomes_assured = !is_in_flows && state.is_assured(flow.origin);
                let expires_ns = Timeouts::DEFAULT.expiry_ns(now_ns, key.protocol(), state);
                let is_refused = becomes_assured && !self.flows.insert(key, Flow { state, expires_ns, ..flow });
                if becomes_assured && !is_refused {
                    self.half_open.remove(&key);
                } else if !becomes_assured && (state != flow.state || is_worth_writing(flow.expires_ns, expires_ns)) {
                    let entry = if is_in_flows { self.flows.get_mut(&key) } else { self.half_open.get_mut(&key) };
                    *entry.unwrap() = Flow { state, expires_ns, ..flow };
                }
                return Tracking::Known { flow, is_initiator: flow.initiator == side, becomes_assured, is_refused };
            }
            self.flows.remove(&key);
            self.release_port(&key, &flow, side);
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
        let flow = Flow::new(side, origin, path, nat);
        self.remember(tuple, Flow { state: begin(Sender::Initiator, event), ..flow })
    }

    pub fn open_translated(
        &mut self,
        tuple: &Tuple<F::Address>,
        event: Event,
        side: Side,
        path: Path,
        port: Be16,
    ) -> Result<Path, DropReason> {
        let flow = Flow::new(side, Origin::NODE, path, Nat::TRANSLATED);
        self.remember(tuple, Flow { nat_port: port, state: begin(Sender::Initiator, event), ..flow })
    }

    pub fn remember(&mut self, tuple: &Tuple<F::Address>, flow: Flow) -> Result<Path, DropReason> {
        let (key, _) = FlowKey::of(tuple);
        let expires_ns = Timeouts::DEFAULT.expiry_ns(self.now_ns, tuple.protocol, flow.state);
        let is_assured = flow.state.is_assured(flow.origin);
        if is_assured {
            self.half_open.remove(&key);
        }
        let table = if is_assured { &mut self.flows } else { &mut self.half_open };
        if table.insert(key, Flow { expires_ns, ..flow }) { Ok(flow.path) } else { Err(DropReason::FlowTableFull) }
    }

    pub fn set_nat(&mut self, tuple: &Tuple<F::Address>, nat: Nat, nat_port: Be16) {
        let (key, _) = FlowKey::of(tuple);
        let entry = self.flows.get_mut(&key).or_else(|| self.half_open.get_mut(&key));
        if let Some(flow) = entry {
            *flow = Flow { nat, nat_port, ..*flow };
        }
    }

    pub fn peek(&self, key: &Key<F>) -> Option<Flow> {
        self.flows.get(key).or_else(|| self.half_open.get(key)).filter(|flow| flow.is_live(self.now_ns))
    }
}

pub fn begin(sender: Sender, event: Event) -> State {
    match observe(State::NEW, sender, event) {
        Observed::Continues(state) => state,
        Observed::Restarts => State::NEW,
    }
}
