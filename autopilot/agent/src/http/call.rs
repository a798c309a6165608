//! One request, read whole within its limits, and one answer.

use std::fmt::Display;
use std::time::Duration;

use axum::body::Body;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Serialize;

use super::error::ApiError;
use super::params::{self, Params};

/// Says how many servers a request has passed already, so that two servers that each take the other for the leader do
/// not play it back and forth.
pub(super) const HOPS: &str = "x-autopilot-hops";
/// Marks an error after which certainly nothing was changed, so that the asking server may try again.
pub(super) const NOT_APPLIED: &str = "x-autopilot-not-applied";
/// Consul's name for how a read was asked for: `leader`, `consistent` or `stale`.
pub(super) const EFFECTIVE_CONSISTENCY: &str = "x-consul-effective-consistency";
/// How a read was answered: `lease`, `read-index`, `log` or `local`.
pub(super) const READ_BY: &str = "x-autopilot-read-by";

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Read and thrown away behind the limit, so that the client gets to read the refusal instead of a broken pipe.
const DRAIN_BYTES_MAX: usize = 16 << 20;

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// The path as it came, without the query.
    pub(super) path: String,
    /// The query as it came.
    pub(super) query: String,
    pub(super) params: Params,
    pub(super) body: Bytes,
    /// How many servers it has passed.
    pub(super) hops: u32,
    /// Whether the client prefers lines and indentation.
    pub(super) pretty: bool,
}

impl Call {
    /// A request that this server makes to the cluster by itself.
    pub(super) fn internal(method: Method, path: &str, query: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            params: Params::parse(query).expect("an own query is well formed"),
            body: Bytes::new(),
            hops: 0,
            pretty: false,
        }
    }

    /// Reads a request, its body up to `limit` bytes.
    pub(super) async fn read(request: Request, limit: usize) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        refuse_foreign_pages(&parts.method, &parts.headers)?;
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let params = Params::parse(&query)?;
        let hops =
            parts.headers.get(HOPS).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()).unwrap_or(0);
        let body = tokio::time::timeout(BODY_TIMEOUT, read_body(body, limit))
            .await
            .map_err(|_| ApiError::Slow)??;
        let pretty = params.flag("pretty");
        Ok(Self {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query,
            params,
            body,
            hops,
            pretty,
        })
    }

    /// What follows `prefix` in the path, with percent-encoding undone.
    pub(super) fn path_after(&self, prefix: &str) -> Result<String, ApiError> {
        params::decode(self.path.strip_prefix(prefix).unwrap_or_default(), false)
    }
}

async fn read_body(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    // Announced to be so large that not even throwing it away is worth the while.
    if body.size_hint().lower() > (limit + DRAIN_BYTES_MAX) as u64 {
        return Err(ApiError::TooLarge { limit });
    }
    let mut bytes = BytesMut::new();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::Bad(format!("cannot read the request body: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        read += data.len();
        if read <= limit {
            bytes.extend_from_slice(data);
        } else if read > limit + DRAIN_BYTES_MAX {
            break;
        }
    }
    if read > limit { Err(ApiError::TooLarge { limit }) } else { Ok(bytes.freeze()) }
}

/// A browser says which page a request comes from. Pages of other sites may not change anything.
fn refuse_foreign_pages(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or("null");
    let page = origin.split_once("://").map(|(_, host)| host);
    if page.is_some() && page == text(header::HOST) {
        return Ok(());
    }
    Err(ApiError::Forbidden(format!("Permission denied: the page {origin} is not from this server")))
}

/// An answer before it becomes bytes on a connection.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: Option<HeaderValue>,
    /// Headers for clients that wait or judge how fresh the answer is.
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let content_type = Some(HeaderValue::from_static(content_type));
        Self { status, content_type, headers: Vec::new(), body: body.into() }
    }

    /// 200 without a body.
    pub(super) const fn empty() -> Self {
        Self { status: StatusCode::OK, content_type: None, headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn json(call: &Call, value: &impl Serialize) -> Self {
        let body = if call.pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
        let body = body.expect("the answers hold nothing that JSON cannot");
        Self::new(StatusCode::OK, "application/json", body)
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn with_header(mut self, name: &'static str, value: impl Display) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(super) fn of_error(error: ApiError) -> Self {
        let retry = error.may_be_retried();
        let reply = Self::new(error.status(), "text/plain; charset=utf-8", error.text());
        if retry { reply.with_header(NOT_APPLIED, 1) } else { reply }
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(content_type) = self.content_type {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(request: Request, limit: usize) -> Result<Call, ApiError> {
        Call::read(request, limit).await
    }

    fn request(method: &str, uri: &str) -> axum::http::request::Builder {
        Request::builder().method(method).uri(uri)
    }

    #[tokio::test]
    async fn bodies_are_read_up_to_their_limit() {
        let of = |size: usize| request("PUT", "/v1/kv/a").body(Body::from(vec![7; size])).expect("valid");
        assert_eq!(read(of(10), 10).await.expect("fits").body.len(), 10);
        assert_eq!(read(of(11), 10).await.err(), Some(ApiError::TooLarge { limit: 10 }));
    }

    #[tokio::test]
    async fn paths_are_decoded_and_bad_queries_refused() {
        let of = |uri: &str| request("GET", uri).body(Body::empty()).expect("valid");
        let call = read(of("/v1/kv/a%2Fb%20c?raw"), 0).await.expect("valid");
        assert_eq!(call.path_after("/v1/kv/").as_deref(), Ok("a/b c"));
        assert!(call.params.flag("raw"));
        assert!(matches!(read(of("/v1/kv/a?x=%f"), 0).await, Err(ApiError::Bad(_))));
    }

    #[tokio::test]
    async fn pages_of_other_sites_may_not_change_anything() {
        let of = |method: &str, origin: &str| {
            let request =
                request(method, "/v1/kv/a").header("host", "127.0.0.1:8500").header("origin", origin);
            request.body(Body::empty()).expect("valid")
        };
        assert!(matches!(read(of("PUT", "http://evil.example"), 0).await, Err(ApiError::Forbidden(_))));
        assert!(matches!(read(of("DELETE", "null"), 0).await, Err(ApiError::Forbidden(_))));
        assert!(read(of("PUT", "http://127.0.0.1:8500"), 0).await.is_ok());
        assert!(read(of("GET", "http://evil.example"), 0).await.is_ok());
    }
}
