//! How a value that is not text is spelled in CSV: as PostgreSQL's `COPY … csv` spells it, so that
//! it reads back there as the same value.
//!
//! It owns which types those are: booleans, integers, floats, decimals, dates, timestamps. Times
//! of day, intervals and durations have no one spelling there, binary and nested values none that
//! other CSV readers share; such a column is refused when the file is begun.

use super::TableError;
use super::decoder::arrow_error;
use super::types::kind;
use crate::row::printable;
use ::arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use ::arrow::compute::{CastOptions, cast_with_options};
use ::arrow::datatypes::{
    DataType, Date32Type, Field as Column, Float32Type, Float64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use std::fmt::{LowerExp, Write as _};
use std::sync::Arc;

/// Whether a column of this type, which is not text, can be spelled.
pub(super) fn has_spelling(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Null | Boolean | Float32 | Float64 | Date32 | Timestamp(_, _) => true,
        Dictionary(_, values) => has_spelling(values),
        other => is_cast(other),
    }
}

/// Types of which arrow's own spelling is PostgreSQL's.
fn is_cast(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Decimal32(_, _)
                | DataType::Decimal64(_, _)
                | DataType::Decimal128(_, _)
                | DataType::Decimal256(_, _)
        )
}

/// The column as text.
///
/// # Errors
///
/// A date or timestamp outside of the years 1 to 9999, which has no spelling that every reader
/// takes.
pub(crate) fn spell(array: &ArrayRef, column: &Column) -> Result<ArrayRef, TableError> {
    let place = || format!("the column {}", printable(column.name()));
    let cast = |array: &ArrayRef, to: &DataType| {
        let options = CastOptions { safe: false, ..Default::default() };
        cast_with_options(array, to, &options).map_err(|e| arrow_error(&place(), e))
    };
    let spelled = match array.data_type() {
        DataType::Dictionary(_, values) => return spell(&cast(array, values)?, column),
        other if is_cast(other) => return cast(array, &DataType::Utf8),
        DataType::Null => each(array, |_, _| Some(())),
        DataType::Boolean => {
            let values = array.as_boolean();
            each(array, |i, out| out.write_str(if values.value(i) { "t" } else { "f" }).ok())
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().values();
            each(array, |i, out| float(out, values[i], f64::from(values[i]), 6))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            each(array, |i, out| float(out, values[i], values[i], 15))
        }
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().values();
            each(array, |i, out| moment(out, i64::from(days[i]).checked_mul(86_400)?, 0, "%Y-%m-%d"))
        }
        DataType::Timestamp(unit, zone) => {
            let (values, a_second) = match unit {
                TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().values(), 1),
                TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().values(), 1_000),
                TimeUnit::Microsecond => {
                    (array.as_primitive::<TimestampMicrosecondType>().values(), 1_000_000)
                }
                TimeUnit::Nanosecond => {
                    (array.as_primitive::<TimestampNanosecondType>().values(), 1_000_000_000)
                }
            };
            // With a zone it is a moment (timestamptz), told in UTC.
            let form = if zone.is_some() { "%Y-%m-%d %H:%M:%S%.f+00" } else { "%Y-%m-%d %H:%M:%S%.f" };
            each(array, |i, out| {
                let (seconds, rest) = (values[i].div_euclid(a_second), values[i].rem_euclid(a_second));
                moment(out, seconds, rest * (1_000_000_000 / a_second), form)
            })
        }
        _ => None,
    };
    spelled.ok_or_else(|| {
        TableError::Table(format!(
            "{}: CSV has no spelling for one of its values, of type {}",
            place(),
            kind(column.data_type())
        ))
    })
}

/// Spells each value that is not null; `None` if one of them has no spelling.
fn each(array: &ArrayRef, mut spell: impl FnMut(usize, &mut String) -> Option<()>) -> Option<ArrayRef> {
    let nulls = array.logical_nulls();
    let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 8);
    let mut text = String::new();
    for i in 0..array.len() {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(i)) {
            texts.append_null();
        } else {
            text.clear();
            spell(i, &mut text)?;
            texts.append_value(&text);
        }
    }
    Some(Arc::new(texts.finish()))
}

