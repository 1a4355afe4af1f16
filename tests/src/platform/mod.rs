//! The platform's services that list addresses, and azure-cns, as fakes that speak real HTTP at their real addresses, and
//! fail as a test wants them to.

mod cns;
mod fault;
mod http;
mod lister;
mod listing;

pub use cns::{Cns, CnsCall};
pub use fault::Fault;
pub use lister::{Lister, Service};
pub use listing::Listing;
