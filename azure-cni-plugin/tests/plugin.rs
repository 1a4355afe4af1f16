//! Runs the plugin binary as a runtime does, against an agent that the test plays.
//!
//! The tests cover what a runtime sees: exit status, standard output, and duration.
#![allow(clippy::disallowed_types, reason = "tests may run programs")]

mod plugin {
    pub(crate) mod agent;
    pub(crate) mod run;
}

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use azure_cni_api::boot_time::BootTime;
use azure_cni_api::cni::CniVersion;
use plugin::agent::{Agent, error_answer};
use plugin::run::{Call, PodNamespace, config};
use serde_json::{Value, json};
use tempfile::TempDir;

const COMMANDS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

#[test]
fn started_by_hand_the_plugin_says_what_it_is() {
    let run = Call::bare().stdin("").run();
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
    assert!(run.stderr.starts_with("azure-cni ") && run.stderr.lines().count() == 1, "{}", run.stderr);
}

/// A panic ends with 101 and prints what no runtime understands.
#[test]
fn output_that_nobody_reads_is_no_panic() {
    for command in [None, Some("VERSION"), Some("ADD"), Some("STATUS")] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut plugin = std::process::Command::new(env!("CARGO_BIN_EXE_azure-cni"));
        plugin.env_clear().envs(command.map(|command| ("CNI_COMMAND", command)));
        plugin.stdin(Stdio::null()).stdout(Stdio::from(writer.try_clone().unwrap())).stderr(Stdio::from(writer));
        let status = plugin.status().unwrap();
        assert!(matches!(status.code(), Some(0 | 1)), "{command:?}: {status}");
    }
}

