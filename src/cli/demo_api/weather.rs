//! The observations, in memory: read once from Parquet, cut by airport and day.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::answers::{DailyAnswer, DailyRecord, DailyUnits, HourlyAnswer, HourlyRecord, HourlyUnits};

/// One of the three airports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Ewr,
    Jfk,
    Lga,
}

impl Origin {
    /// All of them, by code.
    pub const ALL: [Self; 3] = [Self::Ewr, Self::Jfk, Self::Lga];

    /// FAA code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Ewr => "EWR",
            Self::Jfk => "JFK",
            Self::Lga => "LGA",
        }
    }

    /// Name in the airports table of the same data.
    pub fn station(self) -> &'static str {
        match self {
            Self::Ewr => "Newark Liberty Intl",
            Self::Jfk => "John F Kennedy Intl",
            Self::Lga => "La Guardia",
        }
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|origin| origin.code().eq_ignore_ascii_case(text.trim()))
            .ok_or_else(|| format!("there is no airport `{text}` here; use EWR, JFK or LGA"))
    }
}

/// A calendar day, local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(NaiveDate);

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d")
            .map(Self)
            .map_err(|_| format!("`{text}` is not a date; write it as 2013-01-31"))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%d"))
    }
}

#[derive(Debug, Clone)]
struct Hour {
    day: Day,
    time: DateTime<Utc>,
    calendar: [i64; 4],
    temp: Option<f64>,
    dewp: Option<f64>,
    humid: Option<f64>,
    wind_dir: Option<i64>,
    wind_speed: Option<f64>,
    wind_gust: Option<f64>,
    precip: Option<f64>,
    pressure: Option<f64>,
    visib: Option<f64>,
}

/// All observations, by airport and in order of time.
#[derive(Debug, Default)]
pub struct Weather {
    hours: [Vec<Hour>; 3],
}

impl Weather {
    /// Reads the file; the error is a reason in words.
    pub fn read(path: &Path) -> Result<Self, String> {
        let words = |error: &dyn fmt::Display| error.to_string();
        let file = File::open(path).map_err(|e| words(&e))?;
        let batches = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.build())
            .map_err(|e| words(&e))?;
        let mut weather = Self::default();
        for batch in batches {
            weather.add(&batch.map_err(|e| words(&e))?)?;
        }
        for hours in &mut weather.hours {
            hours.sort_by_key(|hour| hour.time);
        }
        Ok(weather)
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let text = column(batch, "origin", &DataType::Utf8)?;
        let time =
            column(batch, "time_hour", &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
        let whole = |name| column(batch, name, &DataType::Int64);
        let real = |name| column(batch, name, &DataType::Float64);
        let calendar = [whole("year")?, whole("month")?, whole("day")?, whole("hour")?];
        let wind_dir = whole("wind_dir")?;
        let reals = [
            real("temp")?,
            real("dewp")?,
            real("humid")?,
            real("wind_speed")?,
            real("wind_gust")?,
            real("precip")?,
            real("pressure")?,
            real("visib")?,
        ];
        for row in 0..batch.num_rows() {
            let missing = |name: &str| format!("row {row} has no {name}");
            let origin: Origin = text.as_string::<i32>().value(row).parse()?;
            let mut date = [0; 4];
            for (part, array) in date.iter_mut().zip(&calendar) {
                *part = whole_at(array, row).ok_or_else(|| missing("local time"))?;
            }
            let [year, month, day, _] = date;
            let day = i32::try_from(year).ok().and_then(|year| {
                NaiveDate::from_ymd_opt(year, u32::try_from(month).ok()?, u32::try_from(day).ok()?)
            });
            let micros =
                time.is_valid(row).then(|| time.as_primitive::<TimestampMicrosecondType>().value(row));
            let at = |index: usize| {
                let array: &ArrayRef = &reals[index];
                array.is_valid(row).then(|| array.as_primitive::<Float64Type>().value(row))
            };
            self.hours[origin as usize].push(Hour {
                day: Day(day.ok_or_else(|| missing("local date"))?),
                time: micros.and_then(DateTime::from_timestamp_micros).ok_or_else(|| missing("time_hour"))?,
                calendar: date,
                temp: at(0),
                dewp: at(1),
                humid: at(2),
                wind_dir: whole_at(&wind_dir, row),
                wind_speed: at(3),
                wind_gust: at(4),
                precip: at(5),
                pressure: at(6),
                visib: at(7),
            });
        }
        Ok(())
    }

