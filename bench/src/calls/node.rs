//! A VM with namespaces for pods, and the plugin that attaches them.

use std::{
    fs::File,
    io::{Seek, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use azure_cni_tests::{CniCall, Namespace, Station, Vm};
use serde_json::Value;

use crate::testbed::{Reference, ReferenceNode};

/// What makes a call's command for a VM.
pub(super) enum Caller<'net> {
    Ours(&'net Vm),
    Reference(ReferenceNode<'net>),
}

impl<'net> Caller<'net> {
    pub(super) fn ours(vm: &'net Vm) -> Result<Self> {
        vm.start_agent()?;
        Ok(Self::Ours(vm))
    }

    pub(super) fn reference(vm: &'net Vm, plugins: &'net Path, reference: Reference) -> Result<Self> {
        Ok(Self::Reference(ReferenceNode::prepare(vm, plugins, reference)?))
    }

    fn command(&self, verb: &str, namespace: &Namespace) -> Result<Command> {
        match self {
            Self::Ours(vm) => {
                let call = CniCall::new(verb)?.attachment(namespace.name(), namespace.path(), "eth0");
                Ok(vm.plugin(&call)?)
            }
            Self::Reference(node) => node.command(verb, namespace),
        }
    }

    fn netconf(&self) -> Value {
        match self {
            Self::Ours(vm) => vm.netconf(),
            Self::Reference(node) => node.netconf(),
        }
    }
}

pub(super) struct Node<'net> {
    vm: &'net Vm,
    caller: Caller<'net>,
    pub(super) namespaces: Vec<Namespace>,
    /// The network configuration, read again by every call.
    netconf: tempfile::NamedTempFile,
}

impl<'net> Node<'net> {
    pub(super) fn new(vm: &'net Vm, caller: Caller<'net>, pods: usize) -> Result<Self> {
        let namespaces = (0..pods).map(|number| Namespace::create(&format!("{}-call{number}", vm.name())));
        let namespaces = namespaces.collect::<Result<_, _>>()?;
        let mut netconf = tempfile::NamedTempFile::new().context("a file for the network configuration")?;
        netconf.write_all(caller.netconf().to_string().as_bytes())?;
        netconf.rewind()?;
        Ok(Self { vm, caller, namespaces, netconf })
    }

    /// A call that is ready to start: its input is a file, its output is kept for the caller that waits.
    pub(super) fn call(&self, verb: &str, namespace: &Namespace) -> Result<Command> {
        let mut command = self.caller.command(verb, namespace)?;
        let input = File::open(self.netconf.path()).context("the network configuration")?;
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// A program that does nothing, started where plugins are.
    pub(super) fn nothing(&self) -> Result<Command> {
        let mut command = self.vm.namespace().command("true")?;
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// What the agent has logged; nothing where there is none.
    pub(super) fn agent_log(&self) -> String {
        match &self.caller {
            Caller::Ours(vm) => vm.agent_log(),
            Caller::Reference(_) => String::new(),
        }
    }

    /// What the agent has used since it started; `None` where there is none.
    pub(super) fn agent_processor_time(&self) -> Result<Option<Duration>> {
        match &self.caller {
            Caller::Ours(_) => Ok(Some(self.vm.agent_processor_time()?)),
            Caller::Reference(_) => Ok(None),
        }
    }

    /// `None` where there is no agent.
    pub(super) fn agent_resident_bytes(&self) -> Result<Option<u64>> {
        match &self.caller {
            Caller::Ours(_) => Ok(Some(self.vm.agent_resident_bytes()?)),
            Caller::Reference(_) => Ok(None),
        }
    }
}
