//! The demo's last query and what its one row says. Pure.

use serde::{Deserialize, Serialize};

use super::grouped;

/// The row of [`weather_sql`]. Delays are means in minutes over departed flights; rain is any precipitation in the
/// flight's hour, wind is 20 mph or more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeatherAnswer {
    pub matched_flights: u64,
    pub departed_flights: u64,
    pub rain_flights: u64,
    pub rain_delay: f64,
    pub dry_flights: u64,
    pub dry_delay: f64,
    pub wind_flights: u64,
    pub wind_delay: f64,
    pub calm_flights: u64,
    pub calm_delay: f64,
    pub corr_rain: f64,
    pub corr_wind: f64,
}

/// The query that joins flights with the table of hourly weather; none where the name is no such table.
pub fn weather_sql(table: &str) -> Option<String> {
    let name = table.strip_prefix("responses.")?;
    let is_plain =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    is_plain.then(|| {
        format!(
            "\
WITH hours AS (
  SELECT f.dep_delay AS dep_delay, w.precip AS precip, w.wind_speed AS wind_speed
  FROM flights.flights AS f
  JOIN {table} AS w ON w.origin = f.origin AND w.time_hour = f.time_hour
  WHERE f.origin = 'JFK'
)
SELECT COUNT(*) AS matched_flights,
       COUNT(dep_delay) AS departed_flights,
       COUNT(dep_delay) FILTER (WHERE precip > 0) AS rain_flights,
       AVG(dep_delay) FILTER (WHERE precip > 0) AS rain_delay,
       COUNT(dep_delay) FILTER (WHERE precip = 0) AS dry_flights,
       AVG(dep_delay) FILTER (WHERE precip = 0) AS dry_delay,
       COUNT(dep_delay) FILTER (WHERE wind_speed >= 20) AS wind_flights,
       AVG(dep_delay) FILTER (WHERE wind_speed >= 20) AS wind_delay,
       COUNT(dep_delay) FILTER (WHERE wind_speed < 20) AS calm_flights,
       AVG(dep_delay) FILTER (WHERE wind_speed < 20) AS calm_delay,
       CORR(dep_delay, precip) AS corr_rain,
       CORR(dep_delay, wind_speed) AS corr_wind
FROM hours"
        )
    })
}

impl WeatherAnswer {
    /// The answer in words.
    pub fn sentence(&self) -> String {
        let (by_rain, by_wind) = (self.rain_delay - self.dry_delay, self.wind_delay - self.calm_delay);
        let verdict = if by_rain > by_wind { "Rain, more than wind" } else { "Wind, more than rain" };
        format!(
            "{verdict}: departures from JFK were {:.1} minutes late on average in hours with rain ({} flights) and {:.1} \
             in dry ones ({}), {by_rain:.1} more; {:.1} with wind of 20 mph or more ({}) and {:.1} with less ({}), \
             {by_wind:.1} more. Correlation with the delay: {:.3} for rain, {:.3} for wind.",
            self.rain_delay,
            grouped(self.rain_flights),
            self.dry_delay,
            grouped(self.dry_flights),
            self.wind_delay,
            grouped(self.wind_flights),
            self.calm_delay,
            grouped(self.calm_flights),
            self.corr_rain,
            self.corr_wind,
        )
    }
}
