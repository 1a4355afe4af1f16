//! The capability `bandwidth`: how runtimes pass on the limits of a pod, those of its annotations too.

use super::error::CniError;
use super::fields::Fields;
use crate::bandwidth::{Bandwidth, RateLimit};

pub(super) const CAPABILITY: &str = "bandwidth";

/// `runtime` is `runtimeConfig`. A rate of 0 is none, as runtimes write it for the direction that has no limit.
pub(super) fn read(runtime: Option<&Fields>) -> Result<Bandwidth, CniError> {
    let Some(fields) = runtime.map(|runtime| runtime.object(CAPABILITY)).transpose()?.flatten() else {
        return Ok(Bandwidth::UNLIMITED);
    };
    Ok(Bandwidth {
        ingress: limit(&fields, "ingressRate", "ingressBurst")?,
        egress: limit(&fields, "egressRate", "egressBurst")?,
    })
}

fn limit(fields: &Fields, rate_key: &str, burst_key: &str) -> Result<Option<RateLimit>, CniError> {
    let given = |key| fields.number::<u64>(key).map(|number| number.filter(|number| *number > 0));
    match (given(rate_key)?, given(burst_key)?) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let (burst, rate) = (fields.path(burst_key), fields.path(rate_key));
            Err(CniError::invalid_config(format!("{burst} is given without {rate}")))
        }
        (Some(rate), burst) => {
            if !(RateLimit::RATE_MIN..=RateLimit::RATE_MAX).contains(&rate) {
                let path = fields.path(rate_key);
                return Err(CniError::invalid_config(format!(
                    "{path} is {rate} bit/s, not within 1 kbit/s and 1 Pbit/s"
                )));
            }
            let burst = burst.filter(|burst| *burst < RateLimit::BURST_UNCHOSEN);
            if let Some(burst) = burst.filter(|burst| *burst < RateLimit::BURST_MIN) {
                let (path, least) = (fields.path(burst_key), RateLimit::BURST_MIN);
                let msg = format!("{path} is {burst} bits, less than a packet of 1500 bytes ({least} bits)");
                return Err(CniError::invalid_config(msg));
            }
            Ok(Some(RateLimit { rate, burst }))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_of(bandwidth: Value) -> Result<Bandwidth, CniError> {
        let runtime = json!({ "bandwidth": bandwidth });
        read(Some(&Fields::whole("runtimeConfig", &runtime)?))
    }

    fn limit_of(rate: u64, burst: Option<u64>) -> Option<RateLimit> {
        Some(RateLimit { rate, burst })
    }

    #[test]
    fn each_direction_has_its_own_limit() {
        for (given, ingress, egress) in [
            (json!(null), None, None),
            (json!({}), None, None),
            (json!({"ingressRate": 0, "ingressBurst": 0, "egressRate": 0}), None, None),
            (json!({"ingressRate": 1_000_000}), limit_of(1_000_000, None), None),
            (json!({"egressRate": 5000, "egressBurst": 12_000, "ingressRate": 0}), None, limit_of(5000, Some(12_000))),
            (
                json!({"ingressRate": 1_000, "ingressBurst": 80_000, "egressRate": 1_000_000_000_000_000_u64}),
                limit_of(1_000, Some(80_000)),
                limit_of(1_000_000_000_000_000, None),
            ),
        ] {
            assert_eq!(read_of(given.clone()), Ok(Bandwidth { ingress, egress }), "{given}");
        }
        assert_eq!(read(None), Ok(Bandwidth::UNLIMITED));
    }

    #[test]
    fn burst_that_runtimes_write_when_nobody_has_chosen_one_is_none() {
        for burst in [(1_u64 << 31) - 1, (1 << 32) - 1, ((1 << 32) - 1) * 8, ((1 << 32) - 1) * 8 - 1] {
            let read = read_of(json!({"ingressRate": 10_000_000, "ingressBurst": burst})).unwrap();
            assert_eq!(read.ingress, limit_of(10_000_000, None), "{burst}");
        }
        let chosen = read_of(json!({"ingressRate": 10_000_000, "ingressBurst": (1_u64 << 31) - 2})).unwrap();
        assert_eq!(chosen.ingress, limit_of(10_000_000, Some((1 << 31) - 2)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key() {
        for (given, code, named) in [
            (json!({"ingressRate": -1}), 7, "bandwidth.ingressRate is -1"),
            (json!({"egressRate": 999}), 7, "bandwidth.egressRate is 999 bit/s"),
            (json!({"egressRate": 1_000_000_000_000_001_u64}), 7, "bandwidth.egressRate is 1000000000000001 bit/s"),
            (json!({"ingressBurst": 80_000}), 7, "bandwidth.ingressBurst is given without bandwidth.ingressRate"),
            (json!({"egressBurst": 80_000, "egressRate": 0}), 7, "bandwidth.egressBurst is given without"),
            (json!({"ingressRate": 5000, "ingressBurst": 11_999}), 7, "bandwidth.ingressBurst is 11999 bits"),
            (json!({"ingressRate": 5000, "ingressBurst": -8}), 7, "bandwidth.ingressBurst is -8"),
            (json!({"ingressRate": "10M"}), 6, "bandwidth.ingressRate must be an integer"),
            (json!({"ingressRate": 1.5}), 6, "bandwidth.ingressRate must be an integer"),
            (json!({"ingressRate": u64::MAX}), 6, "bandwidth.ingressRate must be an integer"),
            (json!([1]), 6, "bandwidth must be an object"),
        ] {
            let error = read_of(given.clone()).unwrap_err();
            assert_eq!(u32::from(error.code), code, "{given}: {error}");
            assert!(error.msg.contains(named), "{given}: {error}");
        }
    }
}
