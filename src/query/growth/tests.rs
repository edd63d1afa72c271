use datafusion::arrow::array::{Int64Array, StringArray};
use datafusion::common::config::ConfigOptions;
use datafusion::functions::string::{concat, replace};
use datafusion::functions::unicode::lpad;
use proptest::prelude::*;

use super::*;

fn bounded(function: &'static str, inner: Option<Arc<ScalarUDF>>, limit_bytes: usize) -> Bounded {
    let growth =
        GROWING.iter().find(|(name, _)| *name == function).map_or(Growth::Sum, |(_, growth)| *growth);
    let signature = Signature::any(2, Volatility::Immutable);
    Bounded { function, growth, inner, limit_bytes, constant_bytes: limit_bytes, signature }
}

fn call(bounded: &Bounded, args: Vec<ArrayRef>) -> Result<ArrayRef> {
    let number_rows = args[0].len();
    let arg_fields: Vec<FieldRef> =
        args.iter().map(|array| Arc::new(Field::new("a", array.data_type().clone(), true))).collect();
    let args = args.into_iter().map(ColumnarValue::Array).collect();
    let return_field = Arc::new(Field::new("r", DataType::Utf8, true));
    let config_options = Arc::new(ConfigOptions::new());
    bounded
        .invoke_with_args(ScalarFunctionArgs { args, arg_fields, number_rows, return_field, config_options })?
        .into_array(number_rows)
}

fn texts(values: &[Option<String>]) -> ArrayRef {
    Arc::new(StringArray::from_iter(values.iter().map(|value| value.as_deref())))
}

#[test]
fn the_list_is_sorted_so_that_look_ups_find_everything() {
    assert!(GROWING.is_sorted_by_key(|(name, _)| *name));
}

#[test]
fn a_series_is_counted_before_it_is_made() {
    let number = |value: i64| ColumnarValue::Scalar(ScalarValue::Int64(Some(value)));
    let instant = |value: i64| ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(value), None));
    let step = |nanoseconds| ColumnarValue::Scalar(ScalarValue::new_interval_mdn(0, 0, nanoseconds));
    assert!(series_elements(&[number(10)]).unwrap() >= 10);
    assert!(series_elements(&[number(-5), number(10), number(2)]).unwrap() >= 8);
    assert!(series_elements(&[number(10), number(-5), number(-1)]).unwrap() >= 16);
    let year = 365 * 86_400 * 1_000_000_000;
    let elements = series_elements(&[instant(0), instant(year), step(1)]).unwrap();
    assert!(elements >= usize::try_from(year).unwrap());
    let hours = series_elements(&[instant(0), instant(year), step(3_600_000_000_000)]).unwrap();
    assert!((365 * 24..370 * 24).contains(&hours), "{hours}");
}

proptest! {
    /// In groups of rows or at once, the values are those of the function itself, and never more than the limit.
    #[test]
    fn a_bounded_function_gives_what_the_function_gives_or_an_error(
        rows in proptest::collection::vec(
            (proptest::option::of("[ab\u{e4}]{0,12}"), proptest::option::of("[ab]{0,2}"), proptest::option::of("[xy]{0,9}")), 1..30),
        limit in 1_usize..400,
    ) {
        let column = |pick: fn(&(Option<String>, Option<String>, Option<String>)) -> Option<String>| {
            texts(&rows.iter().map(pick).collect::<Vec<_>>())
        };
        let (first, second, third) = (column(|r| r.0.clone()), column(|r| r.1.clone()), column(|r| r.2.clone()));
        let lengths: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.2.as_ref().map(|t| t.len() as i64))));
        for (function, inner, args) in [
            ("||", None, vec![first.clone(), third.clone()]),
            ("concat", Some(concat()), vec![first.clone(), second.clone(), third.clone()]),
            ("replace", Some(replace()), vec![first.clone(), second.clone(), third.clone()]),
            ("lpad", Some(lpad()), vec![first.clone(), lengths, third.clone()]),
        ] {
            let plain = call(&bounded(function, inner.clone(), usize::MAX), args.clone()).unwrap();
            match call(&bounded(function, inner, limit), args) {
                Ok(made) => {
                    prop_assert_eq!(&made, &plain, "{}", function);
                    prop_assert!(widest(made.as_ref()) <= limit, "{}", function);
                }
                Err(error) => prop_assert!(error.to_string().contains("would make more than"), "{}", error),
            }
        }
    }
}
