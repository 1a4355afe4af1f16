//! The output of the operator's command for a VM, as data.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    error::{Error, Result},
    vm::Vm,
};

/// The agent's background tasks finish within this time, also on a busy machine.
const STATUS_LIMIT: Duration = Duration::from_secs(20);

impl Vm {
    /// `azure-cni-ctl status --json`; it has problems exactly if the command ends with 1.
    pub fn status(&self) -> Result<Value> {
        let output = self.run_ctl(&["status", "--json"])?;
        let status: Value = parse("status", String::from_utf8_lossy(&output.stdout).into_owned())?;
        let problems = status["problems"].as_array().is_none_or(|problems| !problems.is_empty());
        if problems == output.status.success() {
            let problem = format!("it ended with {}", output.status);
            return Err(Error::Answer { command: "azure-cni-ctl status".into(), answer: status.to_string(), problem });
        }
        Ok(status)
    }

    /// Waits until the status is as wanted, and returns it. The error has the last one.
    pub fn await_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + STATUS_LIMIT;
        loop {
            // While the agent starts again, there is none to say.
            let status = self.status();
            if Instant::now() > deadline {
                status.as_ref().map_err(|error| Error::Answer {
                    command: "azure-cni-ctl status".into(),
                    answer: error.to_string(),
                    problem: format!("none within {STATUS_LIMIT:?}\n--- its log ---\n{}", self.agent_log()),
                })?;
            }
            let status = status.unwrap_or_default();
            if wanted(&status) {
                return Ok(status);
            }
            if Instant::now() > deadline {
                let problem = format!("not {what} within {STATUS_LIMIT:?}\n--- its log ---\n{}", self.agent_log());
                return Err(Error::Answer {
                    command: "azure-cni-ctl status".into(),
                    answer: status.to_string(),
                    problem,
                });
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// `azure-cni-ctl endpoints --json`.
    pub fn endpoints(&self) -> Result<Vec<Value>> {
        self.ctl_json("endpoints")
    }

    /// `azure-cni-ctl drops --json`: packets by the name of the reason.
    pub fn drops(&self) -> Result<BTreeMap<String, u64>> {
        let counters: Vec<Value> = self.ctl_json("drops")?;
        let named = |counter: &Value| Some((counter["name"].as_str()?.to_owned(), counter["packets"].as_u64()?));
        Ok(counters.iter().filter_map(named).collect())
    }

    /// The reasons for which packets were dropped so far, with their number.
    pub fn dropped(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self.drops()?.into_iter().filter(|(_, packets)| *packets > 0).collect())
    }

    /// `azure-cni-ctl events --json`: recently refused flows, the latest last.
    pub fn events(&self) -> Result<Vec<Value>> {
        self.ctl_json("events")
    }

    fn ctl_json<T: DeserializeOwned>(&self, command: &str) -> Result<T> {
        parse(command, self.ctl(&[command, "--json"])?)
    }
}

fn parse<T: DeserializeOwned>(command: &str, answer: String) -> Result<T> {
    serde_json::from_str(&answer).map_err(|error| Error::Answer {
        command: format!("azure-cni-ctl {command} --json"),
        answer,
        problem: error.to_string(),
    })
}
