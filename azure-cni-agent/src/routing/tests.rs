//! The routing in force changes when something else was read, and only then.

use super::*;

fn config(dir: &Path) -> RoutingConfig {
    RoutingConfig { masq_dir: Some(dir.to_owned()), ..RoutingConfig::default() }
}

fn prefixes(routing: &Routing) -> Vec<String> {
    routing.vnet_prefixes().map(|prefix| prefix.to_string()).collect()
}

#[test]
fn a_malformed_directory_changes_nothing_and_is_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ip-masq-agent");
    std::fs::write(&file, "nonMasqueradeCIDRs: [10.0.0.0/8]\nmasqLinkLocal: true\nmasqLinkLocalIPv6: true").unwrap();
    let mut routing = Routing::at_start(config(dir.path())).unwrap();
    assert_eq!(prefixes(&routing), ["10.0.0.0/8"]);
    assert_eq!(routing.update_masq_dir(dir.path(), Snapshot::read(dir.path())), MasqDirUpdate::Unchanged);

    std::fs::write(&file, "nonMasqueradeCIDRs: [10.0.0.0]").unwrap();
    assert!(matches!(routing.update_masq_dir(dir.path(), Snapshot::read(dir.path())), MasqDirUpdate::Refused(_)));
    assert_eq!(routing.update_masq_dir(dir.path(), Snapshot::read(dir.path())), MasqDirUpdate::Unchanged);
    assert_eq!(prefixes(&routing), ["10.0.0.0/8"]);
    assert!(routing.problem().unwrap().contains("ip-masq-agent: \"10.0.0.0\" is not a prefix"));

    std::fs::write(&file, "nonMasqueradeCIDRs: [172.16.0.0/12]\nmasqLinkLocal: true\nmasqLinkLocalIPv6: true").unwrap();
    assert_eq!(routing.update_masq_dir(dir.path(), Snapshot::read(dir.path())), MasqDirUpdate::Changed);
    assert_eq!((prefixes(&routing), routing.problem()), (vec!["172.16.0.0/12".to_owned()], None));

    std::fs::remove_file(&file).unwrap();
    assert_eq!(routing.update_masq_dir(dir.path(), Snapshot::read(dir.path())), MasqDirUpdate::Changed);
    assert_eq!(prefixes(&routing), [""; 0]);
}

#[test]
fn an_agent_does_not_start_with_a_malformed_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config"), "masqLinkLocal: perhaps").unwrap();
    assert!(Routing::at_start(config(dir.path())).is_err());
    assert!(Routing::at_start(config(&dir.path().join("absent"))).is_err());
    assert!(Routing::at_start(RoutingConfig::default()).is_ok());
}

#[test]
fn prefixes_of_the_directory_go_with_it_but_not_with_a_mistake_in_another() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config"), "").unwrap();
    let mut routing = Routing::at_start(config(dir.path())).unwrap();
    let link_local = ["169.254.0.0/16", "fe80::/10"];
    assert_eq!(prefixes(&routing), link_local);

    let absent = dir.path().join("absent");
    routing.replace(config(&absent));
    assert!(matches!(routing.update_masq_dir(&absent, Snapshot::read(&absent)), MasqDirUpdate::Refused(_)));
    assert_eq!(prefixes(&routing), link_local);

    routing.replace(RoutingConfig::default());
    assert_eq!((prefixes(&routing), routing.problem()), (vec![], None));
}
