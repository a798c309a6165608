//! Requests to a server.

use std::time::Duration;

use serde_json::Value;
use ureq::http::{Request, Response};

/// An answer of whatever status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// The body of a success.
    ///
    /// # Errors
    /// Status and body of anything else.
    pub fn ok(self) -> Result<String, String> {
        if self.status == 200 { Ok(self.body) } else { Err(format!("{}: {}", self.status, self.body.trim())) }
    }
}

/// Sends one request, on a connection of its own.
///
/// # Errors
/// No answer: refused, broken off or later than ten seconds. It may have been carried out.
pub fn request(method: &str, url: &str, body: &[u8]) -> Result<Answer, String> {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .build(),
    );
    let request = Request::builder().method(method).uri(url);
    let answered = if body.is_empty() && matches!(method, "GET" | "DELETE" | "HEAD") {
        request
            .body(())
            .map_err(|error| error.to_string())
            .and_then(|r| agent.run(r).map_err(|e| e.to_string()))
    } else {
        request
            .body(body)
            .map_err(|error| error.to_string())
            .and_then(|r| agent.run(r).map_err(|e| e.to_string()))
    };
    read(answered?)
}

fn read(mut response: Response<ureq::Body>) -> Result<Answer, String> {
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    Ok(Answer { status, body })
}

/// A GET.
///
/// # Errors
/// As [`request`].
pub fn get(url: &str) -> Result<Answer, String> {
    request("GET", url, b"")
}

/// A PUT.
///
/// # Errors
/// As [`request`].
pub fn put(url: &str, body: &[u8]) -> Result<Answer, String> {
    request("PUT", url, body)
}
