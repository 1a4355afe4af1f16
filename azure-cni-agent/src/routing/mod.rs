mod masq;
pub use masq::{MasqError, Snapshot};
