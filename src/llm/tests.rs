//! The client against an endpoint on loopback that behaves as badly as each test asks.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::actions::clock::manual::ManualClock;
use crate::error::ErrorKind;

const KEY: &str = "sk-test-0123456789abcdef";

/// A request as the endpoint saw it.
#[derive(Debug, Clone)]
struct Seen {
    head: String,
    body: Value,
}

enum Reply {
    /// Writes and closes.
    Send(String),
    /// Writes, then says no more, but keeps the connection.
    Hang(String),
    /// Writes a head, then this piece until nobody listens.
    Flood(String, String),
}

struct Endpoint {
    base: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Endpoint {
    async fn start(reply: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (reply, log) = (Arc::new(reply), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (reply, log) = (reply.clone(), log.clone());
                tokio::spawn(async move { serve(stream, &*reply, &log).await });
            }
        });
        Self { base, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn config(&self) -> LlmConfig {
        LlmConfig {
            base_url: self.base.clone(),
            api_key: KeyReference::from("env:LLM_KEY"),
            model: "test-model".to_owned(),
            max_output_tokens: 100,
            ..LlmConfig::default()
        }
    }

    fn llm(&self) -> (Llm, ManualClock) {
        self.llm_with(|_| {})
    }

    fn llm_with(&self, change: impl FnOnce(&mut LlmConfig)) -> (Llm, ManualClock) {
        let clock = ManualClock::new();
        let mut config = self.config();
        change(&mut config);
        (Llm::with(config, environment(), Arc::new(clock.clone())).unwrap(), clock)
    }
}

fn environment() -> Environment {
    Arc::new(|name| (name == "LLM_KEY").then(|| KEY.to_owned()))
}

async fn serve(
    mut stream: TcpStream,
    reply: &(dyn Fn(&Seen, usize) -> Reply + Send + Sync),
    log: &Mutex<Vec<Seen>>,
) -> Option<()> {
    let seen = read_request(&mut stream).await?;
    let number = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.len()
    };
    match reply(&seen, number) {
        Reply::Send(text) => {
            stream.write_all(text.as_bytes()).await.ok()?;
            stream.shutdown().await.ok()
        }
        Reply::Hang(text) => {
            stream.write_all(text.as_bytes()).await.ok()?;
            stream.read(&mut [0]).await.ok().map(|_| ())
        }
        Reply::Flood(head, piece) => {
            stream.write_all(head.as_bytes()).await.ok()?;
            loop {
                stream.write_all(piece.as_bytes()).await.ok()?;
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
            if body.len() >= length {
                return Some(Seen { head: head.to_owned(), body: serde_json::from_str(body).ok()? });
            }
        }
    }
}

fn answer(status: u16, headers: &str, body: &str) -> Reply {
    Reply::Send(format!(
        "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ))
}

fn completion(text: &str) -> Reply {
    let body = json!({"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3}});
    answer(200, "content-type: application/json\r\n", &body.to_string())
}

const EVENTS: &str = "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

fn form() -> AnswerForm {
    AnswerForm { name: "answer", schema: json!({"type": "object"}) }
}

async fn ask(llm: &Llm) -> Result<Completion, LlmError> {
    llm.complete(&[Message::new(Role::User, "a private question")], &form(), llm.deadline()).await
}

#[tokio::test]
async fn a_request_says_what_the_endpoint_needs_and_the_counts_come_back() {
    let endpoint = Endpoint::start(|_, _| completion("hello")).await;
    let told = ask(&endpoint.llm().0).await.unwrap();
    assert_eq!(told.text, "hello");
    assert_eq!(told.usage, Some(Usage { prompt_tokens: 11, completion_tokens: 3 }));
    let seen = &endpoint.seen()[0];
    assert!(seen.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", seen.head);
    assert!(seen.head.contains(&format!("authorization: Bearer {KEY}")));
    assert_eq!((&seen.body["model"], &seen.body["max_tokens"]), (&json!("test-model"), &json!(100)));
    assert_eq!(seen.body["response_format"]["json_schema"]["schema"], form().schema);
}

#[tokio::test]
async fn a_busy_endpoint_is_asked_again_after_the_time_that_it_names() {
    let endpoint = Endpoint::start(|_, number| match number {
        1 => answer(429, "retry-after: 7\r\n", "{}"),
        2 => answer(503, "", "down"),
        _ => completion("ok"),
    })
    .await;
    let (llm, clock) = endpoint.llm();
    assert_eq!(ask(&llm).await.unwrap().text, "ok");
    assert_eq!(endpoint.seen().len(), 3);
    assert_eq!(clock.slept()[0], Duration::from_secs(7));
}

#[tokio::test]
async fn tries_are_counted_and_none_begins_that_the_deadline_would_end() {
    let endpoint = Endpoint::start(|_, _| answer(500, "", "oops")).await;
    assert!(matches!(ask(&endpoint.llm().0).await, Err(LlmError::Failed)));
    assert_eq!(endpoint.seen().len(), 3);

    let endpoint = Endpoint::start(|_, _| answer(429, "retry-after: 3600\r\n", "{}")).await;
    let (llm, clock) = endpoint.llm();
    let error = ask(&llm).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3_600)));
    assert_eq!((error.kind(), endpoint.seen().len(), clock.slept().len()), (ErrorKind::Unavailable, 1, 0));

    let endpoint =
        Endpoint::start(|_, _| answer(429, "", r#"{"error":{"code":"insufficient_quota"}}"#)).await;
    assert!(matches!(ask(&endpoint.llm().0).await, Err(LlmError::QuotaUsed)));
    assert_eq!(endpoint.seen().len(), 1);
}

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_the_key_nor_the_question_is_in_an_error_a_log_line_or_an_answer() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    for status in [400, 401, 403, 404, 429, 500] {
        let endpoint = Endpoint::start(move |seen, _| {
            let echo = json!({"error": {"message": format!("{} {}", seen.head, seen.body), "type": KEY,
                "code": "invalid_api_key", "param": seen.body["messages"][0]["content"]}});
            answer(status, "content-type: application/json\r\n", &echo.to_string())
        })
        .await;
        let (llm, _) = endpoint.llm_with(|config| config.retries = 0);
        let error = ask(&llm).await.unwrap_err();
        if matches!(status, 401 | 403) {
            assert!(matches!(error, LlmError::KeyRefused));
            assert_eq!(endpoint.seen().len(), 1);
        }
        let told = format!("{error} {error:?} {llm:?}");
        assert!(!told.contains(KEY) && !told.contains("private"), "{told}");
    }
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("invalid_api_key") && logged.contains("status=401"), "{logged}");
    assert!(!logged.contains(KEY) && !logged.contains("private"), "{logged}");

    let endpoint = Endpoint::start(|seen, _| completion(&seen.head)).await;
    let text = ask(&endpoint.llm().0).await.unwrap().text;
    assert!(text.contains("Bearer [redacted]") && !text.contains(KEY), "{text}");
}

#[tokio::test]
async fn what_the_endpoint_does_not_take_is_left_out_and_that_is_remembered() {
    let endpoint = Endpoint::start(|seen, _| {
        let body = &seen.body;
        if body.get("max_tokens").is_some() {
            answer(400, "", r#"{"error":{"message":"Unsupported parameter: 'max_tokens'"}}"#)
        } else if body["response_format"]["type"] == "json_schema" {
            answer(422, "", "response_format.type: json_schema is not supported")
        } else {
            completion("ok")
        }
    })
    .await;
    let (llm, clock) = endpoint.llm_with(|config| config.retries = 0);
    ask(&llm).await.unwrap();
    assert_eq!((endpoint.seen().len(), clock.slept().len()), (3, 0));
    ask(&llm).await.unwrap();
    let seen = endpoint.seen();
    assert_eq!(seen.len(), 4, "the second question knows");
    assert_eq!(seen[3].body["response_format"], json!({"type": "json_object"}));
    assert_eq!(seen[3].body["max_completion_tokens"], 100);
}

#[tokio::test]
async fn a_stubborn_endpoint_ends_the_plainer_tries() {
    let endpoint = Endpoint::start(|_, _| answer(400, "", "response_format max_tokens temperature")).await;
    assert!(matches!(ask(&endpoint.llm().0).await, Err(LlmError::Rejected)));
    assert_eq!(endpoint.seen().len(), 5);
    let endpoint =
        Endpoint::start(|_, _| answer(400, "", r#"{"error":{"code":"context_length_exceeded"}}"#)).await;
    assert!(matches!(ask(&endpoint.llm().0).await, Err(LlmError::PromptTooLong)));
}

#[tokio::test]
async fn garbage_is_told_and_not_asked_for_again() {
    let endpoint = Endpoint::start(|_, _| answer(200, "content-type: text/html\r\n", "<html>login")).await;
    assert!(matches!(ask(&endpoint.llm().0).await, Err(LlmError::Garbage { .. })));
    assert_eq!(endpoint.seen().len(), 1);
}

#[tokio::test]
async fn endless_output_is_cut_at_its_bound_in_both_forms() {
    for (head, piece) in [
        (
            "HTTP/1.1 200 X\r\ncontent-type: application/json\r\n\r\n{\"choices\":[{\"message\":{\"content\":\"",
            "la ",
        ),
        (EVENTS, "data: {\"choices\":[{\"delta\":{\"content\":\"la \"}}]}\n\n"),
        (EVENTS, "data: la la la"),
    ] {
        let endpoint = Endpoint::start(move |_, _| Reply::Flood(head.to_owned(), piece.repeat(1_000))).await;
        let error = ask(&endpoint.llm().0).await.unwrap_err();
        assert!(matches!(error, LlmError::Endless { .. }), "{error}");
        assert_eq!(endpoint.seen().len(), 1, "nobody asks for more of it");
    }
}

#[tokio::test]
async fn a_stream_is_put_together_and_needs_no_end_of_the_connection() {
    let endpoint = Endpoint::start(|_, _| {
        let pieces = [
            json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
            json!({"choices": [{"delta": {"content": "hel"}}]}),
            json!({"choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}),
        ];
        let events: String = pieces.iter().map(|piece| format!("data: {piece}\n\n")).collect();
        Reply::Hang(format!("{EVENTS}: hi\n\n{events}data: [DONE]\n\n"))
    })
    .await;
    let (llm, _) = endpoint.llm_with(|config| config.stream = true);
    let told = ask(&llm).await.unwrap();
    assert_eq!(told.text, "hello");
    assert_eq!(told.usage, Some(Usage { prompt_tokens: 5, completion_tokens: 2 }));
    assert_eq!(endpoint.seen()[0].body["stream_options"], json!({"include_usage": true}));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let endpoint = Endpoint::start(|_, number| match number {
        1 => Reply::Send(format!(
            "{EVENTS}data: {{\"choices\":[{{\"delta\":{{\"content\":\"SELECT 1\"}}}}]}}\n\n"
        )),
        2 => Reply::Send("HTTP/1.1 200 X\r\ncontent-length: 500\r\n\r\n{\"choices\"".to_owned()),
        _ => completion("whole"),
    })
    .await;
    assert_eq!(ask(&endpoint.llm().0).await.unwrap().text, "whole");
    assert_eq!(endpoint.seen().len(), 3);
}

#[tokio::test]
async fn silence_ends_by_the_deadline() {
    let endpoint = Endpoint::start(|_, _| Reply::Hang(format!("{EVENTS}: still thinking\n\n"))).await;
    let (llm, clock) = endpoint.llm();
    let deadline = clock.now() + Duration::from_millis(50);
    let error = llm.complete(&[], &form(), deadline).await.unwrap_err();
    assert_eq!((error.kind(), endpoint.seen().len()), (ErrorKind::UpstreamTimeout, 1));
}

#[tokio::test]
async fn a_redirect_is_an_error_and_takes_the_key_nowhere() {
    let other = Endpoint::start(|_, _| completion("got you")).await;
    let location = other.base.clone();
    let endpoint = Endpoint::start(move |_, _| answer(307, &format!("location: {location}/x\r\n"), "")).await;
    assert!(matches!(ask(&endpoint.llm().0).await, Err(LlmError::Redirected)));
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn a_key_that_is_nowhere_is_an_error_before_anything_is_sent() {
    let endpoint = Endpoint::start(|_, _| completion("x")).await;
    let (llm, _) = endpoint.llm_with(|config| config.api_key = KeyReference::from("env:ELSEWHERE"));
    assert!(matches!(ask(&llm).await, Err(LlmError::KeyUnreadable(_))));
    assert!(llm.warning().unwrap().contains("ELSEWHERE"));
    assert_eq!(endpoint.seen().len(), 0);
}

#[test]
fn a_wrong_configuration_is_told_by_its_key() {
    let good = LlmConfig {
        base_url: "https://llm.example/v1/".to_owned(),
        model: "m".to_owned(),
        ..LlmConfig::default()
    };
    let llm = Llm::new(good.clone()).unwrap();
    assert_eq!(llm.endpoint.as_str(), "https://llm.example/v1/chat/completions");
    let wrong: [(&str, fn(&mut LlmConfig)); 9] = [
        ("base_url", |config| config.base_url = "llm.example".to_owned()),
        ("base_url", |config| config.base_url = "ftp://llm.example".to_owned()),
        ("base_url", |config| config.base_url = "https://u:p@llm.example".to_owned()),
        ("base_url", |config| config.base_url = "https://llm.example/v1?x=1".to_owned()),
        ("api_key", |config| config.api_key = KeyReference::Literal),
        ("api_key", |config| config.api_key = KeyReference::from("env:a b")),
        ("model", |config| config.model = " ".to_owned()),
        ("timeout_seconds", |config| config.timeout_seconds = 0),
        ("max_repairs", |config| config.max_repairs = 11),
    ];
    for (key, change) in wrong {
        let mut config = good.clone();
        change(&mut config);
        match Llm::new(config) {
            Err(LlmError::Config { key: named, .. }) => assert_eq!(named, key),
            other => panic!("{key}: {other:?}"),
        }
    }
}

#[test]
fn a_client_has_so_many_places_and_gets_them_back() {
    let config = LlmConfig { base_url: "http://h".to_owned(), model: "m".to_owned(), ..LlmConfig::default() };
    let llm = Llm::new(config).unwrap();
    let held = (llm.admit("a").unwrap(), llm.admit("a").unwrap());
    assert!(matches!(llm.admit("a"), Err(LlmError::TooManyAtOnce { limit: 2 })));
    assert!(llm.admit("b").is_ok());
    drop(held);
    assert!(llm.admit("a").is_ok());
}
