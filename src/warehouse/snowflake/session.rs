//! One login, shared by all queries, and the requests over it.
//!
//! The crate's `SnowflakeApi` waits for a query in one request, which Snowflake answers after 45 s with "still running"
//! and the crate cannot read; it keeps whole results in memory, with their first rows last; and it can neither cancel nor
//! set what holds for one statement. So only its [`Connection`] is used: hosts, paths, headers, retries.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use snowflake_api::connection::{Connection, QueryType};
use tokio::sync::Mutex;

use super::super::error::unknown_column;
use super::super::{QueryTag, RemoteError, RemoteSql};
use super::key_pair;
use super::settings::{Account, Secret};
use super::types::Column;

/// A query goes on.
const IN_PROGRESS: [&str; 2] = ["333333", "333334"];
/// The login is over, or was ended.
const LOGIN_AGAIN: [&str; 5] = ["390104", "390110", "390111", "390112", "390114"];
/// Between two questions for a result whose answer came at once.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Session {
    pub name: String,
    connection: Connection,
    account: Account,
    token: Mutex<Option<SecretString>>,
    sequence: AtomicU64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("account", &self.account).finish_non_exhaustive()
    }
}

/// Every answer has this form.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    success: bool,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    data: Option<Value>,
}

/// The part of an answer that belongs to a query.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Answered {
    pub rowtype: Vec<Column>,
    pub rowset: Option<Vec<Vec<Value>>>,
    pub rowset_base64: Option<String>,
    pub query_id: Option<String>,
    pub chunks: Vec<Chunk>,
    pub chunk_headers: HashMap<String, String>,
    /// The key of chunks that are encrypted where they lie.
    pub qrmk: Option<String>,
    get_result_url: Option<String>,
    sql_state: Option<String>,
}

/// A part of a result that is fetched by itself.
#[derive(Deserialize)]
pub(super) struct Chunk {
    pub url: String,
}

/// What holds for one statement.
pub(super) struct Order<'a> {
    pub sql: &'a RemoteSql,
    pub timeout: Duration,
    pub tag: &'a QueryTag,
    /// Columns alone.
    pub describe_only: bool,
}

impl Session {
    pub fn new(name: String, connection: Connection, account: Account) -> Self {
        Self { name, connection, account, token: Mutex::default(), sequence: AtomicU64::new(1) }
    }

    /// Sends a statement and waits for its result. `started` gets its id as soon as it is known.
    pub async fn answer(&self, order: &Order<'_>, started: impl Fn(&str)) -> Result<Answered, RemoteError> {
        let mut answer = self.send(order, false).await?;
        if LOGIN_AGAIN.contains(&answer.code.as_deref().unwrap_or_default()) {
            // Nothing has run.
            answer = self.send(order, true).await?;
        }
        loop {
            let code = answer.code.as_deref().unwrap_or_default();
            if !IN_PROGRESS.contains(&code) {
                return self.settled(answer, order.timeout);
            }
            let running: Answered = self.data(answer.data)?;
            if let Some(id) = &running.query_id {
                started(id);
            }
            let path =
                running.get_result_url.filter(|path| path.starts_with('/')).ok_or(RemoteError::Failed)?;
            let asked = tokio::time::Instant::now();
            let url = format!("https://{}.snowflakecomputing.com{path}", self.host());
            let headers = HashMap::from([
                ("authorization".to_owned(), header(&self.token().await?)),
                ("accept".to_owned(), "application/snowflake".to_owned()),
            ]);
            let bytes = self.connection.get_chunk(&url, &headers).await.map_err(|_| self.unreachable())?;
            answer = serde_json::from_slice(&bytes).map_err(|_| self.unreachable())?;
            // The server waits itself for a while; not where it does not.
            tokio::time::sleep_until(asked + PAUSE).await;
        }
    }

