//! What the pool may come from, the best first, and asking one after the other.
//!
//! The rule: the platform's word is not replaced by a file that happens to lie there. On a VM of the platform its services are waited
//! for; where nothing says that the platform is here, they are asked once, for a moment.

use std::fmt;
use std::time::Duration;

use azure_cni_ipam::Pool;
use tokio::time::timeout;

use super::error::{Problem, SourceError};
use super::fetch::fetch_pool;
use super::origin::{Kind, Origin};
use crate::config::{PoolConfig, PoolSource};
use crate::http::HttpError;
use crate::net::Link;

/// How long a service may take that is probably not there.
const MOMENT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    kinds: Vec<Kind>,
    /// How long each may take; `None`: as long as the configuration's time limits let it.
    limit: Option<Duration>,
}

/// None of the candidates gave a pool: what was wrong with each.
#[derive(Debug)]
pub struct NoPool(pub Vec<SourceError>);

impl Candidates {
    pub fn of(config: &PoolConfig, on_platform: bool) -> Self {
        let (kinds, limit): (&[Kind], _) = match config.source {
            PoolSource::Auto if on_platform => (&[Kind::WireServer, Kind::Imds], None),
            PoolSource::Auto => (&[Kind::WireServer, Kind::Imds, Kind::File], Some(MOMENT)),
            PoolSource::WireServer => (&[Kind::WireServer], None),
            PoolSource::Imds => (&[Kind::Imds], None),
            PoolSource::File => (&[Kind::File], None),
            PoolSource::Cns => (&[Kind::Cns], None),
        };
        Self { kinds: kinds.to_vec(), limit }
    }

    pub fn origins(&self, config: &PoolConfig) -> Vec<Origin> {
        self.kinds.iter().map(|kind| Origin::of(config, *kind)).collect()
    }

    /// Asks this one before the others: it has given a pool before. A service that has, shows that the platform is here.
    pub fn prefer(&mut self, kind: Kind) {
        self.kinds.sort_by_key(|other| *other != kind);
        if kind != Kind::File {
            self.kinds.retain(|other| *other != Kind::File);
            self.limit = None;
        }
    }

    /// The one that tells at once whether it has a pool, so that nothing is waited for.
    pub fn has_file(&self) -> bool {
        self.kinds.contains(&Kind::File)
    }

    /// The first pool that one of them gives.
    pub async fn ask(&self, config: &PoolConfig, uplink: &Link) -> Result<(Kind, Pool), NoPool> {
        let mut errors = Vec::new();
        for &kind in &self.kinds {
            let answer = fetch_pool(config, kind, uplink);
            let answer = match self.limit {
                None => answer.await,
                Some(limit) => timeout(limit, answer).await.unwrap_or_else(|_| {
                    Err(SourceError {
                        origin: Origin::of(config, kind),
                        problem: Problem::Http(HttpError::Slow { limit }),
                    })
                }),
            };
            match answer {
                Ok(pool) => return Ok((kind, pool)),
                Err(error) => errors.push(error),
            }
        }
        Err(NoPool(errors))
    }
}

impl fmt::Display for NoPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if number == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for NoPool {}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0, 0x0d, 0x3a, 0, 0, 1];
    const POOL: &str = "<Interfaces><Interface MacAddress=\"000D3A000001\" IsPrimary=\"true\"><IPSubnet Prefix=\"10.0.0.0/24\">\
                        <IPAddress Address=\"10.0.0.4\" IsPrimary=\"true\"/><IPAddress Address=\"10.0.0.9\"/>\
                        </IPSubnet></Interface></Interfaces>";

    /// Nobody listens at its servers' addresses.
    fn config(source: PoolSource, dir: &std::path::Path) -> PoolConfig {
        let nobody = || "http://127.0.0.1:1/".parse().unwrap();
        PoolConfig {
            source,
            file: dir.join("pool.xml"),
            wireserver_url: nobody(),
            imds_url: nobody(),
            ..PoolConfig::default()
        }
    }

    fn uplink() -> Link {
        Link::nic(2, MAC)
    }

    #[test]
    fn file_is_a_candidate_only_where_nothing_says_that_the_platform_is_here() {
        let kinds =
            |source, on_platform| Candidates::of(&PoolConfig { source, ..PoolConfig::default() }, on_platform).kinds;
        assert_eq!(kinds(PoolSource::Auto, true), [Kind::WireServer, Kind::Imds]);
        assert_eq!(kinds(PoolSource::Auto, false), [Kind::WireServer, Kind::Imds, Kind::File]);
        for on_platform in [false, true] {
            assert_eq!(kinds(PoolSource::File, on_platform), [Kind::File]);
            assert_eq!(kinds(PoolSource::Imds, on_platform), [Kind::Imds]);
        }
    }

    #[test]
    fn what_has_given_a_pool_before_is_asked_first() {
        let mut candidates = Candidates::of(&PoolConfig::default(), false);
        candidates.prefer(Kind::File);
        assert_eq!(candidates.kinds, [Kind::File, Kind::WireServer, Kind::Imds]);
        candidates.prefer(Kind::Imds);
        assert_eq!(candidates, Candidates { kinds: vec![Kind::Imds, Kind::WireServer], limit: None });
    }

    #[tokio::test]
    async fn file_is_taken_where_no_service_answers() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(PoolSource::Auto, dir.path());
        std::fs::write(&config.file, POOL).unwrap();
        let (kind, pool) = Candidates::of(&config, false).ask(&config, &uplink()).await.unwrap();
        assert_eq!((kind, pool.primary.to_string()), (Kind::File, "10.0.0.4".to_owned()));
    }

    #[tokio::test]
    async fn file_does_not_stand_in_for_the_platform() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(PoolSource::Auto, dir.path());
        std::fs::write(&config.file, POOL).unwrap();
        let error = Candidates::of(&config, true).ask(&config, &uplink()).await.unwrap_err();
        assert_eq!(error.0.iter().map(|error| error.origin.kind).collect::<Vec<_>>(), [Kind::WireServer, Kind::Imds]);
    }

    #[tokio::test]
    async fn service_that_never_answers_is_waited_for_a_moment_where_it_is_probably_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let config = PoolConfig { imds_url: url.parse().unwrap(), ..config(PoolSource::Auto, dir.path()) };
        std::fs::write(&config.file, POOL).unwrap();
        let candidates = Candidates { limit: Some(Duration::from_millis(100)), ..Candidates::of(&config, false) };
        assert_eq!(candidates.ask(&config, &uplink()).await.unwrap().0, Kind::File);
    }
}
