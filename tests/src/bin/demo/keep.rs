//! How to explore a network that the demo keeps.

use std::{env, fmt::Write, process};

use anyhow::{Context, Result};
use azure_cni_tests::{Fabric, Pod, Station};

/// Commands to paste into another terminal.
pub(crate) fn guide(net: &Fabric, pods: &[[Pod; 2]]) -> Result<String> {
    let binaries = match env::var_os("AZURE_CNI_BIN_DIR") {
        Some(dir) => dir.into(),
        None => env::current_exe().context("find the binaries")?.parent().context("find the binaries")?.to_owned(),
    };
    let ctl = format!("{} --socket {}", binaries.join("azure-cni-ctl").display(), net.vm(0).socket().display());
    let (vm, dir) = (net.vm(0).name(), net.vm(0).dir().display());
    let (pod, remote) = (pods[0][0].name(), pods[1][0].address());
    let commands = [
        ("every machine and pod", "ip netns".to_owned()),
        ("a VM's routes, one for each pod", format!("ip netns exec {vm} ip route")),
        ("from a pod to one on the other VM", format!("ip netns exec {pod} ping -c 3 {remote}")),
        ("what is on a VM's wire", format!("ip netns exec {vm} tcpdump -ni eth0")),
        ("a shell in a pod", format!("ip netns exec {pod} bash")),
        ("agent.toml, agent.log, pool.xml, pins", format!("ls {dir}")),
        ("what the agent says of itself", format!("{ctl} status")),
        ("its pods", format!("{ctl} endpoints")),
        ("what its programs dropped, and why", format!("{ctl} drops")),
    ];

    let mut guide = format!(
        "The network stands until Ctrl-C. To look around, as root in another terminal:\n\n  \
         in_net() {{ nsenter --mount=/proc/{}/ns/mnt \"$@\"; }}\n",
        process::id()
    );
    for (comment, command) in commands {
        write!(guide, "\n  # {comment}\n  in_net {command}").expect("a String takes all");
    }
    Ok(guide + "\n")
}
