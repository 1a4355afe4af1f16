//! Watches a node from outside and remembers what the node should: what is promised is checked after every step.

use azure_cni_common::family::{Be16, Family, TCP};
use azure_cni_common::flow::{Flow, FlowKey, Nat, Tuple};
use azure_cni_common::nat::{NatHolder, NatKey};

use crate::node::{Key, NODE, Net, Node, Outcome, Place};
use crate::table::Table;
use crate::traffic::{Lost, PacketKind, Scene, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    RepliesKeepTheirSource,
    PortsAreHeldOnce,
    RepliesComeBack,
    AssuredFlowsStay,
    AssuredTranslationsStay,
    LostHalvesComeBack,
    ForgedChangesNothing,
}

type Tuples<F> = Tuple<<F as Family>::Address>;

pub struct Watch<F: Net> {
    node: Node<F>,
    promise: Promise,
    /// Flows that were opened from outside at a pod's own address, whatever the node still knows of them.
    from_outside: Vec<Key<F>>,
    /// Flows whose translation was lost, or refused its place, until their initiator goes on.
    halved: Vec<Key<F>>,
    /// Assured flows that were lost with their translation left behind, in their initiator's direction, with their port.
    orphaned: Vec<(Tuples<F>, Be16)>,
    /// Translated packets: as the pod sent them, and as they left.
    sent: Vec<(Tuples<F>, Tuples<F>)>,
}

impl<F: Net> Watch<F> {
    pub fn new(scene: &Scene, promise: Promise) -> Self {
        let node = Node::new(scene.services, scene.snat);
        Self { node, promise, from_outside: vec![], halved: vec![], orphaned: vec![], sent: vec![] }
    }

    pub fn step(&mut self, step: Step) -> Result<(), String> {
        let before = self.node.flows.clone();
        match step {
            Step::FromPod(ends, kind) => self.from_pod(ends.from_near::<F>(kind), kind)?,
            Step::GoOn(back, kind) => {
                if let Some((tuple, _)) = self.earlier(back, kind) {
                    self.from_pod(tuple, kind)?;
                }
            }
            Step::FromHost(ends, kind) => {
                let _ = self.node.from_host(ends.from_near::<F>(kind), kind.event());
            }
            Step::FromWire(ends, kind) => self.from_wire(ends.from_remote::<F>(kind), kind)?,
            Step::Answer(back, kind) => {
                if let Some((_, wire)) = self.earlier(back, kind) {
                    self.from_wire(wire.reversed(), kind)?;
                }
            }
            Step::Pass(ns) => self.node.now_ns += ns,
            Step::Lose(table, n) => self.lose(table, n),
            Step::Sweep => self.sweep(),
        }
        for (key, holder) in self.node.half_open_translations.take_evicted() {
            self.halve(&key, &holder);
        }
        self.check_assured(&before, step)?;
        self.check_pairs()
    }

    /// An earlier translated packet that may be followed by such a one.
    fn earlier(&self, back: usize, kind: PacketKind) -> Option<(Tuples<F>, Tuples<F>)> {
        let protocol = match kind {
            PacketKind::Tcp(_) | PacketKind::Forged(_) => 6,
            PacketKind::Udp => 17,
            PacketKind::Ping | PacketKind::Pong => F::ICMP,
            PacketKind::Other => 50,
        };
        self.sent.iter().rev().filter(|(tuple, _)| tuple.protocol == protocol).nth(back).copied()
    }

    fn expect(&self, promise: Promise, holds: bool, what: impl Fn() -> String) -> Result<(), String> {
        if holds || promise != self.promise { Ok(()) } else { Err(what()) }
    }

