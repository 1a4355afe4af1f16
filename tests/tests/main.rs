//! Tests of the whole system, one file per topic: the real agent and plugin, real sockets, and a VNet of namespaces.

mod bandwidth;
mod dual_stack;
mod encapsulation;
mod fabric;
mod forwarding;
mod guests;
mod inbound;
mod many_services;
mod neighbours;
mod paths;
mod probes;
mod rule_reader;
mod service_addresses;
mod services;
mod uplink_routes;

mod fragments;
mod nat;
mod pmtu;
mod pressure;
mod refused;

mod address_requests;
mod calls;
mod cni_check;
mod cni_gc;
mod cni_protocol;
mod cni_refusals;
mod cni_requests;
mod cni_status;
mod cni_verbs;
mod further_attachments;
mod parallel;

mod cns;
mod pool;
mod pool_services;
mod sources;
mod withheld;

mod agent_away;
mod crash;
mod faults;
mod foreign_programs;
mod live;
mod node_changes;
mod node_routes;
mod node_settings;
mod own_networks;
mod reconcile;
mod restart;
mod sizes;
mod start;
mod store;
mod two_agents;
mod vanishing;

mod documents;
