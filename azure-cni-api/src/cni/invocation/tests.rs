//! The protocol's checklist as tables: which variables, which version, which error, for each command.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::cni::CniVersion;

const POD: [(&str, &str); 4] =
    [("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/p"), ("CNI_IFNAME", "eth0"), ("CNI_PATH", "/opt/cni/bin")];

fn environment(vars: &[(&str, &str)]) -> Result<Environment, CniError> {
    let vars: HashMap<_, _> = vars.iter().copied().collect();
    Ok(Environment::from_vars(|name| vars.get(name).map(OsString::from))?.expect("CNI_COMMAND is set"))
}

/// A full environment for `command`, with `changes` applied; an empty value means a missing variable.
fn call(command: Command, changes: &[(&str, &str)]) -> Environment {
    let mut vars = vec![("CNI_COMMAND", command.as_str())];
    vars.extend(POD);
    vars.extend(changes);
    environment(&vars).unwrap()
}

fn config(version: CniVersion) -> Value {
    json!({
        "cniVersion": version, "name": "azure", "type": "azure-cni", "cni.dev/valid-attachments": [],
        "prevResult": {"cniVersion": version, "interfaces": [{"name": "eth0", "sandbox": "/run/netns/p"}]},
    })
}

fn without(key: &str) -> Value {
    let mut config = config(CniVersion::NEWEST);
    config.as_object_mut().unwrap().remove(key);
    config
}

fn code(result: Result<Invocation, CniError>) -> u32 {
    result.map_or_else(|error| error.code.into(), |_| 0)
}

#[test]
fn without_cni_command_there_is_no_call() {
    for vars in [vec![], POD.to_vec(), vec![("CNI_COMMAND", "")]] {
        let vars: HashMap<_, _> = vars.into_iter().collect();
        assert_eq!(Environment::from_vars(|name| vars.get(name).map(OsString::from)), Ok(None), "{vars:?}");
    }
}

#[test]
fn an_unknown_command_is_an_environment_error() {
    for name in ["add", "ADD ", "UPDATE"] {
        assert_eq!(u32::from(environment(&[("CNI_COMMAND", name)]).unwrap_err().code), 4, "{name}");
    }
}

#[test]
fn each_command_names_all_the_variables_that_it_misses() {
    let missing: Vec<(&str, &str)> = POD.map(|(name, _)| (name, "")).to_vec();
    for (command, needs) in [
        (Command::Add, "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH"),
        (Command::Check, "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH"),
        (Command::Del, "CNI_CONTAINERID, CNI_IFNAME, CNI_PATH"),
        (Command::Gc, "CNI_PATH"),
        (Command::Status, "CNI_PATH"),
    ] {
        let error = Invocation::parse(&call(command, &missing), &config(CniVersion::NEWEST)).unwrap_err();
        assert_eq!(u32::from(error.code), 4, "{command}");
        assert_eq!(error.msg, format!("{command} needs {needs}"));
    }
    assert_eq!(Invocation::parse(&call(Command::Version, &missing), &Value::Null), Ok(Invocation::Version));
}

#[test]
fn each_variable_is_demanded_by_exactly_the_commands_that_need_it() {
    use Command::*;
    for (variable, needed_by) in [
        ("CNI_CONTAINERID", &[Add, Del, Check][..]),
        ("CNI_NETNS", &[Add, Check]),
        ("CNI_IFNAME", &[Add, Del, Check]),
        ("CNI_PATH", &[Add, Del, Check, Gc, Status]),
        ("CNI_ARGS", &[]),
        ("TRACEPARENT", &[]),
    ] {
        for command in Command::ALL {
            let expected = if needed_by.contains(&command) { 4 } else { 0 };
            let result = Invocation::parse(&call(command, &[(variable, "")]), &config(CniVersion::NEWEST));
            assert_eq!(code(result), expected, "{command} without {variable}");
        }
    }
}

#[test]
fn each_command_is_served_in_exactly_the_versions_that_have_it() {
    for (command, codes) in [
        (Command::Add, [0, 0, 0, 0, 0]),
        (Command::Del, [0, 0, 0, 0, 0]),
        (Command::Check, [1, 1, 0, 0, 0]),
        (Command::Gc, [1, 1, 1, 1, 0]),
        (Command::Status, [1, 1, 1, 1, 0]),
    ] {
        let answers =
            CniVersion::SUPPORTED.map(|version| code(Invocation::parse(&call(command, &[]), &config(version))));
        assert_eq!(answers, codes, "{command}");
    }
}