    fn from_pod(&mut self, tuple: Tuples<F>, kind: PacketKind) -> Result<(), String> {
        let (key, side) = FlowKey::of(&tuple);
        let event = kind.event();
        let known = self.node.peek(&key);
        let orphan = self.take_orphan(&tuple);
        let outcome = self.node.from_pod(tuple, event);
        let translated = self.translated_port(&outcome);
        let is_unproven = |flow: &Flow| key.protocol() == TCP && !flow.is_assured();
        let is_new = |flow: &Flow| event.opens() && (flow.state.is_closing() || is_unproven(flow));
        let goes_on = known.is_some_and(|flow| flow.initiator != side && !is_new(&flow));
        if event.opens() && !goes_on {
            self.from_outside.retain(|known| *known != key);
        }
        if self.from_outside.contains(&key) {
            self.expect(Promise::RepliesKeepTheirSource, translated.is_none(), || format!("{tuple:?} is a reply"))?;
        }
        if let Some(port) = orphan
            && outcome.is_ok()
        {
            let is_whole = translated == Some(port) || (event.opens() && translated.is_some());
            self.expect(Promise::LostHalvesComeBack, is_whole, || format!("{tuple:?} left as {outcome:?}"))?;
        }
        if translated.is_some()
            && let Ok((_, wire)) = outcome
        {
            self.halved.retain(|halved| *halved != key);
            self.sent.push((tuple, wire));
            let holder = self.node.holder_of(&NatKey::for_incoming(&wire.reversed()));
            let comes_back =
                holder.is_some_and(|holder| (holder.address, holder.port) == (tuple.source, tuple.source_port));
            self.expect(Promise::RepliesComeBack, comes_back, || format!("{tuple:?} left as {wire:?}"))?;
        } else if outcome.is_err() {
            self.halved.push(key);
        }
        Ok(())
    }

    /// A forged segment leaves every live flow as it is, and opens none but by a SYN.
    fn from_wire(&mut self, tuple: Tuples<F>, kind: PacketKind) -> Result<(), String> {
        let (flows, half_open) = (self.node.flows.clone(), self.node.half_open.clone());
        self.arrives(tuple, kind)?;
        let PacketKind::Forged(flags) = kind else { return Ok(()) };
        let opens = kind.event().opens();
        for (key, flow) in flows.iter().filter(|(_, flow)| flow.is_live(self.node.now_ns)) {
            let stays = self.node.flows.get(&key) == Some(flow) || (opens && flow.state.is_closing());
            self.expect(Promise::ForgedChangesNothing, stays, || format!("{flags:#x} of {tuple:?}: {flow:?}"))?;
        }
        let is_its_own = tuple.destination != F::address(NODE);
        for (key, flow) in self.node.half_open.iter().filter(|_| is_its_own && !opens) {
            let is_known = half_open.get(&key) == Some(flow);
            self.expect(Promise::ForgedChangesNothing, is_known, || format!("{flags:#x} of {tuple:?}: {flow:?}"))?;
        }
        Ok(())
    }

    fn arrives(&mut self, tuple: Tuples<F>, kind: PacketKind) -> Result<(), String> {
        let (key, side) = FlowKey::of(&tuple);
        let wire = NatKey::for_incoming(&tuple);
        let holder = self.node.holder_of(&wire).filter(|holder| holder.address != F::address(NODE));
        let Some(holder) = holder.filter(|_| tuple.destination == F::address(NODE)) else {
            let _ = self.node.from_wire(tuple, kind.event());
            let opened = self.node.peek(&key).is_some_and(|flow| flow.initiator == side && flow.nat != Nat::TRANSLATED);
            if opened && tuple.destination != F::address(NODE) && !self.from_outside.contains(&key) {
                self.from_outside.push(key);
            }
            return Ok(());
        };
        let asked = holder.initiator_tuple(&wire);
        let orphan = self.take_orphan(&asked);
        let outcome = self.node.from_wire(tuple, kind.event());
        let (key, initiator) = FlowKey::of(&asked);
        if outcome.is_err() {
            self.halved.push(key);
        }
        // It was sent to the node's port: a reply from there is no reply to what came to the pod's own address.
        if self.node.peek(&key).is_some_and(|flow| flow.initiator == initiator) {
            self.from_outside.retain(|known| *known != key);
        }
        if orphan.is_some() && outcome.is_ok() {
            let flow = self.node.peek(&key);
            let is_whole = outcome == Ok((Place::Pod, asked.reversed()))
                && flow.is_some_and(|flow| flow.nat == Nat::TRANSLATED && flow.nat_port == wire.node_port);
            self.expect(Promise::LostHalvesComeBack, is_whole, || format!("{tuple:?} came as {outcome:?}"))?;
        }
        Ok(())
    }

    fn translated_port(&self, outcome: &Outcome<F::Address>) -> Option<Be16> {
        let (_, tuple) = outcome.as_ref().ok()?;
        if tuple.source == F::address(NODE) { Some(tuple.source_port) } else { None }
    }

    /// The port that a lost flow is to have again, if its translation is still there.
    fn take_orphan(&mut self, tuple: &Tuples<F>) -> Option<Be16> {
        let at = self.orphaned.iter().position(|(orphan, _)| orphan == tuple || orphan.reversed() == *tuple)?;
        let (sent, port) = self.orphaned.remove(at);
        let holder = self.node.holder_of(&NatKey::for_outgoing(&sent, F::address(NODE), port))?;
        let is_its_own = (holder.address, holder.port) == (tuple.source, tuple.source_port);
        if is_its_own && self.node.peek(&FlowKey::of(tuple).0).is_none() { Some(port) } else { None }
    }

