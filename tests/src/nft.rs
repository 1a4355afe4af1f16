//! nftables inside a namespace: what kube-proxy and firewalls of the host use, and a counter of what the stack forwards.

use std::{net::IpAddr, time::Duration};

use crate::{
    error::{Error, Result},
    namespace::Namespace,
    process,
};

const LIMIT: Duration = Duration::from_secs(10);

/// Runs a script of `nft` inside a namespace; returns what it prints.
pub fn nft(namespace: &Namespace, script: &str) -> Result<String> {
    let mut command = namespace.command("nft")?;
    command.args(["-f", "-"]);
    process::run_ok(command, script.as_bytes(), LIMIT)
}

/// Counts the packets to an address that a namespace's stack forwards: none takes the short way past it.
pub struct Forwarded<'net> {
    namespace: &'net Namespace,
    counter: String,
}

impl<'net> Forwarded<'net> {
    /// Counts from now on.
    pub fn count(namespace: &'net Namespace, to: impl Into<IpAddr>) -> Result<Self> {
        let to = to.into();
        let family = if to.is_ipv4() { "ip" } else { "ip6" };
        let counter = format!("to-{}", to.to_string().replace([':', '.'], "-"));
        let script = format!(
            "add table inet witness\n\
             add chain inet witness forward {{ type filter hook forward priority 0; }}\n\
             add counter inet witness {counter}\n\
             add rule inet witness forward {family} daddr {to} counter name {counter}\n"
        );
        nft(namespace, &script)?;
        Ok(Self { namespace, counter })
    }

    /// The count so far.
    pub fn packets(&self) -> Result<u64> {
        let answer = nft(self.namespace, &format!("list counter inet witness {}\n", self.counter))?;
        let number = answer.split_once("packets ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        number.ok_or_else(|| Error::Answer {
            command: "nft list counter".into(),
            answer: answer.clone(),
            problem: "no number of packets".into(),
        })
    }
}
