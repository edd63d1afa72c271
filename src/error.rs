//! The closed set of error kinds that every module maps its own errors to.
//!
//! Each module has one error enum whose variants are causes; `kind()` maps a cause to an [`ErrorKind`].
//! Only `api::problem` turns a kind into an HTTP status, and only `cli` into an exit code.

/// What sort of failure this is, from the caller's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong; the caller can mend it.
    InvalidInput,
    /// No credentials, or credentials that do not hold.
    Unauthenticated,
    /// Valid credentials that do not cover the operation.
    InsufficientScope,
    /// The guard refuses this SQL.
    Refused,
    /// Nothing of that name that this caller may see.
    NotFound,
    /// The thing exists already, or changed meanwhile.
    Conflict,
    /// A body, a query or a result over its limit.
    TooLarge,
    /// A media type that the operation does not take.
    UnsupportedMediaType,
    /// Too many requests, or too many at once.
    RateLimited,
    /// A time limit passed.
    Timeout,
    /// An external API answered with an error, or broke off.
    UpstreamFailed,
    /// An external API did not answer in time.
    UpstreamTimeout,
    /// The operation needs something that is not configured.
    NotConfigured,
    /// The service cannot do this now (disk full, model not loaded, shutting down).
    Unavailable,
    /// A defect of ours.
    Internal,
}

impl ErrorKind {
    /// The stable, machine-readable name; the last segment of a problem's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::Unauthenticated => "unauthenticated",
            Self::InsufficientScope => "insufficient_scope",
            Self::Refused => "sql_refused",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RateLimited => "rate_limited",
            Self::Timeout => "timeout",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::NotConfigured => "not_configured",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// The kind of an I/O failure: a full disk or quota is the service's state, not a defect.
    pub fn of_io(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::ReadOnlyFilesystem => Self::Unavailable,
            _ => Self::Internal,
        }
    }
}
