//! The model's translations: `azure-cni-ebpf/src/nat.rs` over small tables.

use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Be16, Family};
use azure_cni_common::flow::{Flow, FlowKey, Nat, Path, Side, Tuple};
use azure_cni_common::nat::{Candidates, MAX_TAKE_OVERS, MAX_TRIES, NatHolder, NatKey, SearchKeys, share::BLOCKS};

use crate::conntrack::NewFlow;
use crate::node::{Key, NODE, Net, Node, PORTS};

type Wire<F> = NatKey<<F as Family>::Address>;
type Holder<F> = NatHolder<<F as Family>::Address>;

impl<F: Net> Node<F> {
    pub fn can_be_held(port: Be16) -> bool {
        port == Be16(0) || PORTS.contains(port.to_host())
    }

    pub fn holder_of(&self, key: &Wire<F>) -> Option<Holder<F>> {
        let holder = self.translations.get(key).or_else(|| self.half_open_translations.get(key));
        holder.filter(|_| Self::can_be_held(key.node_port))
    }

    /// What a packet's translation to this port is kept under, and who holds it then.
    fn claim_of(&self, tuple: &Tuple<F::Address>, port: Be16) -> (Wire<F>, Holder<F>) {
        let holder = NatHolder::new(tuple.source, tuple.source_port, self.now_ns);
        (NatKey::for_outgoing(tuple, F::address(NODE), port), holder)
    }

    /// `tuple` is the reply's, as the holder sees it.
    pub fn promote_translation(&mut self, tuple: &Tuple<F::Address>, port: Be16, holder: F::Address) -> bool {
        let key = NatKey { node: F::address(NODE), node_port: port, ..NatKey::for_incoming(tuple) };
        self.establish(key, NatHolder::new(holder, tuple.destination_port, self.now_ns))
    }

    /// The same for a packet of the holder's own.
    pub fn promote_outgoing(&mut self, tuple: &Tuple<F::Address>, port: Be16) -> bool {
        let (key, ours) = self.claim_of(tuple, port);
        self.establish(key, ours)
    }

    fn establish(&mut self, key: Wire<F>, holder: Holder<F>) -> bool {
        if self.translations.get(&key).is_none() && !self.translations.insert(key, holder) {
            return false;
        }
        self.half_open_translations.remove(&key);
        true
    }

    pub fn open_claimed(
        &mut self,
        tuple: &Tuple<F::Address>,
        new: &NewFlow,
        path: Path,
        port: Be16,
    ) -> Result<(), DropReason> {
        let opened = self.open_translated(tuple, new, path, port);
        if opened.is_err() {
            self.half_open_translations.remove(&NatKey::for_outgoing(tuple, F::address(NODE), port));
        }
        opened.map(|_| ())
    }

    pub fn release_port(&mut self, key: &Key<F>, flow: &Flow, side: Side) {
        if flow.nat != Nat::TRANSLATED || flow.initiator != side {
            return;
        }
        let (held, ours) = self.claim_of(&key.tuple_from(flow.initiator), flow.nat_port);
        for table in [&mut self.translations, &mut self.half_open_translations] {
            if table.get(&held).is_some_and(|holder| holder.is_same(&ours)) {
                table.remove(&held);
            }
        }
    }

    pub fn port_of(&mut self, flow: &Flow, tuple: &Tuple<F::Address>) -> Result<Be16, DropReason> {
        let (key, ours) = self.claim_of(tuple, flow.nat_port);
        let is_assured = flow.is_assured();
        let table = if is_assured { &self.translations } else { &self.half_open_translations };
        if table.get(&key).is_some_and(|holder| holder.is_same(&ours)) {
            return Ok(flow.nat_port);
        }
        self.heal(tuple, flow.nat_port, is_assured)
    }

    fn heal(&mut self, tuple: &Tuple<F::Address>, port: Be16, is_assured: bool) -> Result<Be16, DropReason> {
        let (key, ours) = self.claim_of(tuple, port);
        let port = if self.hold(key, ours) { port } else { self.claim(tuple)? };
        self.set_nat(tuple, Nat::TRANSLATED, port);
        let (key, ours) = self.claim_of(tuple, port);
        if is_assured && !self.establish(key, ours) {
            return Err(DropReason::NatTableFull);
        }
        Ok(port)
    }

    pub fn reserve_for_host(&mut self, tuple: &Tuple<F::Address>) -> Result<(), DropReason> {
        let (key, ours) = self.claim_of(tuple, tuple.source_port);
        if self.hold(key, ours) || self.take_over(key, ours) { Ok(()) } else { Err(DropReason::HostPortTaken) }
    }

    pub fn claim(&mut self, tuple: &Tuple<F::Address>) -> Result<Be16, DropReason> {
        let candidates = candidates::<F>(tuple);
        for try_number in 0..MAX_TRIES {
            let Some(port) = candidates.port(try_number) else { break };
            let (key, ours) = self.claim_of(tuple, port);
            if self.hold(key, ours) || try_number == 0 && self.take_over(key, ours) {
                return Ok(port);
            }
        }
        for try_number in 0..MAX_TAKE_OVERS {
            let Some(port) = candidates.port(try_number) else { break };
            let (key, ours) = self.claim_of(tuple, port);
            if self.take_over(key, ours) {
                return Ok(port);
            }
        }
        Err(if candidates.has_ports() { DropReason::NatPortsExhausted } else { DropReason::NatAddressTaken })
    }

    pub fn find_held_port(&self, tuple: &Tuple<F::Address>) -> Option<Be16> {
        let candidates = candidates::<F>(tuple);
        (0..MAX_TAKE_OVERS).map_while(|try_number| candidates.port(try_number)).find(|port| {
            let (key, ours) = self.claim_of(tuple, *port);
            self.translations.get(&key).is_some_and(|holder| holder.is_same(&ours))
        })
    }

    fn hold(&mut self, key: Wire<F>, ours: Holder<F>) -> bool {
        if let Some(present) = self.half_open_translations.get(&key) {
            return present.is_same(&ours);
        }
        self.half_open_translations.insert(key, ours);
        let Some(established) = self.translations.get(&key) else { return true };
        self.half_open_translations.remove(&key);
        established.is_same(&ours)
    }

    fn take_over(&mut self, key: Wire<F>, ours: Holder<F>) -> bool {
        let holders = [self.translations.get(&key), self.half_open_translations.get(&key)];
        if holders.into_iter().flatten().any(|holder| self.is_in_use(&key, &holder)) {
            return false;
        }
        self.translations.remove(&key);
        self.half_open_translations.insert(key, ours)
    }

    fn is_in_use(&self, key: &Wire<F>, holder: &Holder<F>) -> bool {
        let (holding, initiator) = FlowKey::of(&holder.initiator_tuple(key));
        holder.is_claiming(self.now_ns)
            || self.peek(&holding).is_some_and(|flow| flow.initiator == initiator && flow.holds_port(key.node_port))
    }
}

fn candidates<F: Net>(tuple: &Tuple<F::Address>) -> Candidates {
    Candidates::new(PORTS, BLOCKS, tuple.protocol, F::ICMP, tuple.source_port, SearchKeys::of(7, tuple))
}