#[test]
fn version_is_answered_without_an_agent() {
    let supported = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    for (stdin, version) in [
        (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"),
        ("", "1.1.0"),
        ("nonsense", "1.1.0"),
        (r#"{"cniVersion":"9.0.0"}"#, "9.0.0"),
    ] {
        let run = Call::bare().var("CNI_COMMAND", "VERSION").stdin(stdin).run();
        assert_eq!(run.code, 0, "{stdin}");
        assert_eq!(run.json(), json!({"cniVersion": version, "supportedVersions": supported}), "{stdin}");
    }
}

#[test]
fn version_is_answered_though_standard_input_stays_open() {
    let mut child = Call::bare().var("CNI_COMMAND", "VERSION").command().spawn().unwrap();
    let open = child.stdin.take();
    let status = child.wait().unwrap();
    drop(open);
    assert!(status.success());
}

#[test]
fn add_prints_the_agents_result_in_every_version() {
    let pod = PodNamespace::new();
    for version in CniVersion::SUPPORTED {
        let result = json!({"cniVersion": version, "interfaces": [{"name": "eth0"}], "ips": [], "dns": {}});
        let agent = Agent::answering(json!({"ok": result}));
        let run = Call::new("ADD", &agent, &pod).stdin(config(version)).run();
        assert_eq!((run.code, run.json()), (0, result), "{version}");
    }
}

#[test]
fn the_agent_gets_the_call_as_it_was_made() {
    let pod = PodNamespace::new();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let agent = Agent::answering(json!({"ok": {}}));
    let stdin = config(CniVersion::V1_0_0);
    let before = BootTime::now();
    let run = Call::new("ADD", &agent, &pod)
        .var("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=p")
        .var("TRACEPARENT", trace)
        .stdin(&stdin)
        .run();
    assert_eq!(run.code, 0, "{}", run.stdout);
    let mut request = agent.request();
    let requested_at = request.as_object_mut().unwrap().remove("requestedAt").and_then(|at| at.as_u64()).unwrap();
    assert!((before..=BootTime::now()).contains(&BootTime::from_nanos(requested_at)), "{requested_at}");
    assert_eq!(
        request,
        json!({
            "op": "cni", "command": "ADD", "containerId": "c1", "netns": pod.path(), "ifname": "eth0",
            "args": "IgnoreUnknown=1;K8S_POD_NAME=p", "path": "/opt/cni/bin", "traceparent": trace,
            "config": serde_json::from_str::<Value>(&stdin).unwrap(),
        })
    );
}

#[test]
fn every_command_but_add_prints_nothing_on_success() {
    let pod = PodNamespace::new();
    for command in ["DEL", "CHECK", "GC", "STATUS"] {
        let agent = Agent::answering(json!({"ok": null}));
        let run = Call::new(command, &agent, &pod).run();
        assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{command}");
        assert_eq!(agent.request()["command"], command);
    }
}

#[test]
fn an_error_of_the_agent_is_printed_as_it_is_and_fails_the_call() {
    let pod = PodNamespace::new();
    for command in COMMANDS {
        for code in [11, 100, 177] {
            let agent = Agent::answering(error_answer(code));
            let run = Call::new(command, &agent, &pod).run();
            assert_eq!((run.code, run.json()), (1, error_answer(code)["error"].clone()), "{command}");
        }
    }
}

#[test]
fn missing_variables_are_all_named_in_the_configurations_version() {
    for (version, expected) in CniVersion::SUPPORTED.map(|version| (config(version), version.as_str())) {
        let run = Call::bare().var("CNI_COMMAND", "ADD").var("CNI_IFNAME", "eth0").stdin(version).run();
        assert_eq!((run.code, run.error()), (1, 4));
        assert_eq!(run.json()["cniVersion"], expected);
        assert_eq!(run.json()["msg"], "ADD needs CNI_CONTAINERID, CNI_NETNS, CNI_PATH");
    }
    // Variables come first: the error names them even if the configuration cannot be read.
    let run = Call::bare().var("CNI_COMMAND", "DEL").stdin("").run();
    assert_eq!((run.error(), &run.json()["msg"]), (4, &json!("DEL needs CNI_CONTAINERID, CNI_IFNAME, CNI_PATH")));
    let run = Call::bare().var("CNI_COMMAND", "REMOVE").run();
    assert_eq!((run.code, run.error()), (1, 4));
}

#[test]
fn input_that_cannot_be_read_is_a_decode_error_with_its_place() {
    let pod = PodNamespace::new();
    let too_long = format!("{{\n\"a\": \"{}\"}}", "x".repeat(1 << 20));
    for (stdin, place) in
        [("", "line 1 column 0"), ("{\n  nonsense", "line 2 column 3"), (too_long.as_str(), "line 2 column 1048574")]
    {
        for command in COMMANDS {
            let run = Call::without_agent(command, &pod).stdin(stdin).run();
            assert_eq!((run.code, run.error()), (1, 6), "{command}");
            assert_eq!(run.json()["cniVersion"], "1.1.0");
            assert!(run.json()["msg"].as_str().unwrap().contains(place), "{}", run.stdout);
        }
    }
}

#[test]
fn an_unsupported_configuration_fails_before_the_agent_is_called() {
    let pod = PodNamespace::new();
    for (extra, code) in [
        (json!({"multiTenancy": true}), 7),
        (json!({"mode": "transparent-vlan"}), 7),
        (json!({"runtimeConfig": {"bandwidth": {"ingressRate": 1}}}), 7),
        (json!({"cniVersion": "0.2.0"}), 1),
    ] {
        let mut config: Value = serde_json::from_str(&config(CniVersion::NEWEST)).unwrap();
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let run = Call::without_agent("ADD", &pod).stdin(config.to_string()).run();
        assert_eq!((run.code, run.error()), (1, code), "{extra}");
        assert_eq!(run.json()["cniVersion"], config["cniVersion"], "{extra}");
    }
}

#[test]
fn commands_that_a_version_does_not_have_are_version_errors() {
    let pod = PodNamespace::new();
    for (command, version) in
        [("CHECK", CniVersion::V0_3_1), ("GC", CniVersion::V1_0_0), ("STATUS", CniVersion::V1_0_0)]
    {
        let run = Call::without_agent(command, &pod).stdin(config(version)).run();
        assert_eq!((run.code, run.error()), (1, 1), "{command}");
    }
}

#[test]
fn a_namespace_that_no_pod_can_have_is_refused() {
    let pod = PodNamespace::new();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let own = format!("/proc/{}/ns/net", std::process::id());
    for (netns, why) in [
        (folder.path().join("absent").to_str().unwrap(), "cannot be opened"),
        (file.to_str().unwrap(), "is not a network namespace"),
        (fifo.to_str().unwrap(), "is not a network namespace"),
        ("/proc/self/ns/mnt", "is not a network namespace"),
        ("/proc/self/ns/net", "the plugin runs in"),
        (own.as_str(), "the plugin runs in"),
        ("netns/p", "not an absolute path"),
    ] {
        for command in ["ADD", "CHECK"] {
            let run = Call::without_agent(command, &pod).var("CNI_NETNS", netns).run();
            assert_eq!((run.code, run.error()), (1, 8), "{command} {netns}: {}", run.stdout);
            assert!(run.json()["msg"].as_str().unwrap().contains(why), "{}", run.stdout);
        }
    }
}

#[test]
fn del_works_whatever_became_of_the_namespace() {
    let pod = PodNamespace::new();
    // The agent must not see the host's namespace: nothing in it may be touched.
    for (netns, sent) in
        [("/run/netns/gone", json!("/run/netns/gone")), ("", json!(null)), ("/proc/self/ns/net", json!(null))]
    {
        let agent = Agent::answering(json!({"ok": null}));
        let run = Call::new("DEL", &agent, &pod).var("CNI_NETNS", netns).run();
        assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{netns}");
        assert_eq!(agent.request()["netns"], sent, "{netns}");
    }
}

#[test]
fn without_an_agent_the_runtime_soon_gets_the_error_that_says_what_to_do() {
    let pod = PodNamespace::new();
    for (command, code) in [("ADD", 11), ("CHECK", 11), ("STATUS", 50)] {
        let begun = Instant::now();
        let run = Call::without_agent(command, &pod).run();
        assert_eq!((run.code, run.error()), (1, code), "{command}");
        assert!(run.json()["msg"].as_str().unwrap().contains("the agent does not listen on"), "{}", run.stdout);
        assert!(begun.elapsed() < Duration::from_secs(15), "{command} took {:?}", begun.elapsed());
    }
}

#[test]
fn without_an_agent_del_and_gc_are_spooled_at_once_and_succeed() {
    let pod = PodNamespace::new();
    for command in ["DEL", "GC"] {
        let call = Call::without_agent(command, &pod);
        let run = call.run();
        assert_eq!((run.code, run.stdout.as_str(), call.spooled()), (0, "", 1), "{command}");
    }
    // A folder that cannot be created.
    let file = tempfile::NamedTempFile::new().unwrap();
    for command in ["DEL", "GC"] {
        let run = Call::without_agent(command, &pod).var("AZURE_CNI_SPOOL", file.path().to_str().unwrap()).run();
        assert_eq!((run.code, run.error()), (1, 11), "{command}");
        assert!(run.json()["msg"].as_str().unwrap().contains("nothing was freed"), "{}", run.stdout);
    }
}

#[test]
fn status_waits_for_an_agent_that_is_down_and_not_for_long() {
    let pod = PodNamespace::new();
    let begun = Instant::now();
    assert_eq!(Call::without_agent("STATUS", &pod).run().error(), 50);
    // As ADD does: the runtime would report the node as not ready for each restart of the agent.
    let waited = begun.elapsed();
    assert!(waited > Duration::from_secs(4) && waited < Duration::from_secs(10), "{waited:?}");
}

#[test]
fn status_succeeds_over_a_restart_of_the_agent_that_it_calls() {
    let pod = PodNamespace::new();
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("s");
    let path = socket.clone();
    let agents = thread::spawn(move || {
        // The first ends with the call half done.
        Agent::at(&path, None).request();
        fs::remove_file(&path).unwrap();
        thread::sleep(Duration::from_millis(300));
        Agent::at(&path, Some(json!({"ok": null}).to_string().into_bytes()))
    });
    let run = Call::without_agent("STATUS", &pod).var("AZURE_CNI_SOCKET", socket.to_str().unwrap()).run();
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
    agents.join().unwrap();
}

#[test]
fn an_agent_that_restarts_is_waited_for() {
    let pod = PodNamespace::new();
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("s");
    let late = socket.clone();
    let agent = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        Agent::at(&late, Some(json!({"ok": {"ips": []}}).to_string().into_bytes()))
    });
    let run = Call::without_agent("ADD", &pod).var("AZURE_CNI_SOCKET", socket.to_str().unwrap()).run();
    assert_eq!((run.code, run.json()), (0, json!({"ips": []})), "{}", run.stdout);
    agent.join().unwrap();
}

