//! Durations as Go programs write and read them: `200ms`, `1m30.2s`, `24h0m0s`, `0s`.

use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes a duration the way Go's `time.Duration` prints itself: the largest unit that fits, no trailing zeros.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let mut text = String::new();
            if minutes >= 60 {
                let _ = write!(text, "{}h", minutes / 60);
            }
            if minutes > 0 {
                let _ = write!(text, "{}m", minutes % 60);
            }
            let _ = write!(text, "{}s", decimal(nanos % 60_000_000_000, 1_000_000_000));
            text
        }
    }
}

/// `value / unit` without trailing zeros; `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let whole = value / unit;
    let rest = value % unit;
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let fraction = format!("{rest:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// Reads what [`format()`] writes, and a bare number as nanoseconds.
///
/// # Errors
/// Anything else, negative durations included: none of the settings and parameters here can be negative.
pub fn parse(text: &str) -> Result<Duration, String> {
    if let Ok(nanos) = text.parse::<u64>() {
        return Ok(Duration::from_nanos(nanos));
    }
    humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is not a duration; write one such as \"200ms\", \"10s\" or \"1m30s\""))
}

/// A duration in a JSON body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(self.0))
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a duration such as \"200ms\" or a number of nanoseconds")]
        enum Either {
            Nanos(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Nanos(nanos) => Ok(Self(Duration::from_nanos(nanos))),
            Either::Text(text) => parse(&text).map(Self).map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (200_000_000, "200ms"),
            (27_291_304, "27.291304ms"),
            (1_000_000_000, "1s"),
            (10_000_000_000, "10s"),
            (90_200_000_000, "1m30.2s"),
            (60_000_000_000, "1m0s"),
            (86_400_000_000_000, "24h0m0s"),
            (3_600_000_000_001, "1h0m0.000000001s"),
        ] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(format(duration), text);
            assert_eq!(parse(text), Ok(duration), "{text}");
        }
    }

    #[test]
    fn bare_numbers_are_nanoseconds_and_nonsense_is_refused() {
        assert_eq!(parse("200000000"), Ok(Duration::from_millis(200)));
        assert_eq!(parse("1.5h"), Ok(Duration::from_secs(5_400)));
        for text in ["", "-1s", "10 parsecs", "s", "99999999999999999999999"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let read = |json| serde_json::from_str::<GoDuration>(json).map(|d| d.0).map_err(|e| e.to_string());
        assert_eq!(read("\"10s\""), Ok(Duration::from_secs(10)));
        assert_eq!(read("5"), Ok(Duration::from_nanos(5)));
        assert!(read("\"soon\"").expect_err("refused").contains("soon"));
        assert!(read("true").is_err());
    }
}