#[test]
fn variables_that_break_a_rule_are_refused() {
    for (command, variable, value, expected) in [
        (Command::Add, "CNI_CONTAINERID", "-x", 4),
        (Command::Del, "CNI_CONTAINERID", "a/b", 4),
        (Command::Add, "CNI_IFNAME", "1234567890123456", 4),
        (Command::Del, "CNI_IFNAME", "..", 4),
        (Command::Add, "CNI_ARGS", "nonsense", 4),
        (Command::Add, "CNI_NETNS", "run/netns/p", 8),
        (Command::Check, "CNI_NETNS", "run/netns/p", 8),
    ] {
        let result = Invocation::parse(&call(command, &[(variable, value)]), &config(CniVersion::NEWEST));
        assert_eq!(code(result), expected, "{command} {variable}={value}");
    }
    let not_utf8 = Environment::from_vars(|name| match name {
        "CNI_COMMAND" => Some("ADD".into()),
        "CNI_NETNS" => Some(OsString::from_vec(vec![b'/', 0xff])),
        _ => None,
    });
    let error = not_utf8.unwrap_err();
    assert_eq!((u32::from(error.code), error.msg.as_str()), (4, "CNI_NETNS is not UTF-8"));
}

#[test]
fn add_has_all_that_was_said() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let env = call(Command::Add, &[("CNI_ARGS", "K8S_POD_NAME=p;IgnoreUnknown=1"), ("TRACEPARENT", trace)]);
    let Ok(Invocation::Add(add)) = Invocation::parse(&env, &config(CniVersion::V0_3_1)) else { panic!("not an ADD") };
    assert_eq!(add.attachment.to_string(), "azure/c1/eth0");
    assert_eq!(add.netns, Path::new("/run/netns/p"));
    assert_eq!(add.args.pod_name(), Some("p"));
    assert_eq!(add.config.prev_result.unwrap().interfaces[0].name, "eth0");
    assert_eq!(add.traceparent.as_deref(), Some(trace));
    assert_eq!(env.trace_id().as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
}

#[test]
fn a_malformed_trace_context_is_dropped_and_fails_nothing() {
    for trace in ["x", "00-4bf92f35-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\n"] {
        let Ok(Invocation::Add(add)) =
            Invocation::parse(&call(Command::Add, &[("TRACEPARENT", trace)]), &config(CniVersion::NEWEST))
        else {
            panic!("not an ADD")
        };
        assert_eq!(add.traceparent, None, "{trace}");
        assert_eq!(call(Command::Add, &[("TRACEPARENT", trace)]).trace_id(), None, "{trace}");
    }
}

#[test]
fn del_succeeds_without_namespace_and_previous_result_and_whatever_the_configuration_wants() {
    let refused_by_add = json!({
        "cniVersion": "0.4.0", "name": "azure", "multiTenancy": true, "mtu": 1, "prevResult": "broken", "ipam": 3,
        "agentSocket": "/s",
    });
    for (netns, expected) in [("", None), ("relative", None), ("/run/netns/p", Some("/run/netns/p"))] {
        let env = call(Command::Del, &[("CNI_NETNS", netns), ("CNI_ARGS", "nonsense")]);
        let parsed = Invocation::parse(&env, &refused_by_add).unwrap();
        assert_eq!(parsed.agent_socket(), Some(Path::new("/s")));
        let Invocation::Del(del) = parsed else { panic!("not a DEL") };
        assert_eq!(del.netns.as_deref(), expected.map(Path::new));
        assert_eq!(del.attachment.to_string(), "azure/c1/eth0");
    }
}

#[test]
fn check_demands_the_previous_result() {
    let env = call(Command::Check, &[]);
    assert_eq!(code(Invocation::parse(&env, &without("prevResult"))), 7);
    let Ok(Invocation::Check(check)) = Invocation::parse(&env, &config(CniVersion::V0_4_0)) else {
        panic!("not a CHECK")
    };
    assert_eq!(check.prev_result.interfaces[0].sandbox.as_deref(), Some("/run/netns/p"));
}