    /// Ends a statement at the server.
    pub async fn cancel(&self, id: &str) {
        // Ids are UUIDs; another text would be part of a statement.
        if !id.chars().all(|character| character.is_ascii_hexdigit() || character == '-') {
            return;
        }
        let sql = RemoteSql::made(format!("SELECT SYSTEM$CANCEL_QUERY('{id}')"));
        let (timeout, tag) = (Duration::from_secs(30), &QueryTag::default());
        let order = Order { sql: &sql, timeout, tag, describe_only: false };
        if self.send(&order, false).await.is_err() {
            tracing::warn!(warehouse = self.name, "a query is left to its time limit at the server");
        }
    }

    /// The bytes of a chunk; an address of another place than Snowflake gave is never asked.
    pub async fn chunk(
        &self,
        chunk: &Chunk,
        headers: &HashMap<String, String>,
    ) -> Result<bytes::Bytes, RemoteError> {
        self.connection.get_chunk(&chunk.url, headers).await.map_err(|_| self.unreachable())
    }

    async fn send(&self, order: &Order<'_>, anew: bool) -> Result<Answer, RemoteError> {
        if anew {
            *self.token.lock().await = None;
        }
        let token = self.token().await?;
        let seconds = order.timeout.as_secs().max(1);
        let tag =
            json!({"service": "steward", "client": order.tag.client, "request_id": order.tag.request_id});
        let body = json!({
            "sqlText": order.sql.text(),
            "asyncExec": !order.describe_only,
            "describeOnly": order.describe_only,
            "sequenceId": self.sequence.fetch_add(1, Ordering::Relaxed),
            "isInternal": false,
            "parameters": {
                "STATEMENT_TIMEOUT_IN_SECONDS": seconds,
                "STATEMENT_QUEUED_TIMEOUT_IN_SECONDS": seconds,
                "MULTI_STATEMENT_COUNT": 1,
                "TIMEZONE": "UTC",
                "QUERY_TAG": tag.to_string(),
            },
        });
        self.request(QueryType::ArrowQuery, &[], Some(&header(&token)), body).await
    }

    /// The login's token; logs in if need be.
    async fn token(&self) -> Result<SecretString, RemoteError> {
        let mut token = self.token.lock().await;
        if let Some(token) = &*token {
            return Ok(token.clone());
        }
        let made = self.log_in().await?;
        *token = Some(made.clone());
        Ok(made)
    }

    async fn log_in(&self) -> Result<SecretString, RemoteError> {
        let Account { identifier, user, secret, parameters } = &self.account;
        let mut data = json!({
            // Snowflake sends Arrow to clients that it knows to read it; the crate goes by this name.
            "CLIENT_APP_ID": "Go",
            "CLIENT_APP_VERSION": "1.6.22",
            "SVN_REVISION": "",
            "ACCOUNT_NAME": identifier.split('.').next().unwrap_or(identifier).to_uppercase(),
            "LOGIN_NAME": user,
            "SESSION_PARAMETERS": {"CLIENT_VALIDATE_DEFAULT_PARAMETERS": true},
            "CLIENT_ENVIRONMENT": {"APPLICATION": "steward", "OS": "", "OS_VERSION": "", "OCSP_MODE": "FAIL_OPEN"},
        });
        match secret {
            Secret::Password(password) => data["PASSWORD"] = password.expose_secret().into(),
            Secret::PrivateKey(pem) => {
                let now = chrono::Utc::now().timestamp();
                let token = key_pair::token(pem, identifier, user, now).map_err(|key_pair::BadKey| {
                    tracing::error!(
                        warehouse = self.name,
                        "the private key for Snowflake is not RSA, PKCS #8, PEM and unencrypted"
                    );
                    RemoteError::NotPermitted
                })?;
                data["AUTHENTICATOR"] = "SNOWFLAKE_JWT".into();
                data["TOKEN"] = token.expose_secret().into();
            }
        }
        let parameters: Vec<(&str, &str)> =
            parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = self.request(QueryType::LoginRequest, &parameters, None, json!({"data": data})).await?;
        let token = answer.data.as_ref().and_then(|data| data.get("token")?.as_str());
        match token.filter(|_| answer.success) {
            Some(token) => Ok(token.to_owned().into()),
            None => {
                let code = answer.code.as_deref().unwrap_or_default();
                tracing::error!(warehouse = self.name, code, "Snowflake refused the login");
                Err(RemoteError::NotPermitted)
            }
        }
    }

