//! The answers of the demo API, as they are written and as the document describes them.

use poem_openapi::Object;
use serde::Serialize;

/// What the numbers of a record mean.
#[derive(Debug, Serialize, Object)]
pub struct DailyUnits {
    pub temp: String,
    pub precip: String,
    pub wind_speed: String,
}

/// One day, in local time.
#[derive(Debug, Serialize, Object)]
pub struct DailyRecord {
    /// FAA code of the airport.
    pub origin: String,
    /// The day, local time, such as 2013-01-31.
    pub date: String,
    /// Hours of the day with an observation, 1 to 25.
    pub hours_observed: u32,
    /// Lowest temperature in °F.
    pub temp_min: Option<f64>,
    /// Highest temperature in °F.
    pub temp_max: Option<f64>,
    /// Mean of the hourly temperatures in °F.
    pub temp_mean: Option<f64>,
    /// Sum of the hourly precipitation in inches.
    pub precip_total: f64,
    /// Highest hourly wind speed in mph; gusts not counted.
    pub wind_speed_max: Option<f64>,
}

/// Days of one airport, in order of time; days without any observation are absent.
#[derive(Debug, Serialize, Object)]
pub struct DailyAnswer {
    /// FAA code of the airport.
    pub origin: String,
    /// Name of the airport.
    pub station: String,
    pub units: DailyUnits,
    /// First day asked for.
    pub from: String,
    /// Last day asked for.
    pub to: String,
    /// Number of records.
    pub count: usize,
    pub records: Vec<DailyRecord>,
}

/// What the numbers of a record mean.
#[derive(Debug, Serialize, Object)]
pub struct HourlyUnits {
    pub temp: String,
    pub dewp: String,
    pub humid: String,
    pub wind_dir: String,
    pub wind_speed: String,
    pub wind_gust: String,
    pub precip: String,
    pub pressure: String,
    pub visib: String,
}

/// One hour; null: not observed.
#[derive(Debug, Serialize, Object)]
pub struct HourlyRecord {
    /// FAA code of the airport; with time_hour the key that joins with flights.
    pub origin: String,
    /// The hour in UTC, such as 2013-01-01T06:00:00Z.
    pub time_hour: String,
    /// Year, local time.
    pub year: i64,
    /// Month, local time, 1 to 12.
    pub month: i64,
    /// Day of the month, local time.
    pub day: i64,
    /// Hour, local time, 0 to 23.
    pub hour: i64,
    /// Temperature in °F.
    pub temp: Option<f64>,
    /// Dew point in °F.
    pub dewp: Option<f64>,
    /// Relative humidity in percent.
    pub humid: Option<f64>,
    /// Direction that the wind comes from, in degrees; 0: calm.
    pub wind_dir: Option<i64>,
    /// Wind speed in mph.
    pub wind_speed: Option<f64>,
    /// Speed of gusts in mph; null in most hours, which have none.
    pub wind_gust: Option<f64>,
    /// Precipitation of the hour in inches.
    pub precip: Option<f64>,
    /// Sea level pressure in millibars.
    pub pressure: Option<f64>,
    /// Visibility in miles, 10 at most.
    pub visib: Option<f64>,
}

/// Hours of one airport, in order of time.
#[derive(Debug, Serialize, Object)]
pub struct HourlyAnswer {
    /// FAA code of the airport.
    pub origin: String,
    /// Name of the airport.
    pub station: String,
    pub units: HourlyUnits,
    /// First day asked for.
    pub from: String,
    /// Last day asked for.
    pub to: String,
    /// Number of records.
    pub count: usize,
    pub records: Vec<HourlyRecord>,
}
