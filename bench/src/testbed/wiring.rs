//! MTU and offloads of the interfaces that loads run over: figures of unlike wires are not compared.

use anyhow::{Context, Result, ensure};
use azure_cni_tests::{Offloads, Station, offloads, query};
use serde::{Deserialize, Serialize};

use crate::variant::Variant;

/// The interface of every station, pod or machine.
const INTERFACE: &str = "eth0";

/// What an interface is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wiring {
    pub(crate) variant: Variant,
    pub(crate) station: String,
    pub(crate) mtu: u64,
    pub(crate) gso_max_size: u64,
    pub(crate) tx_checksum: bool,
    pub(crate) tso: bool,
    pub(crate) gso: bool,
    pub(crate) gro: bool,
}

impl Wiring {
    pub(super) fn of(variant: Variant, station: &dyn Station) -> Result<Self> {
        let links = query(station.namespace(), &format!("link show dev {INTERFACE}"))?;
        let number = |key: &str| {
            let value = links.first().and_then(|link| link[key].as_u64());
            value.with_context(|| format!("`ip` does not report {key} of {INTERFACE} in {}", station.name()))
        };
        let Offloads { tx_checksum, tso, gso, gro } = offloads(station.namespace(), INTERFACE)?;
        Ok(Self {
            variant,
            station: station.name().into(),
            mtu: number("mtu")?,
            gso_max_size: number("gso_max_size")?,
            tx_checksum,
            tso,
            gso,
            gro,
        })
    }

    /// Everything but whose it is.
    fn properties(&self) -> (u64, u64, [bool; 4]) {
        (self.mtu, self.gso_max_size, [self.tx_checksum, self.tso, self.gso, self.gro])
    }
}

/// Fails on the first two interfaces that differ.
pub(super) fn ensure_identical(wirings: &[Wiring]) -> Result<()> {
    for pair in wirings.windows(2) {
        let is_identical = pair[0].properties() == pair[1].properties();
        ensure!(is_identical, "the variants' interfaces differ, so there is nothing to compare:\n{:#?}", pair);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wiring(mtu: u64, gro: bool) -> Wiring {
        let station = format!("{mtu}-{gro}");
        Wiring {
            variant: Variant::Bare,
            station,
            mtu,
            gso_max_size: 65536,
            tx_checksum: true,
            tso: true,
            gso: true,
            gro,
        }
    }

    #[test]
    fn interfaces_that_differ_are_not_compared() {
        assert!(ensure_identical(&[wiring(1500, false), wiring(1500, false)]).is_ok());
        assert!(ensure_identical(&[wiring(1500, false), wiring(1400, false)]).is_err());
        assert!(ensure_identical(&[wiring(1500, false), wiring(1500, true)]).is_err());
    }
}