#[test]
fn an_agent_that_dies_in_the_middle_of_a_call_means_try_again() {
    let pod = PodNamespace::new();
    for (command, code) in [("ADD", 11), ("STATUS", 50)] {
        let run = Call::new(command, &Agent::dying(), &pod).run();
        assert_eq!((run.code, run.error()), (1, code), "{command}: {}", run.stdout);
    }
    // The next agent executes DEL and GC again, which does no harm.
    let del = Call::new("DEL", &Agent::dying(), &pod);
    assert_eq!((del.run().code, del.spooled()), (0, 1));
}

#[test]
fn an_answer_that_makes_no_sense_is_never_a_success() {
    let pod = PodNamespace::new();
    for answer in [json!({"ok": null}), json!({"ok": "fine"}), json!({}), json!([])] {
        let run = Call::new("ADD", &Agent::answering(answer.clone()), &pod).run();
        assert_eq!((run.code, run.error()), (1, 101), "{answer}");
    }
}

#[test]
fn the_configurations_socket_goes_before_the_variables() {
    let pod = PodNamespace::new();
    let (of_config, of_variable) = (Agent::answering(json!({"ok": null})), Agent::answering(error_answer(11)));
    let mut with_socket: Value = serde_json::from_str(&config(CniVersion::NEWEST)).unwrap();
    with_socket["agentSocket"] = json!(of_config.socket());
    let run = Call::new("DEL", &of_variable, &pod).stdin(with_socket.to_string()).run();
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert_eq!(of_config.request()["command"], "DEL");
}

#[test]
fn a_result_that_cannot_be_written_fails_the_call() {
    let pod = PodNamespace::new();
    let agent = Agent::answering(json!({"ok": {"ips": []}}));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = Call::new("ADD", &agent, &pod).command().stdout(Stdio::from(writer)).spawn().unwrap();
    child.stdin.take().unwrap().write_all(config(CniVersion::NEWEST).as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
