//! Durations as Consul writes them: `200ms`, `10s`, `1m30s`, `24h0m0s`.

use std::time::Duration;

/// Why a text is not a duration. Nothing was sent, so a corrected command may be run at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    /// There is no text.
    #[error("a duration is missing; write for example 10s")]
    Empty,
    /// A number has no unit. Seconds or nanoseconds would both be a guess.
    #[error("{0:?} has no unit; write for example {0}s (units: ns, us, ms, s, m, h)")]
    NoUnit(String),
    /// The text has another form.
    #[error("{0:?} is not a duration; write for example 200ms, 10s or 1m30s (units: ns, us, ms, s, m, h)")]
    Malformed(String),
    /// The duration does not fit in 64 bits of nanoseconds, the largest value the API knows.
    #[error("{0:?} is too long; the longest duration is about 292 years")]
    TooLong(String),
}

/// Reads a duration: one or more decimal numbers, each with a unit; `0` needs none.
///
/// # Errors
///
/// [`DurationError`] names what is wrong with the text.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let mut rest = text;
    let mut total: f64 = 0.0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(unit_at);
        let number: f64 = number.parse().map_err(|_| DurationError::Malformed(text.to_owned()))?;
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let nanoseconds = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            "" => return Err(DurationError::NoUnit(text.to_owned())),
            _ => return Err(DurationError::Malformed(text.to_owned())),
        };
        total += number * nanoseconds;
        rest = tail;
    }
    if total >= i64::MAX as f64 {
        return Err(DurationError::TooLong(text.to_owned()));
    }
    Ok(Duration::from_nanos(total.round() as u64))
}

/// Checks a duration and keeps its text, so that what is sent is what was typed.
///
/// # Errors
///
/// The same as [`parse`].
pub(crate) fn checked(text: &str) -> Result<String, DurationError> {
    parse(text).map(|_| text.to_owned())
}

/// Writes a duration for a person: two units at most, no more digits than help.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_millis() < 1_000 && duration.as_millis() > 0 => {
            format!("{}ms", duration.as_millis())
        }
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_api_writes() {
        for (text, expected) in [
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
            ("200ms", Duration::from_millis(200)),
            ("1.5s", Duration::from_millis(1_500)),
            ("27.291304ms", Duration::from_nanos(27_291_304)),
            ("24h0m0s", Duration::from_secs(86_400)),
            ("1m30s", Duration::from_secs(90)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        assert_eq!(parse(""), Err(DurationError::Empty));
        assert_eq!(parse("10"), Err(DurationError::NoUnit("10".to_owned())));
        assert_eq!(parse("1m30"), Err(DurationError::NoUnit("1m30".to_owned())));
        for text in ["-1s", "s", "ten seconds", "1d", "1 s", "1.2.3s", "NaNs", "infs"] {
            assert_eq!(parse(text), Err(DurationError::Malformed(text.to_owned())), "{text}");
        }
        assert_eq!(parse("3000000h"), Err(DurationError::TooLong("3000000h".to_owned())));
    }

    #[test]
    fn short_form_keeps_two_units() {
        for (milliseconds, expected) in
            [(0, "0.0s"), (27, "27ms"), (3_240, "3.2s"), (61_000, "1m01s"), (3_720_000, "1h02m")]
        {
            assert_eq!(short(Duration::from_millis(milliseconds)), expected);
        }
    }
}