#[test]
fn gc_refuses_an_absent_list_and_takes_an_empty_one() {
    let env = call(Command::Gc, &[]);
    let gc = |list: Value| {
        let mut config = without("cni.dev/valid-attachments");
        config["cni.dev/valid-attachments"] = list;
        Invocation::parse(&env, &config)
    };
    assert_eq!(code(Invocation::parse(&env, &without("cni.dev/valid-attachments"))), 7);
    assert_eq!(code(gc(Value::Null)), 7);
    assert_eq!(code(gc(json!({}))), 6);
    // Skipping an entry that cannot be read would free a live pod.
    assert_eq!(code(gc(json!([{"containerID": "c1"}]))), 7);
    assert_eq!(code(gc(json!([{"containerID": "c/1", "ifname": "eth0"}]))), 7);

    let valid = |list| match gc(list) {
        Ok(Invocation::Gc(gc)) => gc.valid_attachments.iter().map(AttachmentId::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(valid(json!([])), [""; 0]);
    let two = json!([{"containerID": "c2", "ifname": "eth0"}, {"containerID": "c1", "ifname": "net1", "x": 1}]);
    assert_eq!(valid(two), ["azure/c1/net1", "azure/c2/eth0"]);
}

#[test]
fn status_refuses_a_configuration_that_add_would_refuse() {
    let mut unserved = config(CniVersion::NEWEST);
    unserved["multiTenancy"] = json!(true);
    assert_eq!(code(Invocation::parse(&call(Command::Status, &[]), &unserved)), 7);
}

#[test]
fn the_environment_travels_to_the_agent_unchanged() {
    for command in Command::ALL {
        let env = call(command, &[("CNI_ARGS", "A=b")]);
        let sent = serde_json::to_string(&env).unwrap();
        assert_eq!(serde_json::from_str::<Environment>(&sent).unwrap(), env);
    }
}

/// JSON with mostly known keys, so that random input passes the first check.
fn some_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        9 => prop::sample::select(vec![
            "cniVersion", "name", "type", "mode", "mtu", "ipam", "dns", "args", "cni", "ips", "runtimeConfig",
            "prevResult", "interfaces", "routes", "address", "interface", "dst", "ipsToRouteViaHost", "agentSocket",
            "multiTenancy", "cni.dev/valid-attachments", "containerID", "ifname", "nameservers", "bandwidth",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let text = prop_oneof![
        Just("1.1.0".to_owned()),
        Just("0.3.1".into()),
        Just("transparent".into()),
        Just("10.0.0.5/24".into()),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 12, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => prop::collection::vec((key.clone(), inner), 0..12).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// A valid configuration with random changes.
fn some_config() -> impl Strategy<Value = Value> {
    some_json().prop_map(|overlay| {
        let mut config = config(CniVersion::NEWEST);
        config.as_object_mut().unwrap().extend(overlay.as_object().cloned().unwrap_or_default());
        config
    })
}

fn some_variable(good: &'static str) -> impl Strategy<Value = Option<String>> {
    prop_oneof![3 => Just(Some(good.to_owned())), 1 => any::<Option<String>>()]
}

proptest! {
    #[test]
    fn no_input_makes_the_parser_panic(
        command in prop::sample::select(Command::ALL.to_vec()),
        (container_id, netns, ifname) in (some_variable("c1"), some_variable("/n"), some_variable("eth0")),
        (args, path, traceparent) in (some_variable("A=b"), some_variable("/opt"), any::<Option<String>>()),
        config in prop_oneof![some_json(), some_config()],
    ) {
        let env = Environment { command, container_id, netns, ifname, args, path, traceparent };
        // An error has one of the codes that a configuration or an environment can cause.
        if let Err(error) = Invocation::parse(&env, &config) {
            prop_assert!([1, 2, 4, 6, 7, 8].contains(&u32::from(error.code)), "{}", error);
            prop_assert!(!error.msg.is_empty());
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in any::<Vec<u8>>()) {
        if let Err(error) = crate::cni::decode(&bytes) {
            prop_assert_eq!(u32::from(error.code), 6);
        }
    }
}
