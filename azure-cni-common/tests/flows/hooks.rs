//! The data path of one node on the host: the hooks' steps over the tables of the model.
//!
//! Each function is the one of the same name in `azure-cni-ebpf`; the decisions are the same code. What is left out: other
//! CPUs, hop limits, fragments, ICMP errors, and what the host's stack does to a packet's addresses.

use azure_cni_common::conntrack::{Event, Origin, may_open_from_outside};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::egress::{self, RouteClass, SnatPolicy};
use azure_cni_common::family::Be16;
use azure_cni_common::flow::{Flow, Nat, Path, Tuple};
use azure_cni_common::nat::{NatHolder, NatKey};

use crate::conntrack::{NewFlow, Tracking};
use crate::node::{NODE, Net, Node, Outcome, Place};

impl<F: Net> Node<F> {
    /// `from_endpoint`, then what the stack and `to_wire` do.
    pub fn from_pod(&mut self, tuple: Tuple<F::Address>, event: Event) -> Outcome<F::Address> {
        match self.track(&tuple, event, Origin::NODE) {
            Tracking::Known { flow, is_initiator, becomes_assured, refusal } => {
                if flow.path != Path::LOCAL && flow.path != Path::WIRE {
                    let is_translated = is_initiator && flow.nat == Nat::TRANSLATED;
                    if becomes_assured && is_translated && !self.promote_outgoing(&tuple, flow.nat_port) {
                        self.demote(&tuple);
                    }
                    return self.stack_from_pod(tuple, event);
                }
                if let Some(reason) = refusal {
                    return Err(reason);
                }
                if is_initiator && flow.nat == Nat::TRANSLATED {
                    let port = self.known_port_of(&flow, &tuple, becomes_assured)?;
                    return Ok((Place::Wire, self.translated(tuple, port)));
                }
                if self.is_pod(tuple.destination) {
                    return Ok((Place::Pod, tuple));
                }
                Ok((Place::Wire, tuple))
            }
            Tracking::New(new) => self.new_flow(tuple, event, new),
        }
    }

    fn new_flow(&mut self, tuple: Tuple<F::Address>, event: Event, new: NewFlow) -> Outcome<F::Address> {
        if event.answers() {
            return self.stack_from_pod(tuple, event);
        }
        if self.is_pod(tuple.destination) {
            self.open(&tuple, &new, Path::LOCAL, Nat::KEEP)?;
            return Ok((Place::Pod, tuple));
        }
        let class = self.route(tuple.destination);
        let egress = egress::from_pod(class, self.services, self.snat, event);
        if egress.path == Path::STACK {
            if event.opens() || class.is_hosts() {
                let _ = self.open(&tuple, &new, egress.path, egress.nat);
            }
            return self.stack_from_pod(tuple, event);
        }
        if egress.nat == Nat::TRANSLATED {
            let port = self.claim(&tuple)?;
            self.open_claimed(&tuple, &new, egress.path, port)?;
            return Ok((Place::Wire, self.translated(tuple, port)));
        }
        if event.opens() || class == RouteClass::VNET {
            self.open(&tuple, &new, egress.path, egress.nat)?;
        } else if let Some(port) = self.find_held_port(&tuple) {
            self.open_translated(&tuple, &new, egress.path, port)?;
            return Ok((Place::Wire, self.translated(tuple, port)));
        }
        Ok((Place::Wire, tuple))
    }

    fn stack_from_pod(&mut self, tuple: Tuple<F::Address>, event: Event) -> Outcome<F::Address> {
        if self.route(tuple.destination) == RouteClass::HOST {
            return Ok((Place::Host, tuple));
        }
        self.to_wire(tuple, event)
    }

    fn to_wire(&mut self, tuple: Tuple<F::Address>, event: Event) -> Outcome<F::Address> {
        let tracking = self.track(&tuple, event, Origin::NODE);
        let port = match &tracking {
            Tracking::Known { is_initiator: false, .. } => return Ok((Place::Wire, tuple)),
            Tracking::Known { flow, becomes_assured, .. } if flow.nat == Nat::TRANSLATED => {
                self.known_port_of(flow, &tuple, *becomes_assured)?
            }
            Tracking::Known { flow, .. } if flow.nat != Nat::UNDECIDED => return Ok((Place::Wire, tuple)),
            tracking => {
                let class = self.route(tuple.destination);
                if let Some(port) = self.find_held_port(&tuple).filter(|_| !event.opens()) {
                    match tracking {
                        Tracking::Known { .. } => self.set_nat(&tuple, Nat::TRANSLATED, port),
                        Tracking::New(new) => {
                            self.open_translated(&tuple, new, Path::STACK, port)?;
                        }
                    }
                    return Ok((Place::Wire, self.translated(tuple, port)));
                }
                if egress::at_the_wire(class, self.snat, event) != Nat::TRANSLATED {
                    match tracking {
                        Tracking::Known { .. } => self.set_nat(&tuple, Nat::KEEP, Be16(0)),
                        Tracking::New(new) if event.opens() => {
                            self.open(&tuple, new, Path::STACK, Nat::KEEP)?;
                        }
                        Tracking::New(_) => {}
                    }
                    return Ok((Place::Wire, tuple));
                }
                let port = self.claim(&tuple)?;
                match tracking {
                    Tracking::Known { .. } => self.set_nat(&tuple, Nat::TRANSLATED, port),
                    Tracking::New(new) => self.open_claimed(&tuple, new, Path::STACK, port)?,
                }
                port
            }
        };
        Ok((Place::Wire, self.translated(tuple, port)))
    }

