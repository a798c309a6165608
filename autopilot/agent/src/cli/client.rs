//! The HTTP client behind every verb: blocking, bounded in time and size, with errors that say what to do.

use std::io::ErrorKind;
use std::time::Duration;

use serde::de::DeserializeOwned;

/// Largest answer read. A listing of the whole key-value store fits; a server gone wrong does not fill the memory.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Most characters of an error body shown on one line.
const SHOWN_BODY_MAX: usize = 300;

/// Why a request had no useful answer.
///
/// Reads may always be repeated. For a change each variant says whether it may have been made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The address is not one this client can use. Nothing was sent; correct it.
    #[error("{address:?} is not an HTTP address: {problem}; write HOST:PORT or http://HOST:PORT")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No connection came about. Nothing changed; retry when the server runs.
    #[error(
        "cannot reach {base}: {reason}; is the server running there? \
         Start one with \"autopilot agent\", or name another with --http-addr"
    )]
    Unreachable {
        /// The server asked.
        base: String,
        /// The operating system's words.
        reason: String,
    },
    /// The server did not answer in time. A change may have been made: read before repeating it.
    #[error(
        "{base} did not answer within {after:?}; a change may still have been made, so look before you repeat it"
    )]
    TimedOut {
        /// The server asked.
        base: String,
        /// The limit.
        after: Duration,
    },
    /// The connection broke or what came back is not HTTP. A change may have been made: read before repeating it.
    #[error(
        "{base} broke off the request: {reason}; a change may still have been made, so look before you repeat it"
    )]
    Broken {
        /// The server asked.
        base: String,
        /// What happened.
        reason: String,
    },
    /// The cluster has no leader. Nothing changed; retry.
    #[error(
        "{base} knows no leader of its cluster right now; retry in a moment, or read with --stale what it knows itself"
    )]
    NoLeader {
        /// The server asked.
        base: String,
    },
    /// The server refused. Codes below 500 mean that nothing changed.
    #[error("{base} refused {what}: {status} {body}")]
    Refused {
        /// The server asked.
        base: String,
        /// Method and path.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The server's explanation.
        body: String,
    },
    /// The answer is not in the form of the API. A change may have been made.
    #[error("{base} answered {what} in an unknown form ({problem}); is this an autopilot server?")]
    Form {
        /// The server asked.
        base: String,
        /// Method and path.
        what: String,
        /// Where reading stopped.
        problem: String,
    },
}

/// What to do with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Read.
    Get,
    /// Write.
    Put,
    /// Act.
    Post,
    /// Remove.
    Delete,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// A request before it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: Method,
    path: String,
    query: Vec<(&'static str, Option<String>)>,
    body: Vec<u8>,
}

impl Request {
    /// A request for a path below `/v1`, which must be encoded already: see [`encode`].
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), body: Vec::new() }
    }

    /// Adds a parameter without a value.
    pub(crate) fn flag(mut self, name: &'static str, given: bool) -> Self {
        if given {
            self.query.push((name, None));
        }
        self
    }

    /// Adds a parameter with a value, if there is one.
    pub(crate) fn parameter(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.query.push((name, Some(value.to_string())));
        }
        self
    }

    /// Sets what is sent along.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn what(&self) -> String {
        format!("{} /v1{}", self.method.name(), self.path)
    }

    fn url(&self, base: &str) -> String {
        let mut url = format!("{base}/v1{}", self.path);
        for (position, (name, value)) in self.query.iter().enumerate() {
            url.push(if position == 0 { '?' } else { '&' });
            url.push_str(name);
            if let Some(value) = value {
                url.push('=');
                url.push_str(&encode(value, ""));
            }
        }
        url
    }
}

/// A server's answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Everything after the headers.
    pub(crate) body: Vec<u8>,
}

/// Talks to one server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    stale: bool,
    timeout: Duration,
}

