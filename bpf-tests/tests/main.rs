//! Promises of the programs and of the tables they share with the agent, one file per hook or topic.

mod from_endpoint;
mod from_wire;
mod to_endpoint;
mod to_wire;

mod egress_choices;

mod conntrack;
mod counting;
mod forged;
mod full_tables;
mod half_open;
mod healing;

mod host_ports;
mod nat;
mod nat_ports;
mod transports;

mod bandwidth;
mod by_host;
mod circling;
mod fragments;
mod icmp_errors;

mod ipv6;
mod without_ipv6;

mod link_layer;
mod malformed;
mod martians;
mod neighbours;
mod not_ours;

mod delivery;
mod drop_reasons;
mod layers;
mod repairs;
mod shares;
mod sizes;
mod tables;
mod unproven;
mod verifier;
