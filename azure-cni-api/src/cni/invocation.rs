//! A checked call of the runtime: each command has a type that holds all that the command needs.
//!
//! Plugin and agent both parse the call; neither trusts the other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::args::CniArgs;
use super::attachment::AttachmentId;
use super::environment::{AttachVariables, Command, DetachVariables, Environment};
use super::error::CniError;
use super::fields::Fields;
use super::netconf::{NetConf, Network};
use super::result::AddResult;

/// One variant for each command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    Add(Box<AddCall>),
    Del(DelCall),
    Check(Box<CheckCall>),
    Gc(GcCall),
    Status(Box<StatusCall>),
    Version,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCall {
    pub attachment: AttachmentId,
    pub netns: PathBuf,
    pub args: CniArgs,
    pub config: NetConf,
    pub traceparent: Option<String>,
}

/// DEL has neither `prevResult` nor requests of the runtime: it must succeed without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelCall {
    pub attachment: AttachmentId,
    pub netns: Option<PathBuf>,
    pub network: Network,
    pub traceparent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckCall {
    pub attachment: AttachmentId,
    pub netns: PathBuf,
    pub args: CniArgs,
    /// Without its `prev_result`, which is the next field.
    pub config: NetConf,
    pub prev_result: AddResult,
    pub traceparent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcCall {
    pub network: Network,
    /// All other attachments of this network may be removed.
    pub valid_attachments: BTreeSet<AttachmentId>,
    pub traceparent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusCall {
    pub config: NetConf,
    pub traceparent: Option<String>,
}

impl Invocation {
    pub fn parse(env: &Environment, config: &Value) -> Result<Self, CniError> {
        match env.command {
            Command::Add => AddCall::parse(env, config).map(|call| Self::Add(Box::new(call))),
            Command::Del => DelCall::parse(env, config).map(Self::Del),
            Command::Check => CheckCall::parse(env, config).map(|call| Self::Check(Box::new(call))),
            Command::Gc => GcCall::parse(env, config).map(Self::Gc),
            Command::Status => StatusCall::parse(env, config).map(|call| Self::Status(Box::new(call))),
            Command::Version => Ok(Self::Version),
        }
    }

    /// The spool of a DEL or GC, if the configuration names one.
    pub fn spool_dir(&self) -> Option<&Path> {
        match self {
            Self::Del(call) => call.network.spool_dir.as_deref(),
            Self::Gc(call) => call.network.spool_dir.as_deref(),
            _ => None,
        }
    }

    /// The agent's socket, if the configuration names one.
    pub fn agent_socket(&self) -> Option<&Path> {
        let socket = match self {
            Self::Add(call) => &call.config.agent_socket,
            Self::Check(call) => &call.config.agent_socket,
            Self::Status(call) => &call.config.agent_socket,
            Self::Del(call) => &call.network.agent_socket,
            Self::Gc(call) => &call.network.agent_socket,
            Self::Version => &None,
        };
        socket.as_deref()
    }
}

impl AddCall {
    fn parse(env: &Environment, config: &Value) -> Result<Self, CniError> {
        let AttachVariables { container_id, ifname, netns } = env.attach_variables()?;
        let (config, args) = NetConf::parse(config, env.args.as_deref())?;
        let attachment = AttachmentId { network: config.name.clone(), container_id, ifname };
        Ok(Self { attachment, netns, args, config, traceparent: env.trace_context() })
    }
}

impl DelCall {
    fn parse(env: &Environment, config: &Value) -> Result<Self, CniError> {
        let DetachVariables { container_id, ifname, netns } = env.detach_variables()?;
        let network = Network::parse(config)?;
        let attachment = AttachmentId { network: network.name.clone(), container_id, ifname };
        Ok(Self { attachment, netns, network, traceparent: env.trace_context() })
    }
}

impl CheckCall {
    fn parse(env: &Environment, config: &Value) -> Result<Self, CniError> {
        let AttachVariables { container_id, ifname, netns } = env.attach_variables()?;
        network_with(env.command, config)?;
        let (mut config, args) = NetConf::parse(config, env.args.as_deref())?;
        let Some(prev_result) = config.prev_result.take() else {
            return Err(CniError::invalid_config("prevResult is missing: CHECK compares the pod with it"));
        };
        let attachment = AttachmentId { network: config.name.clone(), container_id, ifname };
        Ok(Self { attachment, netns, args, config, prev_result, traceparent: env.trace_context() })
    }
}

impl GcCall {
    const KEY: &str = "cni.dev/valid-attachments";

    fn parse(env: &Environment, config: &Value) -> Result<Self, CniError> {
        env.check_network_wide()?;
        let network = network_with(env.command, config)?;
        let fields = Fields::whole("the network configuration", config)?;
        if fields.value(Self::KEY).is_none() {
            // Absent does not mean empty: an empty list frees every pod of the network.
            return Err(CniError::invalid_config(format!("{} is missing: without it nothing is freed", Self::KEY)));
        }
        let attachment = |entry: &Fields| {
            let missing = |key| CniError::invalid_config(format!("{} is missing", entry.path(key)));
            Ok(AttachmentId {
                network: network.name.clone(),
                container_id: entry.parsed("containerID")?.ok_or_else(|| missing("containerID"))?,
                ifname: entry.parsed("ifname")?.ok_or_else(|| missing("ifname"))?,
            })
        };
        let valid_attachments = fields.objects(Self::KEY)?.iter().map(attachment).collect::<Result<_, CniError>>()?;
        Ok(Self { network, valid_attachments, traceparent: env.trace_context() })
    }
}

impl StatusCall {
    fn parse(env: &Environment, config: &Value) -> Result<Self, CniError> {
        env.check_network_wide()?;
        network_with(env.command, config)?;
        // A configuration that ADD would refuse makes STATUS fail.
        let (config, _) = NetConf::parse(config, None)?;
        Ok(Self { config, traceparent: env.trace_context() })
    }
}

/// The network; its version must have `command`.
fn network_with(command: Command, config: &Value) -> Result<Network, CniError> {
    let network = Network::parse(config)?;
    network.cni_version.require(command)?;
    Ok(network)
}

#[cfg(test)]
mod tests;
