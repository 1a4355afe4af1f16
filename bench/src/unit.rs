//! Units of samples, and which way they are better.

use serde::{Deserialize, Serialize};

/// What a sample is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    PacketsPerSecond,
    ConnectionsPerSecond,
    PodsPerSecond,
    BitsPerSecond,
    Nanoseconds,
    /// Of processor time, so that subtraction gives a part of it.
    ProcessorNanoseconds,
    /// Of the whole machine, for each 10^9 bytes.
    ProcessorSecondsPerGigabyte,
    Bytes,
    Count,
    /// Of one.
    Share,
}

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Better {
    Higher,
    Lower,
}

impl Unit {
    /// Rates are better when they are higher; times, costs and losses when they are lower.
    pub(crate) fn better(self) -> Better {
        match self {
            Self::PacketsPerSecond | Self::ConnectionsPerSecond | Self::PodsPerSecond | Self::BitsPerSecond => {
                Better::Higher
            }
            _ => Better::Lower,
        }
    }

    /// Whether a ratio of two samples says anything: losses and counts may be zero.
    pub(crate) fn has_ratios(self) -> bool {
        !matches!(self, Self::Share | Self::Count)
    }

    /// A sample for people.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::PacketsPerSecond | Self::ConnectionsPerSecond => {
                scaled(value, [("", "/s"), ("k", "/s"), ("M", "/s")])
            }
            Self::PodsPerSecond => format!("{} /s", digits(value)),
            Self::BitsPerSecond => format!("{} Gbit/s", digits(value / 1e9)),
            Self::Nanoseconds | Self::ProcessorNanoseconds => duration(value),
            Self::ProcessorSecondsPerGigabyte => format!("{} s/GB", digits(value)),
            Self::Bytes if value.abs() < 10_240.0 => format!("{value:.0} bytes"),
            Self::Bytes => format!("{} MiB", digits(value / f64::from(1 << 20))),
            Self::Count => format!("{value:.0}"),
            Self::Share => format!("{:.3} %", value * 100.0),
        }
    }
}

/// A time span that a person waits for, in minutes and seconds.
pub(crate) fn elapsed(duration: std::time::Duration) -> String {
    let secs = duration.as_secs();
    if secs < 60 { format!("{secs} s") } else { format!("{} min {:02} s", secs / 60, secs % 60) }
}

fn scaled(value: f64, steps: [(&str, &str); 3]) -> String {
    let (power, (prefix, suffix)) = match value.abs() {
        size if size < 1e3 => (1.0, steps[0]),
        size if size < 1e6 => (1e3, steps[1]),
        _ => (1e6, steps[2]),
    };
    format!("{} {prefix}{suffix}", digits(value / power))
}

fn duration(nanos: f64) -> String {
    let (power, name) = match nanos.abs() {
        size if size < 1e4 => return format!("{nanos:.0} ns"),
        size if size < 1e6 => (1e3, "us"),
        size if size < 1e9 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    format!("{} {name}", digits(nanos / power))
}

/// Three of them that count.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_with_a_prefix_that_fits() {
        for (unit, value, text) in [
            (Unit::PacketsPerSecond, 167_400.0, "167 k/s"),
            (Unit::ConnectionsPerSecond, 10_120.0, "10.1 k/s"),
            (Unit::PacketsPerSecond, 1_234_000.0, "1.23 M/s"),
            (Unit::Nanoseconds, 241.4, "241 ns"),
            (Unit::Nanoseconds, 28_300.0, "28.3 us"),
            (Unit::Nanoseconds, 6_812_000.0, "6.81 ms"),
            (Unit::Nanoseconds, 1_730_000_000.0, "1.73 s"),
            (Unit::BitsPerSecond, 23.456e9, "23.5 Gbit/s"),
            (Unit::Bytes, 184.0, "184 bytes"),
            (Unit::Bytes, 40_000_000.0, "38.1 MiB"),
            (Unit::Share, 0.0012, "0.120 %"),
        ] {
            assert_eq!(unit.show(value), text);
        }
    }
}
