//! The calls of one verb for all pods of a node.

use std::{process::Command, thread, time::Instant};

use anyhow::{Context, Result, anyhow, ensure};
use azure_cni_tests::Namespace;

use super::node::Node;

/// What calls took that each waited for the one before, nanoseconds.
pub(super) struct OneByOne {
    pub(super) add: Vec<f64>,
    pub(super) del: Vec<f64>,
}

/// Takes pods away and puts them back, one after another, with all others in place.
pub(super) fn replaced(node: &Node, namespaces: &[Namespace], times: usize) -> Result<OneByOne> {
    let mut took = OneByOne { add: Vec::new(), del: Vec::new() };
    for namespace in namespaces.iter().cycle().take(times) {
        took.del.push(timed(node, "DEL", namespace)?);
        took.add.push(timed(node, "ADD", namespace)?);
    }
    Ok(took)
}

/// The same call for one pod again and again; what each took, nanoseconds.
pub(super) fn repeated(node: &Node, verb: &str, times: usize) -> Result<Vec<f64>> {
    let namespace = node.namespaces.first().context("a node without pods")?;
    (0..times).map(|_| timed(node, verb, namespace)).collect()
}

/// Starting a program that does nothing, again and again: what no plugin can be faster than. Nanoseconds each.
pub(super) fn nothing(node: &Node, times: usize) -> Result<Vec<f64>> {
    let namespace = node.namespaces.first().context("a node without pods")?;
    (0..times).map(|_| time(node.nothing()?, "nothing", namespace)).collect()
}

fn timed(node: &Node, verb: &str, namespace: &Namespace) -> Result<f64> {
    time(node.call(verb, namespace)?, verb, namespace)
}

fn time(command: Command, verb: &str, namespace: &Namespace) -> Result<f64> {
    let began = Instant::now();
    run(command, verb, namespace)?;
    Ok(began.elapsed().as_nanos() as f64)
}

/// All calls begin at once; how long until the last has ended, nanoseconds.
pub(super) fn all_at_once(node: &Node, verb: &str, namespaces: &[Namespace]) -> Result<f64> {
    let commands: Vec<_> =
        namespaces.iter().map(|namespace| Ok((node.call(verb, namespace)?, namespace))).collect::<Result<_>>()?;
    let began = Instant::now();
    thread::scope(|scope| {
        // A plugin dies with the thread that starts it.
        let calls: Vec<_> = commands
            .into_iter()
            .map(|(command, namespace)| scope.spawn(move || run(command, verb, namespace)))
            .collect();
        calls.into_iter().try_for_each(|call| call.join().map_err(|_| anyhow!("a caller failed, see above"))?)
    })?;
    Ok(began.elapsed().as_nanos() as f64)
}

fn run(mut command: Command, verb: &str, namespace: &Namespace) -> Result<()> {
    let output = command.output().with_context(|| format!("{verb} for {}", namespace.name()))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // With as many pods as addresses STATUS says so: an answer like any other.
    let has_answered = output.status.success() || (verb == "STATUS" && stdout.contains("the pool has no free"));
    ensure!(has_answered, "{verb} for {}: {}\n{stdout}{stderr}", namespace.name(), output.status);
    Ok(())
}
