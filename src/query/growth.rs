//! A bound on functions that make much out of little: `||`, `concat`, `replace`, `lpad`, `range` and the like.
//!
//! The memory pool counts what operators keep, not what an expression makes of one batch, so that `s || s` through a
//! chain of CTEs would take any amount of it.
//! G1 A call makes at most its share of a quarter of the pool of one batch, [`LEAST_SHARE_BYTES`] at least; what it will
//! make is estimated from above before it is made, and rows are done in groups where the estimate is too high for all.
//! G2 A constant stays so small that a batch full of it is no larger.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type, IntervalMonthDayNanoType, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::expressions::{BinaryExpr as PhysicalBinaryExpr, Column};
use datafusion::physical_plan::PhysicalExpr;

/// More calls of such functions than this are refused, so that the shares add up to a bound.
const MAX_CALLS: usize = 500;
/// What each call may make, however many there are: 128 bytes a row of a batch.
const LEAST_SHARE_BYTES: usize = 1024 * 1024;
/// What each call may make, however large the pool is: offsets of texts end at 2 GiB.
const MOST_SHARE_BYTES: usize = 512 * 1024 * 1024;
/// What a constant may have, however small the pool is.
const LEAST_CONSTANT_BYTES: usize = 8 * 1024;
/// The engine's default number of rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// Why a function that makes longer values did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMuchGrowth {
    #[error(
        "`{function}` would make more than {limit_bytes} bytes of one batch of rows; filter first, or make shorter values"
    )]
    Values { function: &'static str, limit_bytes: usize },
    #[error("`{function}` would make a constant of more than {limit_bytes} bytes; make a shorter one")]
    Constant { function: &'static str, limit_bytes: usize },
    #[error(
        "the query calls functions that make longer values {calls} times, more than the {MAX_CALLS} allowed; ask for less at once"
    )]
    Calls { calls: usize },
}

impl From<TooMuchGrowth> for DataFusionError {
    fn from(error: TooMuchGrowth) -> Self {
        Self::External(Box::new(error))
    }
}

/// How wide a row a function can make of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// All arguments together.
    Sum,
    /// All arguments, and separators round each element.
    Joined,
    /// The number of characters that the second argument says.
    Padded,
    /// Elements from a first to a last one.
    Series,
    /// The third argument for each occurrence of the second.
    Replaced,
    /// The same with a pattern; the third argument may quote what was found.
    PatternReplaced,
    /// The second argument is a pattern for each row.
    Formatted,
}

/// Names as the engine has them, without aliases.
const GROWING: &[(&str, Growth)] = &[
    ("array_append", Growth::Sum),
    ("array_concat", Growth::Sum),
    ("array_prepend", Growth::Sum),
    ("array_to_string", Growth::Joined),
    ("concat", Growth::Sum),
    ("concat_ws", Growth::Joined),
    ("generate_series", Growth::Series),
    ("lpad", Growth::Padded),
    ("make_array", Growth::Sum),
    ("overlay", Growth::Sum),
    ("range", Growth::Series),
    ("regexp_replace", Growth::PatternReplaced),
    ("replace", Growth::Replaced),
    ("rpad", Growth::Padded),
    ("to_char", Growth::Formatted),
];

/// Puts a [`Bounded`] function in the place of each that grows. Runs when types are settled.
#[derive(Debug)]
pub(super) struct BoundGrowth {
    memory_pool_bytes: usize,
}

impl BoundGrowth {
    pub fn new(memory_pool_bytes: usize) -> Self {
        Self { memory_pool_bytes }
    }
}

