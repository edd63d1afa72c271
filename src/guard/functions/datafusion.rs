//! Functions of the embedded engine that compute from their arguments alone. File readers, network, system, settings
//! and sleep functions are not among them.

/// Sorted, lower case.
#[rustfmt::skip]
pub(super) const ALLOWED: &[&str] = &[
    "abs", "acos", "acosh", "approx_distinct", "approx_median", "approx_percentile_cont", "array_agg",
    "array_append", "array_contains", "array_distinct", "array_element", "array_has", "array_has_all",
    "array_has_any", "array_join", "array_length", "array_max", "array_min", "array_position", "array_slice",
    "array_sort", "array_to_string", "arrow_typeof", "ascii", "asin", "asinh", "atan", "atan2", "atanh", "avg",
    "bit_and", "bit_length", "bit_or", "bit_xor", "bool_and", "bool_or", "btrim", "cardinality", "cbrt", "ceil",
    "ceiling", "char_length", "character_length", "chr", "coalesce", "concat", "concat_ws", "contains", "corr",
    "cos", "cosh", "cot", "count", "covar", "covar_pop", "covar_samp", "cume_dist", "current_date",
    "current_time", "current_timestamp", "date_bin", "date_format", "date_part", "date_trunc", "datepart",
    "datetrunc", "degrees", "dense_rank", "element_at", "ends_with", "exp", "extract", "factorial",
    "find_in_set", "first_value", "floor", "from_unixtime", "gcd", "generate_series", "get_field", "greatest",
    "grouping", "initcap", "instr", "isnan", "iszero", "lag", "last_value", "lcm", "lead", "least", "left",
    "length", "levenshtein", "list_contains", "list_distinct", "list_sort", "ln", "log", "log10", "log2",
    "lower", "lpad", "ltrim", "make_array", "make_date", "make_time", "map_extract", "map_keys", "map_values",
    "max", "mean", "median", "min", "mod", "named_struct", "nanvl", "now", "nth_value", "ntile", "nullif",
    "nvl", "nvl2", "octet_length", "overlay", "percent_rank", "percentile_cont", "pi", "position", "pow",
    "power", "quantile_cont", "radians", "range", "rank", "regexp_count", "regexp_like", "regexp_match",
    "regexp_replace", "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2", "regr_slope",
    "regr_sxx", "regr_sxy", "regr_syy", "replace", "reverse", "right", "round", "row_number", "rpad", "rtrim",
    "sign", "signum", "sin", "sinh", "split_part", "sqrt", "starts_with", "stddev", "stddev_pop", "stddev_samp",
    "string_agg", "string_to_array", "strpos", "struct", "substr", "substr_index", "substring",
    "substring_index", "sum", "tan", "tanh", "to_char", "to_date", "to_hex", "to_local_time", "to_timestamp",
    "to_timestamp_micros", "to_timestamp_millis", "to_timestamp_nanos", "to_timestamp_seconds", "to_unixtime",
    "translate", "trim", "trunc", "union_extract", "unnest", "upper", "var", "var_pop", "var_samp",
    "var_sample",
];

/// Table functions that compute from their arguments alone.
pub(super) const TABLE: &[&str] = &["generate_series", "range", "unnest"];
