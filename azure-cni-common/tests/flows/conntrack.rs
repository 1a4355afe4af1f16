//! The model's flows: `azure-cni-ebpf/src/conntrack` over small tables.

use azure_cni_common::conntrack::{Arrival, Event, Observed, Origin, Seen, Sender, State, observe};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Be16, TCP};
use azure_cni_common::flow::{Flow, FlowKey, Nat, Path, Tuple};
use azure_cni_common::lifetime::Timeouts;

use crate::node::{Key, Net, Node, POD_FLOW_SHARE};
use crate::table::Table;

pub enum Tracking {
    Known { flow: Flow, is_initiator: bool, becomes_assured: bool, refusal: Option<DropReason> },
    New(NewFlow),
}

#[derive(Clone, Copy)]
pub struct NewFlow {
    from: Origin,
    seen: Seen,
}

impl<F: Net> Node<F> {
    pub fn track(&mut self, tuple: &Tuple<F::Address>, event: Event, from: Origin) -> Tracking {
        let now_ns = self.now_ns;
        let (key, side) = FlowKey::of(tuple);
        let is_in_flows = self.flows.get(&key).is_some();
        if let Some(flow) = self.flows.get(&key).or_else(|| self.unassured(&key).get(&key)) {
            let is_initiator = flow.initiator == side;
            let observed = flow.observe(side, from, event, now_ns);
            let (mut becomes_assured, mut refusal) = (false, None);
            match observed {
                _ if !flow.is_live(now_ns) => {}
                Observed::Restarts => {}
                Observed::Nothing => return Tracking::Known { flow, is_initiator, becomes_assured, refusal },
                Observed::Continues { mut seen, is_owed } => {
                    if !is_in_flows && seen.state.is_assured() {
                        let promoted = self.promote(&key, &flow, seen);
                        becomes_assured = promoted.is_ok();
                        refusal = promoted.err().filter(|_| key.protocol() == TCP);
                        seen = flow.seen();
                    }
                    let (expires_ns, is_worth_writing) =
                        flow.renewal(seen, is_owed, |timeout| Timeouts::DEFAULT.secs(timeout), now_ns);
                    if !becomes_assured && refusal.is_none() && is_worth_writing {
                        let table = if is_in_flows { &mut self.flows } else { self.unassured(&key) };
                        let Seen { state, numbers } = seen;
                        *table.get_mut(&key).unwrap() = Flow { state, numbers, expires_ns, ..flow };
                    }
                    return Tracking::Known { flow, is_initiator, becomes_assured, refusal };
                }
            }
            self.flows.remove(&key);
            self.release_port(&key, &flow, side);
        }
        Tracking::New(NewFlow { from, seen: begin(tuple.protocol, event, from, now_ns) })
    }

    /// How many assured flows a pod, or the host, has.
    pub fn flows_of(&self, owner: F::Address) -> usize {
        self.flows.iter().filter(|(key, flow)| *key.address_of(flow.node_side()) == owner).count()
    }

    fn promote(&mut self, key: &Key<F>, flow: &Flow, seen: Seen) -> Result<(), DropReason> {
        let owner = *key.address_of(flow.node_side());
        if self.is_pod(owner) && self.flows_of(owner) >= POD_FLOW_SHARE {
            return Err(DropReason::PodFlowShare);
        }
        let (expires_ns, _) = flow.renewal(seen, false, |timeout| Timeouts::DEFAULT.secs(timeout), self.now_ns);
        let Seen { state, numbers } = seen;
        let is_there = self.flows.insert(*key, Flow { state, numbers, expires_ns, ..*flow });
        if !is_there {
            return Err(DropReason::FlowTableFull);
        }
        self.unassured(key).remove(key);
        Ok(())
    }

    pub fn demote(&mut self, tuple: &Tuple<F::Address>) {
        let (key, _) = FlowKey::of(tuple);
        if let Some(flow) = self.flows.get(&key) {
            self.unassured(&key).insert(key, flow.demoted());
        }
        self.flows.remove(&key);
    }

    pub fn open(&mut self, tuple: &Tuple<F::Address>, new: &NewFlow, path: Path, nat: Nat) -> Result<Path, DropReason> {
        let (key, side) = FlowKey::of(tuple);
        self.remember(tuple, Flow::new(&key, side, new.from, path, nat, new.seen))
    }

    pub fn open_translated(
        &mut self,
        tuple: &Tuple<F::Address>,
        new: &NewFlow,
        path: Path,
        nat_port: Be16,
    ) -> Result<Path, DropReason> {
        let (key, side) = FlowKey::of(tuple);
        let flow = Flow::new(&key, side, new.from, path, Nat::TRANSLATED, new.seen);
        self.remember(tuple, Flow { nat_port, ..flow })
    }

    pub fn reopen_for_receiver(&mut self, tuple: &Tuple<F::Address>, nat_port: Be16) -> Result<Path, DropReason> {
        let seen = unseen(tuple.protocol, State(State::SEEN_REPLY), self.now_ns);
        let (key, side) = FlowKey::of(tuple);
        let flow = Flow::new(&key, side.other(), Origin::NODE, Path::STACK, Nat::TRANSLATED, seen);
        self.remember(tuple, Flow { nat_port, ..flow })
    }

    fn remember(&mut self, tuple: &Tuple<F::Address>, flow: Flow) -> Result<Path, DropReason> {
        let (key, _) = FlowKey::of(tuple);
        let (expires_ns, _) = flow.renewal(flow.seen(), false, |timeout| Timeouts::DEFAULT.secs(timeout), self.now_ns);
        let is_there = self.unassured(&key).insert(key, Flow { expires_ns, ..flow });
        if is_there { Ok(flow.path) } else { Err(DropReason::FlowTableFull) }
    }

    pub fn set_nat(&mut self, tuple: &Tuple<F::Address>, nat: Nat, nat_port: Be16) {
        let (key, _) = FlowKey::of(tuple);
        let table = if self.flows.get(&key).is_some() { &mut self.flows } else { self.unassured(&key) };
        if let Some(flow) = table.get_mut(&key) {
            *flow = Flow { nat, nat_port, ..*flow };
        }
    }

    pub fn lead_through_stack(&mut self, tuple: &Tuple<F::Address>) {
        let (key, _) = FlowKey::of(tuple);
        if let Some(flow) = self.unassured(&key).get_mut(&key) {
            flow.path = Path::STACK;
        }
    }

    pub fn peek(&self, key: &Key<F>) -> Option<Flow> {
        let unassured = if key.protocol() == TCP { &self.half_open } else { &self.datagrams };
        self.flows.get(key).or_else(|| unassured.get(key)).filter(|flow| flow.is_live(self.now_ns))
    }

    fn unassured(&mut self, key: &Key<F>) -> &mut Table<Key<F>, Flow> {
        if key.protocol() == TCP { &mut self.half_open } else { &mut self.datagrams }
    }
}

fn begin(protocol: u8, event: Event, from: Origin, now_ns: u64) -> Seen {
    let new = unseen(protocol, State::NEW, now_ns);
    match observe(new, from, &Arrival { sender: Sender::Initiator, from, now_ns, is_awaited: false }, event) {
        Observed::Continues { seen, .. } => seen,
        Observed::Nothing | Observed::Restarts => new,
    }
}

fn unseen(protocol: u8, datagram: State, now_ns: u64) -> Seen {
    if protocol == TCP { Seen::NEW } else { Seen::datagram(datagram, now_ns) }
}