impl AnalyzerRule for BoundGrowth {
    fn name(&self) -> &str {
        "bound_growth"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut calls = 0;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|part| {
                    calls += usize::from(growth_of(part).is_some());
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        if calls > MAX_CALLS {
            return Err(TooMuchGrowth::Calls { calls }.into());
        }
        if calls == 0 {
            return Ok(plan);
        }
        let quarter = self.memory_pool_bytes / 4;
        let limit_bytes = (quarter / calls).clamp(LEAST_SHARE_BYTES, MOST_SHARE_BYTES);
        let constant_bytes =
            (quarter / BATCH_ROWS).clamp(LEAST_CONSTANT_BYTES, MOST_SHARE_BYTES / BATCH_ROWS);
        let bound = |part: Expr| {
            let Some((function, growth)) = growth_of(&part) else { return Ok(Transformed::no(part)) };
            let bounded = |inner| Bounded {
                function,
                growth,
                inner,
                limit_bytes,
                constant_bytes,
                signature: Signature::any(2, Volatility::Immutable),
            };
            let (bounded, args) = match part {
                Expr::ScalarFunction(call) => (bounded(Some(call.func)), call.args),
                Expr::BinaryExpr(BinaryExpr { left, right, .. }) => (bounded(None), vec![*left, *right]),
                other => return Ok(Transformed::no(other)),
            };
            let call = ScalarFunction::new_udf(Arc::new(ScalarUDF::from(bounded)), args);
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        };
        let plan = plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            let changed = node.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(expr.transform_up(bound)?.update_data(|expr| name.restore(expr)))
            })?;
            if changed.transformed { changed.map_data(LogicalPlan::recompute_schema) } else { Ok(changed) }
        })?;
        Ok(plan.data)
    }
}

fn growth_of(expr: &Expr) -> Option<(&'static str, Growth)> {
    match expr {
        Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => Some(("||", Growth::Sum)),
        Expr::ScalarFunction(call) => {
            let at = GROWING.binary_search_by_key(&call.func.name(), |(name, _)| name).ok()?;
            Some(GROWING[at]).filter(|_| !call.func.inner().is::<Bounded>())
        }
        _ => None,
    }
}

/// A function, or the operator `||`, within a limit. Not simplified as the original would be: that could bring the
/// original back.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    function: &'static str,
    growth: Growth,
    /// Absent for the operator.
    inner: Option<Arc<ScalarUDF>>,
    limit_bytes: usize,
    constant_bytes: usize,
    /// Of the operator.
    signature: Signature,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match (&self.inner, args) {
            (Some(inner), _) => inner.schema_name(args),
            (None, [left, right]) => Ok(format!("{} || {}", left.schema_name(), right.schema_name())),
            (None, _) => Err(DataFusionError::Internal("|| has two arguments".to_owned())),
        }
    }

    fn signature(&self) -> &Signature {
        self.inner.as_ref().map_or(&self.signature, |inner| inner.signature())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match &self.inner {
            Some(inner) => inner.return_type(arg_types),
            None => Ok(arg_types.first().cloned().unwrap_or(DataType::Utf8)),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match &self.inner {
            Some(inner) => inner.return_field_from_args(args),
            None => {
                let types: Vec<DataType> =
                    args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
                let is_nullable = args.arg_fields.iter().any(|field| field.is_nullable());
                Ok(Arc::new(Field::new(self.function, self.return_type(&types)?, is_nullable)))
            }
        }
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match &self.inner {
            Some(inner) => inner.coerce_types(arg_types),
            None => Ok(arg_types.to_vec()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let too_large = TooMuchGrowth::Values { function: self.function, limit_bytes: self.limit_bytes };
        let widest = self.widest_row(&args.args)?;
        if widest > self.limit_bytes {
            return Err(too_large.into());
        }
        if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            let constant = self.call(ScalarFunctionArgs { number_rows: 1, ..args })?;
            if width(&constant)? > self.constant_bytes {
                let (function, limit_bytes) = (self.function, self.constant_bytes);
                return Err(TooMuchGrowth::Constant { function, limit_bytes }.into());
            }
            return Ok(constant);
        }
        let rows = args.number_rows;
        if widest.saturating_mul(rows) <= self.limit_bytes {
            return self.call(args);
        }
        let group = (self.limit_bytes / widest.max(1)).max(1);
        let (mut parts, mut made_bytes): (Vec<ArrayRef>, usize) = (Vec::new(), 0);
        for from in (0..rows).step_by(group) {
            let number_rows = group.min(rows - from);
            let part = |arg: &ColumnarValue| match arg {
                ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, number_rows)),
                ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
            };
            let made = self.call(ScalarFunctionArgs {
                args: args.args.iter().map(part).collect(),
                arg_fields: args.arg_fields.clone(),
                number_rows,
                return_field: args.return_field.clone(),
                config_options: args.config_options.clone(),
            })?;
            let made = made.into_array(number_rows)?;
            made_bytes += made.to_data().get_slice_memory_size()?;
            if made_bytes > self.limit_bytes {
                return Err(too_large.into());
            }
            parts.push(made);
        }
        let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
        Ok(ColumnarValue::Array(concat(&parts)?))
    }
}

