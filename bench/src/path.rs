//! A path: one variant's way from one station to another, which loads are put on.

use std::net::Ipv4Addr;

use azure_cni_tests::Station;

use crate::{subject::PathKind, variant::Variant};

#[derive(Clone, Copy)]
pub(crate) struct Path<'bed> {
    pub(crate) variant: Variant,
    pub(crate) kind: PathKind,
    pub(crate) from: &'bed dyn Station,
    pub(crate) to: &'bed dyn Station,
    /// The source address that the far end must see; `None` where the sender may choose among its own.
    pub(crate) promised: Option<Ipv4Addr>,
}

impl<'bed> Path<'bed> {
    /// Between two pods of one VM.
    pub(crate) fn between(variant: Variant, from: &'bed dyn Station, to: &'bed dyn Station) -> Self {
        Self { variant, kind: PathKind::SameVm, from, to, promised: Some(from.address()) }
    }
}