    async fn request(
        &self,
        kind: QueryType,
        parameters: &[(&str, &str)],
        token: Option<&str>,
        body: Value,
    ) -> Result<Answer, RemoteError> {
        let host = self.host();
        self.connection.request(kind, &host, parameters, token, body).await.map_err(|_| self.unreachable())
    }

    /// Underscores of an account are hyphens in its host's name.
    fn host(&self) -> String {
        self.account.identifier.to_lowercase().replace('_', "-")
    }

    /// The crate's errors hold addresses with tokens in them: neither shown nor logged.
    fn unreachable(&self) -> RemoteError {
        tracing::warn!(warehouse = self.name, "Snowflake does not answer, or not in its own form");
        RemoteError::Unreachable
    }

    fn data(&self, data: Option<Value>) -> Result<Answered, RemoteError> {
        serde_json::from_value(data.unwrap_or_default()).map_err(|_| self.unreachable())
    }

    fn settled(&self, answer: Answer, timeout: Duration) -> Result<Answered, RemoteError> {
        if answer.success {
            return self.data(answer.data);
        }
        let state = answer.data.and_then(|data| serde_json::from_value::<Answered>(data).ok()?.sql_state);
        let (code, state) = (answer.code.unwrap_or_default(), state.unwrap_or_default());
        let told = told(&code, &state, &answer.message.unwrap_or_default(), timeout.as_secs());
        if told.kind() == crate::error::ErrorKind::Unavailable {
            tracing::warn!(warehouse = self.name, code, state, "Snowflake refused or failed");
        }
        Err(told)
    }
}

/// What the caller is told of a refusal. Texts of errors of names and types quote the query; those of values quote values.
fn told(code: &str, state: &str, message: &str, seconds: u64) -> RemoteError {
    match (code, state) {
        ("000604", _) => RemoteError::Cancelled,
        ("000630" | "000603", _) => RemoteError::Timeout { seconds },
        // Does not exist or not authorised: the guard wrote the table's name.
        ("002003" | "002043", "42S02" | "02000") if !message.contains("column") => RemoteError::Failed,
        (code, _) if code.starts_with("3901") || code == "003001" => RemoteError::NotPermitted,
        ("100051", _) => RemoteError::Data { message: "division by zero".to_owned() },
        (code, state) if code.starts_with("1000") || state.starts_with("22") => {
            RemoteError::Data { message: format!("a value does not fit the operation (Snowflake {code})") }
        }
        (code, state)
            if code.starts_with("0009")
                || code.starts_with("001")
                || code.starts_with("002")
                || state.starts_with("42") =>
        {
            let line = message.lines().find(|line| line.contains("identifier") || line.contains("column"));
            let text = line.or_else(|| message.lines().next()).unwrap_or_default();
            let column = unknown_column(text, "invalid identifier '(.+)'");
            column.unwrap_or_else(|| RemoteError::Statement {
                message: text.trim().chars().take(300).collect(),
            })
        }
        _ => RemoteError::Failed,
    }
}

fn header(token: &SecretString) -> String {
    format!("Snowflake Token=\"{}\"", token.expose_secret())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_may_quote_a_value_is_not_told() {
        let told = |code, state, message| told(code, state, message, 7);
        let value = told("100038", "22018", "Numeric value 'hidden' is not recognized");
        assert!(!value.to_string().contains("hidden"), "{value}");
        let name = told(
            "000904",
            "42000",
            "SQL compilation error: error line 1 at position 7\ninvalid identifier 'NOCOL'",
        );
        assert_eq!(name.to_string(), "there is no column `NOCOL`");
        let table = told("002003", "42S02", "Object 'SECRET.T' does not exist or not authorized.");
        assert!(!table.to_string().contains("SECRET"), "{table}");
        assert_eq!(told("000630", "57014", ""), RemoteError::Timeout { seconds: 7 });
    }
}
