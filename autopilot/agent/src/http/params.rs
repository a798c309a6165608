//! Query parameters: names with or without a value, as in `?stale&index=7`.

use std::time::Duration;

use super::duration;
use super::error::ApiError;

/// The most parameters in one request; clients send a handful.
const PARAMS_MAX: usize = 64;
/// How long a blocking query waits unless told, and at most.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);
const WAIT_MAX: Duration = Duration::from_secs(600);

/// The parameters of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Params {
    pairs: Vec<(String, String)>,
}

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consistency {
    /// Sees every write acknowledged before the request, as long as clocks drift apart no further than the leader's lease
    /// allows. What Consul calls `leader` where it names it.
    Default,
    /// The same whatever clocks do: a quorum confirms the leader.
    Consistent,
    /// Whatever this server has.
    Stale,
}

/// A query that waits for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocking {
    /// Wait while the index is not above this one.
    pub(super) index: u64,
    /// For at most this long.
    pub(super) wait: Duration,
}

impl Params {
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            if pairs.len() == PARAMS_MAX {
                return Err(ApiError::Bad(format!("more than {PARAMS_MAX} query parameters")));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((decode(name, true)?, decode(value, true)?));
        }
        Ok(Self { pairs })
    }

    /// The first value under this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a flag is set: present, and not said to be false.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "false" | "0"))
    }

    /// A number, when given.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                ApiError::Bad(format!("Invalid {name}: {text:?} is not a number from 0 to 2^64-1"))
            }),
        }
    }

    pub(super) fn consistency(&self) -> Result<Consistency, ApiError> {
        match (self.flag("stale"), self.flag("consistent")) {
            (true, true) => Err(ApiError::Bad(
                "Cannot specify ?stale with ?consistent, conflicting semantics.".to_owned(),
            )),
            (true, false) => Ok(Consistency::Stale),
            (false, true) => Ok(Consistency::Consistent),
            (false, false) => Ok(Consistency::Default),
        }
    }

    /// How long to wait for a change, when that is said.
    pub(super) fn wait(&self) -> Result<Option<Duration>, ApiError> {
        let given = self.get("wait").filter(|text| !text.is_empty());
        let parsed = given.map(duration::parse).transpose();
        let wait = parsed.map_err(|error| ApiError::Bad(format!("Invalid wait time: {error}")))?;
        Ok(wait.map(|wait| wait.min(WAIT_MAX)))
    }

    /// The wait for a change, when one is asked for.
    pub(super) fn blocking(&self) -> Result<Option<Blocking>, ApiError> {
        let wait = self.wait()?.unwrap_or(WAIT_DEFAULT);
        let index = match self.get("index").filter(|text| !text.is_empty()) {
            None => return Ok(None),
            Some(text) => text.parse::<u64>().map_err(|_| {
                ApiError::Bad(format!("Invalid index: {text:?} is not a number from 0 to 2^64-1"))
            })?,
        };
        // Index 0 asks for the present, as in Consul.
        Ok((index > 0).then_some(Blocking { index, wait }))
    }
}

/// Undoes percent-encoding; in queries a plus is a blank.
pub(super) fn decode(text: &str, plus_is_blank: bool) -> Result<String, ApiError> {
    let bad = || ApiError::Bad(format!("{text:?} is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16)).ok_or_else(bad);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).expect("two hexadecimal digits fit a byte")
            }
            b'+' if plus_is_blank => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// Percent-encodes everything that is not plain in a query value.
pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::parse(query).expect("valid")
    }

    #[test]
    fn flags_need_no_value() {
        let params = params("stale&pretty=&recurse=false&key=a%2Fb+c");
        assert!(params.flag("stale") && params.flag("pretty") && !params.flag("recurse"));
        assert_eq!(params.get("key"), Some("a/b c"));
        assert_eq!(params.consistency(), Ok(Consistency::Stale));
        assert_eq!(self::params("consistent").consistency(), Ok(Consistency::Consistent));
        assert_eq!(self::params("stale=false").consistency(), Ok(Consistency::Default));
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        let bad = |result: Result<_, ApiError>| matches!(result, Err(ApiError::Bad(_)));
        assert!(bad(params("stale&consistent").consistency().map(drop)));
        assert!(bad(params("index=x").blocking().map(drop)));
        assert!(bad(params("index=1&wait=soon").blocking().map(drop)));
        assert!(bad(params("cas=-1").number("cas").map(drop)));
        assert!(bad(Params::parse("a=%zz").map(drop)));
        assert!(bad(Params::parse("a=%ff").map(drop)));
        assert!(bad(Params::parse(&"a&".repeat(65)).map(drop)));
    }

    #[test]
    fn waits_have_a_default_and_a_cap() {
        let wait = |query| params(query).blocking().expect("valid").map(|b| b.wait.as_secs());
        assert_eq!(wait("wait=10s"), None, "nothing to wait for without an index");
        assert_eq!(wait("index=0"), None);
        assert_eq!(wait("index=5"), Some(300));
        assert_eq!(wait("index=5&wait=10s"), Some(10));
        assert_eq!(wait("index=5&wait=24h"), Some(600));
    }

    #[test]
    fn encoding_survives() {
        let text = "a/b c&d=ü%";
        assert_eq!(decode(&encode(text), true).as_deref(), Ok(text));
    }
}