impl Bounded {
    fn call(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(inner) = &self.inner else { return concatenated(args) };
        inner.invoke_with_args(args)
    }

    /// Bytes of the widest row that can come out, from above.
    fn widest_row(&self, args: &[ColumnarValue]) -> Result<usize> {
        let mut widths = Vec::with_capacity(args.len());
        for arg in args {
            widths.push(width(arg)?);
        }
        let at = |index: usize| widths.get(index).copied().unwrap_or_default();
        let sum = widths.iter().fold(0_usize, |sum, width| sum.saturating_add(*width));
        Ok(match self.growth {
            Growth::Sum => sum,
            Growth::Joined => {
                let elements = args.iter().map(elements).max().unwrap_or_default().max(args.len());
                // Numbers among the elements become texts.
                let each = at(0).min(sum).max(at(1)).saturating_add(at(2)).saturating_add(32);
                sum.saturating_add(elements.saturating_mul(each))
            }
            Growth::Padded => {
                let characters = args.get(1).map(integers).transpose()?.flatten().map_or(0, |(_, most)| most);
                at(0).saturating_add(usize::try_from(characters).unwrap_or_default().saturating_mul(4))
            }
            Growth::Series => series_elements(args)?.saturating_mul(8),
            Growth::Replaced => at(0).saturating_add(at(0).saturating_add(1).saturating_mul(at(2))),
            Growth::PatternReplaced => {
                // What is quoted of the matches, which don't overlap, is no longer than the text.
                let quoted = at(0).saturating_mul(at(2) / 2);
                let written = at(0).saturating_add(1).saturating_mul(at(2));
                at(0).saturating_add(written).saturating_add(quoted)
            }
            Growth::Formatted => at(1).saturating_mul(16).saturating_add(64),
        })
    }
}