impl Client {
    /// A client for a server at `address` that gives up on a request after `timeout`.
    ///
    /// # Errors
    ///
    /// [`RequestError::Address`] for an address that is not plain HTTP.
    pub(crate) fn new(address: &str, timeout: Duration) -> Result<Self, RequestError> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            // A proxy meant for the web would be asked for 127.0.0.1.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A kept connection to a server killed since would fail the next request for no reason.
            .max_idle_connections(0)
            .build();
        Ok(Self { agent: config.into(), base: base(address)?, stale: false, timeout })
    }

    /// Whether reads may be answered by a server that is not the leader.
    pub(crate) fn stale(mut self, stale: bool) -> Self {
        self.stale = stale;
        self
    }

    /// Sends a request and gives back whatever the server says.
    ///
    /// # Errors
    ///
    /// Only when there was no answer; every status is an answer.
    pub(crate) fn send(&self, request: &Request) -> Result<Answer, RequestError> {
        let mut request = request.clone();
        if self.stale && request.method == Method::Get {
            request = request.flag("stale", true);
        }
        let url = request.url(&self.base);
        let sent = match request.method {
            Method::Get => self.agent.get(url).call(),
            Method::Delete => self.agent.delete(url).call(),
            Method::Put => self.agent.put(url).send(request.body.as_slice()),
            Method::Post => self.agent.post(url).send(request.body.as_slice()),
        };
        let mut response = sent.map_err(|error| self.failure(error))?;
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| self.failure(error))?;
        Ok(Answer { status: response.status().as_u16(), body })
    }

    /// Sends a request and insists on success.
    ///
    /// # Errors
    ///
    /// Also when the server refused.
    pub(crate) fn expect(&self, request: &Request) -> Result<Vec<u8>, RequestError> {
        let answer = self.send(request)?;
        if answer.status == 200 { Ok(answer.body) } else { Err(self.refused(request, &answer)) }
    }

    /// Sends a request and reads the answer as JSON.
    ///
    /// # Errors
    ///
    /// Also when the server refused or the answer has another form.
    pub(crate) fn json<T: DeserializeOwned>(&self, request: &Request) -> Result<T, RequestError> {
        let body = self.expect(request)?;
        self.read(request, &body)
    }

    /// Reads an answer as JSON.
    ///
    /// # Errors
    ///
    /// [`RequestError::Form`] when it is something else.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        request: &Request,
        body: &[u8],
    ) -> Result<T, RequestError> {
        serde_json::from_slice(body).map_err(|error| self.malformed(request, &error.to_string()))
    }

    /// The error for an answer that makes no sense.
    pub(crate) fn malformed(&self, request: &Request, problem: &str) -> RequestError {
        RequestError::Form { base: self.base.clone(), what: request.what(), problem: problem.to_owned() }
    }

    /// The error for an answer that is not success.
    pub(crate) fn refused(&self, request: &Request, answer: &Answer) -> RequestError {
        let text = String::from_utf8_lossy(&answer.body);
        let text = super::render::clean(text.trim());
        if answer.status >= 500 && text.to_lowercase().contains("no cluster leader") {
            return RequestError::NoLeader { base: self.base.clone() };
        }
        RequestError::Refused {
            base: self.base.clone(),
            what: request.what(),
            status: answer.status,
            body: super::render::cut(&text, SHOWN_BODY_MAX),
        }
    }

    fn failure(&self, error: ureq::Error) -> RequestError {
        let base = self.base.clone();
        match error {
            ureq::Error::Timeout(_) => RequestError::TimedOut { base, after: self.timeout },
            ureq::Error::HostNotFound => {
                RequestError::Unreachable { base, reason: "the host name has no address".to_owned() }
            }
            ureq::Error::ConnectionFailed => {
                RequestError::Unreachable { base, reason: "no connection".to_owned() }
            }
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                RequestError::Unreachable { base, reason: "connection refused".to_owned() }
            }
            ureq::Error::Io(error)
                if matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) =>
            {
                RequestError::Unreachable { base, reason: error.to_string() }
            }
            other => RequestError::Broken { base, reason: other.to_string() },
        }
    }
}

/// `HOST:PORT` or a URL as `http://HOST:PORT` without a path.
fn base(address: &str) -> Result<String, RequestError> {
    let wrong = |problem| RequestError::Address { address: address.to_owned(), problem };
    let rest = match address.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => return Err(wrong("this client does not speak TLS")),
        Some(_) => return Err(wrong("the scheme is not http")),
        None => address,
    };
    let host = rest.trim_end_matches('/');
    if host.is_empty() {
        return Err(wrong("the host is missing"));
    }
    if host.contains(|c: char| {
        c == '/' || c == '?' || c == '#' || c == '@' || c.is_whitespace() || c.is_control()
    }) {
        return Err(wrong("it has more than a host and a port"));
    }
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(wrong("the port is not a number up to 65535"));
    }
    let url = format!("http://{host}");
    if url.parse::<ureq::http::Uri>().is_err() {
        return Err(wrong("the host is malformed"));
    }
    Ok(url)
}

/// Percent-encodes a text for a URL, leaving letters, digits, `-._~` and the characters in `kept` as they are.
pub(crate) fn encode(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.as_bytes().contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn addresses_are_completed_or_refused() {
        for (given, expected) in [
            ("127.0.0.1:8500", "http://127.0.0.1:8500"),
            ("http://localhost:8500/", "http://localhost:8500"),
            ("http://[::1]:8500", "http://[::1]:8500"),
        ] {
            assert_eq!(base(given).expect("a good address"), expected);
        }
        for bad in ["", "https://h:1", "unix:///tmp/s", "h:1/v1", "user@h:1", "h:port", "a b:1", "h:99999"] {
            let error = base(bad).expect_err(bad).to_string();
            assert!(error.contains("is not an HTTP address"), "{bad}: {error}");
        }
    }

    #[test]
    fn parameters_are_encoded() {
        let request =
            Request::new(Method::Get, "/kv/a").flag("stale", true).parameter("separator", Some("/&"));
        assert_eq!(request.url("http://h:1"), "http://h:1/v1/kv/a?stale&separator=%2F%26");
        assert_eq!(encode("a b/ü", "/"), "a%20b/%C3%BC");
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let client = Client::new(&address, Duration::from_secs(5)).expect("a client");
        let error = client.send(&Request::new(Method::Get, "/status/leader")).expect_err("nobody listens");
        assert!(matches!(error, RequestError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains(&address) && error.to_string().contains("--http-addr"), "{error}");
    }

    #[test]
    fn a_silent_server_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let client = Client::new(&address, Duration::from_millis(50)).expect("a client");
        let error = client.send(&Request::new(Method::Get, "/status/leader")).expect_err("nobody answers");
        assert!(matches!(error, RequestError::TimedOut { .. }), "{error:?}");
    }

    #[test]
    fn refusals_carry_the_servers_words() {
        let fake = Fake::start(|request| match request.target.as_str() {
            "/v1/a" => (500, "No cluster leader".into()),
            _ => (400, "Invalid wait time\u{1b}".into()),
        });
        let client = fake.client();
        let no_leader = client.expect(&Request::new(Method::Get, "/a")).expect_err("500");
        assert!(matches!(no_leader, RequestError::NoLeader { .. }), "{no_leader:?}");
        let refused = client.expect(&Request::new(Method::Get, "/b")).expect_err("400").to_string();
        assert!(refused.ends_with("refused GET /v1/b: 400 Invalid wait time\u{fffd}"), "{refused}");
    }
}
