//! From a file and the command line to a configuration. A file that the operator names must exist; the default one may be
//! absent.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::level::LogLevel;
use super::{AgentConfig, DEFAULT_PATH};

/// The daemon's command line. Each value given wins over the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Overrides {
    /// Unix socket to listen on
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Directory of what must survive a restart
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Directory below a bpffs where programs and maps are pinned
    #[arg(long, value_name = "DIR")]
    pub bpffs_dir: Option<PathBuf>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
}

impl AgentConfig {
    /// Reads the file; `None` is the default file, whose absence gives the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_or_default(path, Path::new(DEFAULT_PATH))
    }

    fn load_or_default(path: Option<&Path>, default_path: &Path) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(default_path);
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, file),
            Err(error) if error.kind() == ErrorKind::NotFound && path.is_none() => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: file.to_owned(), source }),
        }
    }

    /// Reads the text of a file; `path` is for errors only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| invalid(&error, text, path))?;
        config.check()?;
        Ok(config)
    }

    /// The configuration with what the command line sets.
    pub fn with_overrides(mut self, overrides: Overrides) -> Result<Self, ConfigError> {
        self.socket = overrides.socket.unwrap_or(self.socket);
        self.state_dir = overrides.state_dir.unwrap_or(self.state_dir);
        self.bpffs_dir = overrides.bpffs_dir.unwrap_or(self.bpffs_dir);
        self.log_level = overrides.log_level.unwrap_or(self.log_level);
        self.check()?;
        Ok(self)
    }
}