/// A float, as short as reads back the same; with an exponent from `plain_digits` on, and below
/// 0.0001, as PostgreSQL 12 and later write it.
fn float<F: LowerExp + std::fmt::Display>(
    out: &mut String,
    value: F,
    wide: f64,
    plain_digits: i32,
) -> Option<()> {
    if wide.is_nan() {
        return out.write_str("NaN").ok();
    }
    if wide.is_infinite() {
        return out.write_str(if wide > 0.0 { "Infinity" } else { "-Infinity" }).ok();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    if (-4..plain_digits).contains(&exponent) {
        write!(out, "{value}").ok()
    } else {
        write!(out, "{digits}e{exponent:+03}").ok()
    }
}

fn moment(out: &mut String, seconds: i64, nanoseconds: i64, form: &str) -> Option<()> {
    // (A `jiff::Timestamp` ends a day before the year does, so that it is one everywhere.)
    let since = jiff::SignedDuration::new(seconds, i32::try_from(nanoseconds).ok()?);
    let moment = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0).checked_add(since).ok()?;
    if !(1..=9999).contains(&moment.year()) {
        return None;
    }
    write!(out, "{}", moment.strftime(form)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int64Array,
        NullArray, TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
    };
    use ::arrow::datatypes::Int8Type;

    fn spelled(array: impl Array + 'static) -> Vec<Option<String>> {
        let column = Column::new("c", array.data_type().clone(), true);
        assert!(has_spelling(array.data_type()));
        let texts = spell(&(Arc::new(array) as ArrayRef), &column).unwrap();
        texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
    }

    fn some<const N: usize>(texts: [&str; N]) -> Vec<Option<String>> {
        texts.map(|t| Some(t.to_owned())).to_vec()
    }

    /// All expectations are what PostgreSQL 15 printed for these values.
    #[test]
    fn values_are_spelled_as_postgresql_does() {
        assert_eq!(spelled(BooleanArray::from(vec![true, false])), some(["t", "f"]));
        assert_eq!(spelled(Int64Array::from(vec![Some(-5), None])), [Some("-5".into()), None]);
        assert_eq!(spelled(UInt64Array::from(vec![u64::MAX])), some(["18446744073709551615"]));
        assert_eq!(spelled(NullArray::new(2)), [None, None]);
        let floats = vec![0.1, 1e14, 1e15, 0.0001, 0.00001, -0.0, 1.5e300, f64::NAN, f64::INFINITY];
        assert_eq!(
            spelled(Float64Array::from(floats)),
            some(["0.1", "100000000000000", "1e+15", "0.0001", "1e-05", "-0", "1.5e+300", "NaN", "Infinity"])
        );
        assert_eq!(spelled(Float32Array::from(vec![0.1, 123_456.0, 1e6])), some(["0.1", "123456", "1e+06"]));
        let decimals = Decimal128Array::from(vec![-12345, 5]).with_precision_and_scale(9, 3).unwrap();
        assert_eq!(spelled(decimals), some(["-12.345", "0.005"]));
        assert_eq!(
            spelled(Date32Array::from(vec![0, -1, 19_782])),
            some(["1970-01-01", "1969-12-31", "2024-02-29"])
        );
        assert_eq!(spelled(Date32Array::from(vec![-719_162, 2_932_896])), some(["0001-01-01", "9999-12-31"]));
        let last = TimestampMicrosecondArray::from(vec![253_402_300_799_999_999]).with_timezone("UTC");
        assert_eq!(spelled(last), some(["9999-12-31 23:59:59.999999+00"]));
        let micros = TimestampMicrosecondArray::from(vec![1_709_210_096_120_000, -1]);
        assert_eq!(spelled(micros.clone()), some(["2024-02-29 12:34:56.12", "1969-12-31 23:59:59.999999"]));
        assert_eq!(
            spelled(micros.with_timezone("Europe/Berlin")),
            some(["2024-02-29 12:34:56.12+00", "1969-12-31 23:59:59.999999+00"])
        );
        assert_eq!(spelled(TimestampSecondArray::from(vec![0])), some(["1970-01-01 00:00:00"]));
        assert_eq!(spelled(TimestampNanosecondArray::from(vec![1])), some(["1970-01-01 00:00:00.000000001"]));
        let keys = ::arrow::array::Int8Array::from(vec![Some(0), None, Some(1)]);
        let dictionary = DictionaryArray::<Int8Type>::new(keys, Arc::new(Int64Array::from(vec![7, 8])));
        assert_eq!(spelled(dictionary), [Some("7".into()), None, Some("8".into())]);
    }

    #[test]
    fn a_date_of_no_common_spelling_is_refused_without_quoting_it() {
        let array: ArrayRef = Arc::new(Date32Array::from(vec![-800_000]));
        let error = spell(&array, &Column::new("since", DataType::Date32, true)).unwrap_err().to_string();
        assert_eq!(error, "the column since: CSV has no spelling for one of its values, of type Date32");
        for refused in [i32::MAX, i32::MIN, -719_163, 2_932_897] {
            let array: ArrayRef = Arc::new(Date32Array::from(vec![refused]));
            assert!(spell(&array, &Column::new("since", DataType::Date32, true)).is_err());
        }
    }
}