/// The operator `||` of the engine: NULL where one side is NULL.
fn concatenated(args: ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = args.number_rows;
    let arrays = args.args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
    let fields: Vec<Field> =
        arrays.iter().map(|array| Field::new("text", array.data_type().clone(), true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
    let side = |index| Arc::new(Column::new("text", index)) as Arc<dyn PhysicalExpr>;
    PhysicalBinaryExpr::new(side(0), Operator::StringConcat, side(1)).evaluate(&batch)
}

/// Bytes of the widest row of a value.
fn width(value: &ColumnarValue) -> Result<usize> {
    Ok(match value {
        ColumnarValue::Array(array) => widest(array.as_ref()),
        ColumnarValue::Scalar(
            ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text),
        ) => text.as_ref().map_or(0, String::len),
        ColumnarValue::Scalar(scalar) => widest(scalar.to_array()?.as_ref()),
    })
}

fn widest(array: &dyn Array) -> usize {
    let longest_view = |views: &[u128]| {
        // The length is in the lowest 32 bits.
        views.iter().map(|view| (*view as u32) as usize).max().unwrap_or_default()
    };
    match array.data_type() {
        DataType::Utf8 => longest(array.as_string::<i32>().offsets().lengths()),
        DataType::LargeUtf8 => longest(array.as_string::<i64>().offsets().lengths()),
        DataType::Binary => longest(array.as_binary::<i32>().offsets().lengths()),
        DataType::LargeBinary => longest(array.as_binary::<i64>().offsets().lengths()),
        DataType::Utf8View => longest_view(array.as_string_view().views()),
        DataType::BinaryView => longest_view(array.as_binary_view().views()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            longest(list.offsets().lengths()).saturating_mul(widest(list.values().as_ref()).max(1))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            longest(list.offsets().lengths()).saturating_mul(widest(list.values().as_ref()).max(1))
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter();
            columns.fold(0, |sum, column| sum.saturating_add(widest(column.as_ref())))
        }
        kind => match kind.primitive_width() {
            Some(bytes) => bytes,
            // From above: all of it may be in one row.
            None => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
        },
    }
}

fn longest(lengths: impl Iterator<Item = usize>) -> usize {
    lengths.max().unwrap_or_default()
}

/// Elements of the longest list; none for what is no list.
fn elements(value: &ColumnarValue) -> usize {
    let of = |array: &dyn Array| match array.data_type() {
        DataType::List(_) => longest(array.as_list::<i32>().offsets().lengths()),
        DataType::LargeList(_) => longest(array.as_list::<i64>().offsets().lengths()),
        // Of other sorts of lists each byte could be one.
        kind if kind.is_nested() => widest(array),
        _ => 0,
    };
    match value {
        ColumnarValue::Array(array) => of(array.as_ref()),
        ColumnarValue::Scalar(scalar) => {
            scalar.to_array().map(|array| of(array.as_ref())).unwrap_or_default()
        }
    }
}

/// Least and greatest of a column of whole numbers, dates (in days) or instants (in their unit).
fn integers(value: &ColumnarValue) -> Result<Option<(i64, i64)>> {
    let array = match value {
        ColumnarValue::Array(array) => array.clone(),
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
    };
    let array = cast(&array, &DataType::Int64)?;
    let numbers = || array.as_primitive::<Int64Type>().iter().flatten();
    Ok(numbers().min().zip(numbers().max()))
}

/// How many elements `range` or `generate_series` can make of one row.
fn series_elements(args: &[ColumnarValue]) -> Result<usize> {
    const DAY: f64 = 86_400e9;
    let unit_ns = match args.first().map(ColumnarValue::data_type) {
        Some(DataType::Date32) => Some(DAY),
        Some(DataType::Date64) => Some(1e6),
        Some(DataType::Timestamp(unit, _)) => Some(match unit {
            datafusion::arrow::datatypes::TimeUnit::Second => 1e9,
            datafusion::arrow::datatypes::TimeUnit::Millisecond => 1e6,
            datafusion::arrow::datatypes::TimeUnit::Microsecond => 1e3,
            datafusion::arrow::datatypes::TimeUnit::Nanosecond => 1.0,
        }),
        _ => None,
    };
    let zero = Some((0, 0));
    let (first, last) = match args {
        [] => return Ok(0),
        [last] => (zero, integers(last)?),
        [first, last, ..] => (integers(first)?, integers(last)?),
    };
    let Some(((first_least, first_most), (last_least, last_most))) = first.zip(last) else { return Ok(0) };
    let span =
        (last_most as f64 - first_least as f64).abs().max((first_most as f64 - last_least as f64).abs());
    let step = match (args.get(2), unit_ns) {
        (Some(step), Some(unit_ns)) => step_ns(step)? / unit_ns,
        // One step is at least one.
        _ => 1.0,
    };
    // A cast from float to integer saturates.
    Ok((span / step.max(f64::MIN_POSITIVE)) as usize + 1)
}

/// The shortest step in nanoseconds, from below.
fn step_ns(step: &ColumnarValue) -> Result<f64> {
    let array = match step {
        ColumnarValue::Array(array) => array.clone(),
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
    };
    let Some(intervals) = array.as_primitive_opt::<IntervalMonthDayNanoType>() else { return Ok(1.0) };
    let ns = |step: datafusion::arrow::datatypes::IntervalMonthDayNano| {
        let days = f64::from(step.months) * 28.0 + f64::from(step.days);
        (days * 86_400e9 + step.nanoseconds as f64).abs().max(1.0)
    };
    Ok(intervals.iter().flatten().map(ns).fold(f64::INFINITY, f64::min).min(f64::MAX))
}

#[cfg(test)]
mod tests;