    fn known_port_of(
        &mut self,
        flow: &Flow,
        tuple: &Tuple<F::Address>,
        becomes_assured: bool,
    ) -> Result<Be16, DropReason> {
        let port = self.port_of(flow, tuple)?;
        if becomes_assured && !self.promote_outgoing(tuple, port) {
            self.demote(tuple);
        }
        Ok(port)
    }

    /// A socket of the host sends from the node's own address.
    pub fn from_host(&mut self, tuple: Tuple<F::Address>, event: Event) -> Outcome<F::Address> {
        if !Self::can_be_held(tuple.source_port) {
            return Ok((Place::Wire, tuple));
        }
        match self.track(&tuple, event, Origin::NODE) {
            Tracking::New(_) if !self.is_translated_for_pods(tuple.destination) => {}
            Tracking::New(new) if event.opens() => match self.reserve_for_host(&tuple) {
                Ok(()) => {
                    let _ = self.open(&tuple, &new, Path::HOST, Nat::KEEP);
                }
                Err(DropReason::HostPortTaken) => return Err(DropReason::HostPortTaken),
                Err(_) => {}
            },
            Tracking::Known { becomes_assured: true, .. } if !self.promote_outgoing(&tuple, tuple.source_port) => {
                self.demote(&tuple);
            }
            _ => {}
        }
        Ok((Place::Wire, tuple))
    }

    pub fn from_wire(&mut self, tuple: Tuple<F::Address>, event: Event) -> Outcome<F::Address> {
        if tuple.destination == F::address(NODE) {
            return match self.holder_of(&NatKey::for_incoming(&tuple)) {
                None => Ok((Place::Host, tuple)),
                Some(holder) if holder.address == F::address(NODE) => {
                    if let Tracking::Known { becomes_assured: true, .. } = self.track(&tuple, event, Origin::OUTSIDE) {
                        self.promote_translation(&tuple, tuple.destination_port, F::address(NODE));
                    }
                    Ok((Place::Host, tuple))
                }
                Some(holder) => self.reply(tuple, event, holder),
            };
        }
        let path = match self.track(&tuple, event, Origin::OUTSIDE) {
            Tracking::Known { flow, refusal: Some(reason), .. } if flow.path != Path::STACK => return Err(reason),
            Tracking::Known { flow, becomes_assured, .. } => {
                if becomes_assured
                    && flow.nat == Nat::TRANSLATED
                    && !self.promote_translation(&tuple, flow.nat_port, tuple.destination)
                {
                    return Err(DropReason::NatTableFull);
                }
                flow.path
            }
            Tracking::New(new) if event.opens() && Self::may_open_from_outside(&tuple) => {
                self.open(&tuple, &new, Path::WIRE, Nat::KEEP)?
            }
            Tracking::New(_) => Path::WIRE,
        };
        self.deliver(tuple, event, path)
    }

    fn reply(&mut self, wire: Tuple<F::Address>, event: Event, holder: NatHolder<F::Address>) -> Outcome<F::Address> {
        let tuple = Tuple { destination: holder.address, destination_port: holder.port, ..wire };
        let path = match self.track(&tuple, event, Origin::OUTSIDE) {
            Tracking::Known { flow, refusal: Some(reason), .. } if flow.path != Path::STACK => return Err(reason),
            Tracking::Known { flow, becomes_assured, .. } => {
                if becomes_assured && !self.promote_translation(&tuple, wire.destination_port, tuple.destination) {
                    self.demote(&tuple);
                    return Err(DropReason::NatTableFull);
                }
                flow.path
            }
            Tracking::New(_) => self.reopen_for_receiver(&tuple, wire.destination_port)?,
        };
        self.deliver(tuple, event, path)
    }

    /// Straight to the pod, or through the stack and `to_endpoint`.
    fn deliver(&mut self, tuple: Tuple<F::Address>, event: Event, path: Path) -> Outcome<F::Address> {
        if path == Path::STACK {
            match self.track(&tuple, event, Origin::OUTSIDE) {
                Tracking::New(new) if event.opens() && Self::may_open_from_outside(&tuple) => {
                    let _ = self.open(&tuple, &new, Path::STACK, Nat::KEEP);
                }
                Tracking::Known { flow, becomes_assured, .. }
                    if !flow.is_assured() && !becomes_assured && flow.path != Path::STACK && event.opens() =>
                {
                    self.lead_through_stack(&tuple);
                }
                _ => {}
            }
        }
        Ok((Place::Pod, tuple))
    }

    fn may_open_from_outside(tuple: &Tuple<F::Address>) -> bool {
        let Tuple { source_port, destination_port, protocol, .. } = *tuple;
        may_open_from_outside(protocol, source_port, destination_port)
    }

    fn is_translated_for_pods(&self, destination: F::Address) -> bool {
        let any_pod = SnatPolicy { pod_keeps_source: false, ..self.snat };
        egress::at_the_wire(self.route(destination), any_pod, Event::DATAGRAM) == Nat::TRANSLATED
    }

    fn translated(&self, tuple: Tuple<F::Address>, port: Be16) -> Tuple<F::Address> {
        Tuple { source: F::address(NODE), source_port: port, ..tuple }
    }
}
