//! STATUS: whether an ADD of this network could succeed now. Runtimes poll it: it writes nothing and asks no server.

use std::sync::Arc;

use azure_cni_api::cni::{CniError, StatusCall};

use super::rejection::rejection;
use crate::agent::Agent;
use crate::findings::{self, Effect, Finding};

/// Fails with everything that keeps pods from being added.
pub async fn status(agent: &Arc<Agent>, call: StatusCall) -> Result<(), CniError> {
    if let Some(problem) = rejection(agent, &call.config) {
        return Err(CniError::invalid_config(problem));
    }
    verdict(&findings::of_adds(agent).await)
}

/// 51 where pods that exist are limited too, else 50.
fn verdict(findings: &[Finding]) -> Result<(), CniError> {
    let Some(problems) = findings::summary(findings) else { return Ok(()) };
    if findings.iter().any(|finding| finding.effect == Effect::PodsLimited) {
        return Err(CniError::limited_connectivity(problems)
            .with_details("no pod can be added, and those that exist may be cut off"));
    }
    Err(CniError::unavailable(problems).with_details("no pod can be added"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_whether_pods_that_exist_are_limited_and_the_message_has_every_finding() {
        let pool = || Finding { effect: Effect::NoNewPods, text: "pool".to_owned() };
        let uplink = || Finding { effect: Effect::PodsLimited, text: "uplink".to_owned() };
        let advice = || Finding { effect: Effect::None, text: "table".to_owned() };
        for (findings, code, message) in [
            (vec![], 0, ""),
            (vec![advice()], 0, ""),
            (vec![advice(), pool()], 50, "pool"),
            (vec![pool(), uplink()], 51, "pool; uplink"),
        ] {
            let outcome =
                verdict(&findings).map_or_else(|error| (u32::from(error.code), error.msg), |()| (0, String::new()));
            assert_eq!(outcome, (code, message.to_owned()));
        }
    }
}