/// One line with the place and the text there, so that the error names the key whatever the parser's message says.
fn invalid(error: &toml::de::Error, text: &str, path: &Path) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text.as_bytes()[..offset];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    ConfigError::Invalid {
        path: path.to_owned(),
        line,
        column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1,
        message: error.message().replace('\n', ", "),
        text: text.lines().nth(line - 1).unwrap_or_default().trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{AttachMode, PoolSource};
    use super::*;

    fn parse(text: &str) -> Result<AgentConfig, String> {
        AgentConfig::parse(text, Path::new("agent.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        assert_eq!(parse(""), Ok(AgentConfig::default()));
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            r#"
            uplink = "eth1"
            socket = "/a/agent.sock"
            state_dir = "/a/state"
            bpffs_dir = "/a/bpf"
            spool_dir = "/a/spool"
            conflist = "/a/azure.conflist"
            cni_bin_dirs = ["/a/bin"]
            log_level = "debug"
            [pool]
            source = "imds"
            file = "/a/pool.xml"
            wireserver_url = "http://10.0.0.1/w"
            imds_url = "http://10.0.0.2/i"
            cns_url = "http://10.0.0.3:1"
            connect_timeout_secs = 3
            request_timeout_secs = 4
            refresh_min_secs = 6
            refresh_max_secs = 7
            cooldown_secs = 5
            reuse_cooling = true
            [routing]
            vnet_prefixes = ["10.240.0.0/16", "192.168.0.0/24", "FD00:240:0::/48"]
            host_addresses = ["169.254.20.10", "fd00::10"]
            service_prefixes = []
            masq_dir = "/a/masq"
            public_addresses = ["10.240.0.9", "fd00::9"]
            block_imds = true
            [snat]
            port_range = "2000-2999"
            pod_port_share = 10
            node_ports = "3000-3999"
            ipv6 = true
            [timeouts]
            tcp_half_open_secs = 11
            tcp_established_secs = 16
            tcp_half_closed_secs = 13
            tcp_closed_secs = 12
            datagram_one_way_secs = 14
            datagram_exchange_secs = 15
            datagram_stream_secs = 18
            datagram_question_secs = 17
            [datapath]
            attach = "clsact"
            max_flows = 65536
            max_half_open = 32768
            max_routes = 131072
            pod_flow_share = 50
            mtu = 1400
            log = true
            "#,
        )
        .unwrap();
        assert_eq!(config.uplink.unwrap().as_str(), "eth1");
        assert_eq!(config.socket, Path::new("/a/agent.sock"));
        assert_eq!(config.state_dir, Path::new("/a/state"));
        assert_eq!(config.bpffs_dir, Path::new("/a/bpf"));
        assert_eq!(config.spool_dir, Path::new("/a/spool"));
        assert_eq!(config.conflist.as_deref(), Some(Path::new("/a/azure.conflist")));
        assert_eq!(config.log_level, LogLevel::Debug);
        assert_eq!(config.pool.source, PoolSource::Imds);
        assert_eq!(config.pool.wireserver_url.to_string(), "http://10.0.0.1/w");
        assert_eq!(config.pool.imds_url.to_string(), "http://10.0.0.2/i");
        assert_eq!(config.pool.cns_url.to_string(), "http://10.0.0.3:1");
        assert_eq!((config.pool.connect_timeout_secs, config.pool.request_timeout_secs), (3, 4));
        assert_eq!((config.pool.refresh_min_secs, config.pool.refresh_max_secs), (6, 7));
        assert_eq!(config.pool.file, Path::new("/a/pool.xml"));
        assert_eq!(config.pool.cooldown().as_secs(), 5);
        assert!(config.pool.reuse_cooling);
        assert_eq!(config.routing.vnet_prefixes.len(), 3);
        assert_eq!(config.routing.vnet_prefixes[1].to_string(), "192.168.0.0/24");
        assert_eq!(config.routing.vnet_prefixes[2].to_string(), "fd00:240::/48");
        assert_eq!(config.routing.host_addresses[0].to_string(), "169.254.20.10");
        assert_eq!(config.routing.host_addresses[1].to_string(), "fd00::10");
        assert_eq!(config.routing.service_prefixes, Some(vec![]));
        assert_eq!(config.routing.masq_dir.as_deref(), Some(Path::new("/a/masq")));
        let public = config.routing.public_addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(public, ["10.240.0.9", "fd00::9"]);
        assert!(config.routing.block_imds);
        assert_eq!(config.snat.port_range.to_string(), "2000-2999");
        assert_eq!(config.snat.node_ports.to_string(), "3000-3999");
        assert!(config.snat.ipv6);
        let timeouts = config.timeouts;
        assert_eq!((timeouts.tcp_half_open_secs, timeouts.tcp_established_secs), (11, 16));
        assert_eq!((timeouts.tcp_half_closed_secs, timeouts.tcp_closed_secs), (13, 12));
        assert_eq!((timeouts.datagram_one_way_secs, timeouts.datagram_exchange_secs), (14, 15));
        assert_eq!((timeouts.datagram_stream_secs, timeouts.datagram_question_secs), (18, 17));
        assert_eq!(config.datapath.attach, AttachMode::Clsact);
        assert_eq!(config.datapath.max_flows, Some(65_536));
        assert_eq!(config.datapath.max_half_open, Some(32_768));
        assert_eq!(config.datapath.max_routes, 131_072);
        assert_eq!(config.datapath.mtu, Some(1400));
        assert!(config.datapath.log);
    }

    #[test]
    fn a_mistake_is_reported_with_its_key_and_line() {
        for (text, place, complaint) in [
            ("uplnk = \"eth0\"", "line 1, column 1", "unknown field `uplnk`"),
            ("\n[pool]\nfile = \"/p\"\ncooldown = 3", "line 4, column 1", "unknown field `cooldown`"),
            ("log_level = \"info\"\n[datpath]", "line 2, column 2", "unknown field `datpath`"),
            ("snat.ports = \"1-2\"", "line 1, column 6", "unknown field `ports`"),
            ("# é\nlog_level = \"loud\"", "line 2, column 13", "\"loud\" is not a log level"),
            ("uplink = \"a/b\"", "line 1", "interface name \"a/b\" contains"),
            ("uplink = \"\"", "line 1", "\"\" is not an interface name"),
            ("[datapath]\nmax_flows = \"many\"", "line 2", "max_flows = \"many\""),
            ("[datapath]\nmax_flows = -1", "line 2", "max_flows = -1"),
            ("[datapath]\nattach = \"xdp\"", "line 2", "unknown variant `xdp`"),
            ("[pool]\nsource = \"dhcp\"", "line 2", "unknown variant `dhcp`"),
            ("[pool]\nimds_url = \"https://a/\"", "line 2", "has another scheme than http"),
            ("[snat]\nport_range = \"9-1\"", "line 2", "port range 9-1 ends before it begins"),
            ("[snat]\n\nnode_ports = 30000", "line 3", "node_ports = 30000"),
            ("[routing]\nvnet_prefixes = [\"10.0.0.1/8\"]", "line 2", "the prefix of that length is \"10.0.0.0/8\""),
            ("[routing]\nvnet_prefixes = [\"10.0.0.0\"]", "line 2", "\"10.0.0.0\" is not a prefix"),
            ("[routing]\nvnet_prefixes = [\"fd00::1/8\"]", "line 2", "the prefix of that length is \"fd00::/8\""),
            ("[routing]\nvnet_prefixes = [\"fd00::/129\"]", "line 2", "\"fd00::/129\" is not a prefix"),
            ("[routing]\nservice_prefixes = [\"fd00::\"]", "line 2", "\"fd00::\" is not a prefix"),
            ("[routing]\nservice_prefixes = [\"10.0.0.9/16\"]", "line 2", "host bits set"),
            ("[routing]\nhost_addresses = [\"fd00::1%eth0\"]", "line 2", "is not an address"),
            ("[routing]\nhost_addresses = [\"10.0.0.0/8\"]", "line 2", "is not an address"),
            ("[routing]\npublic_addresses = [\"10.0.0.0/8\"]", "line 2", "is not an address"),
            ("socket = \"/a\"\nsocket = \"/b\"", "line 2", "duplicate key"),
            ("socket = ", "line 1", "in `socket =`"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with(&format!("agent.toml, {place}")), "{text:?}: {error}");
            assert!(error.contains(complaint), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn absent_service_prefixes_are_unknown_and_empty_ones_are_known() {
        assert_eq!(parse("").unwrap().routing.service_prefixes, None);
        assert_eq!(parse("routing.service_prefixes = []").unwrap().routing.service_prefixes, Some(vec![]));
    }

    #[test]
    fn a_file_that_contradicts_itself_is_refused() {
        assert!(parse("snat.port_range = \"1024-30000\"").unwrap_err().contains("snat.node_ports"));
        assert!(parse("timeouts.tcp_closed_secs = 3600").unwrap_err().contains("timeouts.tcp_half_closed_secs"));
    }

    #[test]
    fn a_named_file_must_exist_and_the_default_one_need_not() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("agent.toml");
        assert_eq!(AgentConfig::load_or_default(None, &absent).unwrap(), AgentConfig::default());
        let error = AgentConfig::load(Some(&absent)).unwrap_err().to_string();
        assert!(error.contains("agent.toml") && error.contains("No such file"), "{error}");

        std::fs::write(&absent, "log_level = \"trace\"").unwrap();
        assert_eq!(AgentConfig::load_or_default(None, &absent).unwrap().log_level, LogLevel::Trace);
        assert_eq!(AgentConfig::load(Some(&absent)).unwrap().log_level, LogLevel::Trace);
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_is_checked_too() {
        let file = parse("socket = \"/file.sock\"\nstate_dir = \"/file\"\nlog_level = \"warn\"").unwrap();
        let overrides = Overrides {
            socket: Some("/cli.sock".into()),
            bpffs_dir: Some("/cli/bpf".into()),
            log_level: Some(LogLevel::Debug),
            ..Overrides::default()
        };
        let config = file.clone().with_overrides(overrides).unwrap();
        assert_eq!(config.socket, Path::new("/cli.sock"));
        assert_eq!(config.state_dir, Path::new("/file"));
        assert_eq!(config.bpffs_dir, Path::new("/cli/bpf"));
        assert_eq!(config.log_level, LogLevel::Debug);

        let relative = Overrides { state_dir: Some("state".into()), ..Overrides::default() };
        assert!(file.with_overrides(relative).unwrap_err().to_string().contains("state_dir"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "([a-z_.=\"\\[\\]0-9 é\n-]|pool|snat|routing|socket){0,60}") {
            let _ = parse(&text);
        }
    }
}
