//! The protocol through the real plugin: every verb in every version, what is printed where, and what chains rely on.

use std::collections::BTreeMap;

use azure_cni_agent::steps::{Faults, Step};
use azure_cni_tests::{CniCall, Fabric, Namespace, Result, Station, query};
use serde_json::{Value, json};

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The CNI specification, section "Error".
const INCOMPATIBLE_VERSION: u32 = 1;
const ENVIRONMENT: u32 = 4;
const DECODE: u32 = 6;

#[test]
fn each_verb_is_served_in_exactly_the_versions_that_have_it() -> Result<()> {
    let net = Fabric::builder().agent_toml("pool.cooldown_secs = 0").start()?;
    let vm = net.vm(0);
    for (verb, since) in [("ADD", "0.3.0"), ("CHECK", "0.4.0"), ("DEL", "0.3.0"), ("GC", "1.1.0"), ("STATUS", "1.1.0")]
    {
        for version in VERSIONS {
            let mut netconf = vm.netconf();
            netconf["cniVersion"] = version.into();
            netconf["cni.dev/valid-attachments"] = json!([]);
            let pod = vm.add_pod_with("a", netconf.clone())?;
            if verb == "CHECK" {
                netconf["prevResult"] = pod.result().clone();
            }
            let output = vm.cni(&pod.call(verb)?.netconf(&netconf))?;
            assert!(output.stderr.is_empty(), "{verb} {version}: {output:?}");
            if version < since {
                let error = output.error()?;
                assert_eq!(
                    (error.code, error.cni_version.as_str()),
                    (INCOMPATIBLE_VERSION, version),
                    "{verb}: {error}"
                );
                assert!(error.msg.contains(since), "{verb} {version}: {error}");
            } else {
                assert!(output.status.success(), "{verb} {version}: {output:?}");
                assert_eq!(output.stdout.is_empty(), verb != "ADD", "{verb} {version}: {output:?}");
            }
            pod.del()?;
            vm.expect_clean()?;
        }
    }
    Ok(())
}

#[test]
fn errors_are_objects_on_standard_output_in_the_version_of_the_request() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    for version in VERSIONS {
        let mut netconf = vm.netconf();
        netconf["cniVersion"] = version.into();
        for (what, call, code) in [
            ("no variables", CniCall::new("ADD")?.netconf(&netconf), ENVIRONMENT),
            ("a verb to come", CniCall::new("UPDATE")?.netconf(&netconf), ENVIRONMENT),
            ("no configuration", CniCall::new("DEL")?.attachment("a", "/n".as_ref(), "eth0").raw_stdin(""), DECODE),
        ] {
            let output = vm.cni(&call)?;
            assert_eq!(output.status.code(), Some(1), "{what} {version}: {output:?}");
            let object: BTreeMap<String, Value> = serde_json::from_value(output.json()?).expect("an object");
            assert_eq!(object.keys().collect::<Vec<_>>(), ["cniVersion", "code", "details", "msg"], "{what} {version}");
            let error = output.error()?;
            assert_eq!(error.code, code, "{what} {version}: {error}");
            let expected = if code == DECODE { "1.1.0" } else { version };
            assert_eq!(error.cni_version, expected, "{what}");
        }
    }
    Ok(())
}

#[test]
fn plugin_started_by_hand_says_what_it_is_and_succeeds() -> Result<()> {
    let net = Fabric::builder().without_agents().start()?;
    let output = net.vm(0).cni(&CniCall::new("")?.without("CNI_COMMAND"))?;
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    assert!(output.stderr.contains("CNI plugin"), "{output:?}");
    Ok(())
}

#[test]
fn result_of_an_earlier_plugin_is_passed_on_before_ours_in_every_version() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    for version in VERSIONS {
        let mut netconf = vm.netconf();
        netconf["cniVersion"] = version.into();
        let mut ip = json!({"address": "192.0.2.7/24", "interface": 0});
        if version < "1.0.0" {
            ip["version"] = "4".into();
        }
        let interface = json!({"name": "net1", "sandbox": "/run/netns/other"});
        netconf["prevResult"] = json!({
            "cniVersion": version, "interfaces": [interface], "ips": [ip], "routes": [{"dst": "192.0.2.0/24"}],
            "dns": {"nameservers": ["192.0.2.53"]},
        });
        let namespace = Namespace::create("chained")?;
        let call = CniCall::new("ADD")?.attachment("chained", namespace.path(), "eth0").netconf(&netconf);
        let result = vm.cni(&call)?.json()?;
        assert_eq!((&result["interfaces"][0], &result["ips"][0]), (&interface, &ip), "{version}");
        assert_eq!(result["routes"][0], json!({"dst": "192.0.2.0/24"}), "{version}");
        assert_eq!(result["dns"]["nameservers"], json!(["192.0.2.53"]), "{version}");
        // Ours points at ours, which has a sandbox: portmap skips an address without.
        let inside = result["ips"][1]["interface"].as_u64().expect("an index") as usize;
        assert_eq!(result["interfaces"][inside]["name"], "eth0", "{version}");
        assert_eq!(result["interfaces"][inside]["sandbox"], namespace.path().to_string_lossy().as_ref(), "{version}");
        assert!(vm.cni(&call.with("CNI_COMMAND", "DEL"))?.status.success());
        vm.expect_clean()?;
    }
    Ok(())
}

#[test]
fn unknown_arguments_and_unknown_keys_are_ignored() -> Result<()> {
    let net = Fabric::builder().start()?;
    let vm = net.vm(0);
    for args in ["K8S_POD_NAME=p;Colour=red", "IgnoreUnknown=1;K8S_POD_NAMESPACE=n;Colour=red"] {
        let mut netconf = vm.netconf();
        netconf["somethingOfTomorrow"] = json!({"a": [1]});
        netconf["args"] = json!({"cni": {"labels": [{"key": "app", "value": "x"}]}});
        let namespace = Namespace::create("tolerant")?;
        let call = CniCall::new("ADD")?.attachment("tolerant", namespace.path(), "eth0").netconf(&netconf);
        let call = call.with("CNI_ARGS", args);
        assert!(vm.cni(&call)?.status.success(), "{args}");
        assert!(vm.cni(&call.with("CNI_COMMAND", "DEL"))?.status.success(), "{args}");
    }
    vm.expect_clean()
}

#[test]
fn del_goes_on_past_what_fails_keeps_the_address_and_succeeds_when_repeated() -> Result<()> {
    let net = Fabric::builder().pool(1).agent_toml("pool.cooldown_secs = 0").without_agents().start()?;
    let vm = net.vm(0);
    for step in Step::DEL {
        vm.start_agent_with(&[(Faults::VARIABLE, step.name())])?;
        let pod = vm.add_pod("a")?;
        let error = vm.cni(&pod.call("DEL")?)?.error()?;
        assert!(error.msg.contains(step.name()), "{}: {error}", step.name());
        // The address is released last.
        assert_eq!(vm.status()?["pool"]["leased"], u8::from(step != Step::Release), "{}", step.name());
        // The later steps run even if one fails, unless the record could not be removed.
        let links: Vec<_> = query(pod.namespace(), "link show")?.iter().map(|link| link["ifname"].clone()).collect();
        let left: &[&str] = if step == Step::Forget { &["lo", "eth0"] } else { &["lo"] };
        assert_eq!(links, left, "{}", step.name());
        vm.restart_agent()?;
        pod.del()?;
        vm.expect_clean()?;
        vm.stop_agent()?;
    }
    Ok(())
}
