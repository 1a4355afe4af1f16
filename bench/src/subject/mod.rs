//! What there is to measure, as filters and reports call it. Pure names: nothing here measures.

mod load_kind;
mod mode;
mod path_kind;
mod scale;
mod topic;

pub(crate) use load_kind::LoadKind;
pub(crate) use mode::Mode;
pub(crate) use path_kind::PathKind;
pub(crate) use scale::Scale;
pub(crate) use topic::Topic;