    fn halve(&mut self, key: &NatKey<F::Address>, holder: &NatHolder<F::Address>) {
        self.halved.push(FlowKey::of(&holder.initiator_tuple(key)).0);
    }

    fn lose(&mut self, table: Lost, n: usize) {
        let (flows, translations) = match table {
            Lost::Flow => (Some(&mut self.node.flows), None),
            Lost::HalfOpen => (Some(&mut self.node.half_open), None),
            Lost::Datagram => (Some(&mut self.node.datagrams), None),
            Lost::Translation => (None, Some(&mut self.node.translations)),
            Lost::HalfOpenTranslation => (None, Some(&mut self.node.half_open_translations)),
        };
        if let Some((key, flow)) = flows.and_then(|table| table.remove_nth(n)) {
            let is_assured = flow.is_live(self.node.now_ns) && flow.is_assured();
            if is_assured && flow.nat == Nat::TRANSLATED {
                self.orphaned.push((key.tuple_from(flow.initiator), flow.nat_port));
            }
        }
        if let Some((key, holder)) = translations.and_then(|table| table.remove_nth(n)) {
            self.halve(&key, &holder);
        }
    }

    /// Flows that are over go, and translations without a flow.
    fn sweep(&mut self) {
        let now_ns = self.node.now_ns;
        for (key, _) in self.node.flows.clone().iter().filter(|(_, flow)| !flow.is_live(now_ns)) {
            self.node.flows.remove(&key);
        }
        for (key, holder) in self.node.translations.clone().iter() {
            let flow = self.node.peek(&FlowKey::of(&holder.initiator_tuple(&key)).0);
            if !holder.is_claiming(now_ns) && !flow.is_some_and(|flow| flow.holds_port(key.node_port)) {
                self.node.translations.remove(&key);
            }
        }
    }

    fn check_assured(&self, before: &Table<Key<F>, Flow>, step: Step) -> Result<(), String> {
        if matches!(step, Step::Lose(..)) {
            return Ok(());
        }
        for (key, flow) in before.iter().filter(|(_, flow)| flow.is_live(self.node.now_ns)) {
            let after = self.node.flows.get(&key);
            let is_there = after.is_some_and(|after| after.initiator == flow.initiator && after.origin == flow.origin);
            self.expect(Promise::AssuredFlowsStay, is_there || flow.state.is_closing(), || {
                format!("{flow:?} is {after:?}")
            })?;
        }
        Ok(())
    }

    fn live_flows(&self) -> impl Iterator<Item = (Key<F>, Flow)> {
        let keys = self
            .node
            .flows
            .iter()
            .chain(self.node.half_open.iter())
            .chain(self.node.datagrams.iter())
            .map(|(key, _)| key);
        let mut live: Vec<(Key<F>, Flow)> = Vec::new();
        for key in keys {
            if let Some(flow) = self.node.peek(&key)
                && !live.iter().any(|(known, _)| *known == key)
            {
                live.push((key, flow));
            }
        }
        live.into_iter().filter(|(key, _)| !self.halved.contains(key))
    }

    /// Every live translated flow whose translation was not lost has it, and has it alone.
    fn check_pairs(&self) -> Result<(), String> {
        let mut held: Vec<NatKey<F::Address>> = Vec::new();
        for (key, flow) in self.live_flows().filter(|(_, flow)| flow.nat == Nat::TRANSLATED) {
            let opening = key.tuple_from(flow.initiator);
            let wire = NatKey::for_outgoing(&opening, F::address(NODE), flow.nat_port);
            self.expect(Promise::PortsAreHeldOnce, !held.contains(&wire), || format!("{wire:?} is held twice"))?;
            held.push(wire);
            let is_ours = |holder: NatHolder<F::Address>| holder.initiator_tuple(&wire) == opening;
            let comes_back = self.node.holder_of(&wire).is_some_and(is_ours);
            self.expect(Promise::RepliesComeBack, comes_back, || format!("{opening:?} of {wire:?}: {flow:?}"))?;
            let is_assured = flow.is_assured() && self.node.flows.get(&key).is_some();
            let stays = !is_assured || self.node.translations.get(&wire).is_some_and(is_ours);
            self.expect(Promise::AssuredTranslationsStay, stays, || format!("{wire:?} is still half-open: {flow:?}"))?;
        }
        Ok(())
    }
}
