//! Why a metric query cannot be compiled: a closed set of causes, each with the code that Ossie's foundation has for it.

use crate::error::ErrorKind;

/// A cause. Codes from Ossie's foundational semantics (appendix A) go by their names there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompileCode {
    AggregateInField,
    AggregateInScalarQuery,
    AggregateInWhere,
    AmbiguousMeasureGrain,
    AmbiguousName,
    AmbiguousPath,
    DeferredFrameBound,
    DeferredFrameMode,
    DeferredKeyRejected,
    EmptyAggregationQuery,
    EmptyScalarQuery,
    FanOutInScalarQuery,
    InvalidModel,
    InvalidRequest,
    MixedPredicateLevel,
    MixedQueryShape,
    MnNoSafeRewrite,
    NameCollision,
    NameNotFound,
    NestedAggregationDeferred,
    NestedWindow,
    NoPath,
    NoStitchingDimension,
    NonAggregateInHaving,
    ReservedName,
    Syntax,
    UnaggregatedFinerGrainReference,
    UnsafeReaggregation,
    UnsupportedInDialect,
    WindowInWhere,
    WindowOverFanoutRewrite,
    WindowedMetricComposition,
}

impl CompileCode {
    /// Ossie's code; causes that Ossie has no code for are spelt in its manner.
    pub fn ossie(self) -> &'static str {
        match self {
            Self::AggregateInField => "E_AGGREGATE_IN_FIELD",
            Self::AggregateInScalarQuery => "E_AGGREGATE_IN_SCALAR_QUERY",
            Self::AggregateInWhere => "E_AGGREGATE_IN_WHERE",
            Self::AmbiguousMeasureGrain => "E_AMBIGUOUS_MEASURE_GRAIN",
            Self::AmbiguousName => "E_AMBIGUOUS_NAME",
            Self::AmbiguousPath => "E_AMBIGUOUS_PATH",
            Self::DeferredFrameBound => "E_DEFERRED_FRAME_BOUND",
            Self::DeferredFrameMode => "E_DEFERRED_FRAME_MODE",
            Self::DeferredKeyRejected => "E_DEFERRED_KEY_REJECTED",
            Self::EmptyAggregationQuery => "E_EMPTY_AGGREGATION_QUERY",
            Self::EmptyScalarQuery => "E_EMPTY_SCALAR_QUERY",
            Self::FanOutInScalarQuery => "E_FAN_OUT_IN_SCALAR_QUERY",
            Self::InvalidModel => "E_INVALID_MODEL",
            Self::InvalidRequest => "E_INVALID_QUERY",
            Self::MixedPredicateLevel => "E_MIXED_PREDICATE_LEVEL",
            Self::MixedQueryShape => "E_MIXED_QUERY_SHAPE",
            Self::MnNoSafeRewrite => "E3012_MN_NO_SAFE_REWRITE",
            Self::NameCollision => "E_NAME_COLLISION",
            Self::NameNotFound => "E_NAME_NOT_FOUND",
            Self::NestedAggregationDeferred => "E_NESTED_AGGREGATION_DEFERRED",
            Self::NestedWindow => "E_NESTED_WINDOW",
            Self::NoPath => "E_NO_PATH",
            Self::NoStitchingDimension => "E3013_NO_STITCHING_DIMENSION",
            Self::NonAggregateInHaving => "E_NON_AGGREGATE_IN_HAVING",
            Self::ReservedName => "E_RESERVED_NAME",
            Self::Syntax => "E_SYNTAX",
            Self::UnaggregatedFinerGrainReference => "E_UNAGGREGATED_FINER_GRAIN_REFERENCE",
            Self::UnsafeReaggregation => "E_UNSAFE_REAGGREGATION",
            Self::UnsupportedInDialect => "E_UNSUPPORTED_IN_DIALECT",
            Self::WindowInWhere => "E_WINDOW_IN_WHERE",
            Self::WindowOverFanoutRewrite => "E_WINDOW_OVER_FANOUT_REWRITE",
            Self::WindowedMetricComposition => "E_WINDOWED_METRIC_COMPOSITION",
        }
    }
}

/// A metric query that was not compiled: the cause, and one sentence with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CompileError {
    pub code: CompileCode,
    pub message: String,
}

impl CompileError {
    pub(super) fn new(code: CompileCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(CompileCode::InvalidRequest, message)
    }

    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

pub(super) type Result<T, E = CompileError> = std::result::Result<T, E>;
