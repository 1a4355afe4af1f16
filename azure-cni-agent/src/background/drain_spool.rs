//! Executes the requests in the spool: a plugin may have written one just before this agent listened.

use std::sync::Arc;

use crate::agent::Agent;
use crate::verbs::spool;

pub(super) async fn drain_spool(agent: &Arc<Agent>) -> anyhow::Result<()> {
    spool::sweep(agent).await?;
    Ok(())
}
