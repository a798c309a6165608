//! Errors of the HTTP API: the only place where an error becomes a status and a text.

use autopilot::{ClusterError, RequestError};
use axum::http::StatusCode;
use raft::{ChangeError, ProposeError, ReadError, TransferError};

/// Why a request was not answered as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// The request makes no sense (400).
    Bad(String),
    /// Not from another web site (403).
    Forbidden(String),
    /// There is no such thing (404).
    NotFound(String),
    /// It was asked for on what is not so, or not any more (409). Nothing was changed, and the same request fails again.
    Stale(String),
    /// The body is larger than its limit (413).
    TooLarge { limit: usize },
    /// The body did not arrive in time (408).
    Slow,
    /// Too many requests are waiting (429).
    Busy(String),
    /// Nobody leads, or this server does not know who (500). Certainly nothing was changed.
    NoLeader,
    /// The leader cannot do it just now (500). Certainly nothing was changed.
    NotNow(String),
    /// It failed (500). Something may have been changed where the text says so.
    Failed(String),
}

impl ApiError {
    /// Whether certainly nothing was changed and a later try may succeed.
    pub(super) const fn may_be_retried(&self) -> bool {
        matches!(self, Self::NoLeader | Self::NotNow(_))
    }

    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Stale(_) => StatusCode::CONFLICT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoLeader | Self::NotNow(_) | Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Self::Bad(text)
            | Self::Forbidden(text)
            | Self::NotFound(text)
            | Self::Stale(text)
            | Self::Busy(text)
            | Self::NotNow(text)
            | Self::Failed(text) => text,
            Self::TooLarge { limit } => {
                format!("Request body too large, max size: {limit} bytes; send less")
            }
            Self::Slow => "the request body did not arrive in time".to_owned(),
            Self::NoLeader => "No cluster leader".to_owned(),
        }
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { .. } => Self::NoLeader,
            ProposeError::Overloaded => Self::NotNow(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotLeader { .. } => Self::NoLeader,
            _ => Self::NotNow(error.to_string()),
        }
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NotLeader { .. } => Self::NoLeader,
            ChangeError::NotReady
            | ChangeError::ChangeInProgress { .. }
            | ChangeError::NotCaughtUp { .. }
            | ChangeError::ConfigurationMoved { .. } => Self::NotNow(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<TransferError> for ApiError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::NotLeader { .. } => Self::NoLeader,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NotRunning | RequestError::Cluster(ClusterError::NotLeader { .. }) => {
                Self::NoLeader
            }
            // Each says that certainly nothing was changed.
            RequestError::Overloaded
            | RequestError::LedgerUnread { .. }
            | RequestError::Cluster(
                ClusterError::NotReady
                | ClusterError::ChangeInProgress { .. }
                | ClusterError::ConfigurationMoved { .. },
            ) => Self::NotNow(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
