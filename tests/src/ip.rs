//! Builds and reads namespaces with iproute2, which the product itself never calls.
//!
//! One batch per namespace keeps the construction of a network to a few milliseconds.

use std::time::Duration;

use serde_json::Value;

use crate::{
    error::{Error, Result},
    namespace::Namespace,
    process,
};

const LIMIT: Duration = Duration::from_secs(10);

/// Runs lines of `ip` commands inside a namespace; the first that fails ends it, and is named.
pub fn configure(namespace: &Namespace, batch: &str) -> Result<()> {
    let mut command = namespace.command("ip")?;
    command.args(["-batch", "-"]);
    process::run_ok(command, batch.as_bytes(), LIMIT).map(drop).map_err(|error| name_line(error, namespace, batch))
}

/// Runs one `tc` command inside a namespace: `traffic_control(&ns, "qdisc add dev eth0 ingress")`.
pub fn traffic_control(namespace: &Namespace, arguments: &str) -> Result<()> {
    let mut command = namespace.command("tc")?;
    command.args(arguments.split_whitespace());
    process::run_ok(command, b"", LIMIT).map(drop)
}

/// What `ip -j` answers inside a namespace: `query(&ns, "route show table all")`.
pub fn query(namespace: &Namespace, question: &str) -> Result<Vec<Value>> {
    let mut command = namespace.command("ip")?;
    command.args(["-d", "-j"]).args(question.split_whitespace());
    let answer = process::run_ok(command, b"", LIMIT)?;
    if answer.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&answer).map_err(|error| Error::Answer {
        command: format!("ip -d -j {question}"),
        answer,
        problem: error.to_string(),
    })
}

/// `ip` reports a failure as `Command failed -:7`; the reader wants line 7.
fn name_line(error: Error, namespace: &Namespace, batch: &str) -> Error {
    let Error::Command { command, status, stderr } = error else { return error };
    let number = stderr.rsplit_once("Command failed -:").and_then(|(_, line)| line.trim().parse::<usize>().ok());
    let line = number.and_then(|number| batch.lines().nth(number.checked_sub(1)?)).unwrap_or("?");
    Error::Command { command: format!("{command}` in {}, line `ip {line}", namespace.name()), status, stderr }
}