    fn between(&self, origin: Origin, from: Day, to: Day) -> impl Iterator<Item = &Hour> {
        self.hours[origin as usize].iter().filter(move |hour| from <= hour.day && hour.day <= to)
    }

    /// The hours of the days from `from` to `to`, both included.
    pub fn hourly(&self, origin: Origin, from: Day, to: Day) -> HourlyAnswer {
        let records: Vec<_> = self.between(origin, from, to).map(|hour| hour.record(origin)).collect();
        HourlyAnswer {
            origin: origin.code().to_owned(),
            station: origin.station().to_owned(),
            units: HourlyUnits {
                temp: "°F".to_owned(),
                dewp: "°F".to_owned(),
                humid: "%".to_owned(),
                wind_dir: "degrees".to_owned(),
                wind_speed: "mph".to_owned(),
                wind_gust: "mph".to_owned(),
                precip: "inches".to_owned(),
                pressure: "millibars".to_owned(),
                visib: "miles".to_owned(),
            },
            from: from.to_string(),
            to: to.to_string(),
            count: records.len(),
            records,
        }
    }

    /// The days from `from` to `to`, both included.
    pub fn daily(&self, origin: Origin, from: Day, to: Day) -> DailyAnswer {
        // By day first: local days are in order of time, but for nothing that a sort would not mend.
        let mut days: std::collections::BTreeMap<Day, Vec<&Hour>> = std::collections::BTreeMap::new();
        for hour in self.between(origin, from, to) {
            days.entry(hour.day).or_default().push(hour);
        }
        let records: Vec<_> =
            days.into_iter().map(|(day, hours)| daily_record(origin, day, &hours)).collect();
        DailyAnswer {
            origin: origin.code().to_owned(),
            station: origin.station().to_owned(),
            units: DailyUnits {
                temp: "°F".to_owned(),
                precip: "inches".to_owned(),
                wind_speed: "mph".to_owned(),
            },
            from: from.to_string(),
            to: to.to_string(),
            count: records.len(),
            records,
        }
    }
}

fn daily_record(origin: Origin, day: Day, hours: &[&Hour]) -> DailyRecord {
    let temps: Vec<f64> = hours.iter().filter_map(|hour| hour.temp).collect();
    let most = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::max);
    DailyRecord {
        origin: origin.code().to_owned(),
        date: day.to_string(),
        hours_observed: u32::try_from(hours.len()).unwrap_or(u32::MAX),
        temp_min: temps.iter().copied().reduce(f64::min),
        temp_max: most(&mut temps.iter().copied()),
        temp_mean: (!temps.is_empty()).then(|| hundredths(temps.iter().sum::<f64>() / temps.len() as f64)),
        precip_total: hundredths(hours.iter().filter_map(|hour| hour.precip).sum()),
        wind_speed_max: most(&mut hours.iter().filter_map(|hour| hour.wind_speed)),
    }
}

/// Inches come in hundredths; adding them up leaves dust.
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

impl Hour {
    fn record(&self, origin: Origin) -> HourlyRecord {
        let [year, month, day, hour] = self.calendar;
        HourlyRecord {
            origin: origin.code().to_owned(),
            time_hour: self.time.to_rfc3339_opts(SecondsFormat::Secs, true),
            year,
            month,
            day,
            hour,
            temp: self.temp,
            dewp: self.dewp,
            humid: self.humid,
            wind_dir: self.wind_dir,
            wind_speed: self.wind_speed,
            wind_gust: self.wind_gust,
            precip: self.precip,
            pressure: self.pressure,
            visib: self.visib,
        }
    }
}

fn column(batch: &RecordBatch, name: &str, wanted: &DataType) -> Result<ArrayRef, String> {
    let array = batch.column_by_name(name).ok_or_else(|| format!("there is no column `{name}`"))?;
    cast(array, wanted).map_err(|error| format!("column `{name}`: {error}"))
}

fn whole_at(array: &ArrayRef, row: usize) -> Option<i64> {
    array.is_valid(row).then(|| array.as_primitive::<Int64Type>().value(row))
}
