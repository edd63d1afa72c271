//! Upstreams that hang, break off, flood, lie, or want to be left alone.

use futures::StreamExt as _;

use super::*;

const SHORT: Duration = Duration::from_millis(150);

fn short(limits: &mut Limits) {
    limits.connect_timeout = SHORT;
    limits.idle_timeout = SHORT;
}

fn head(headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

async fn failure(
    reply: impl Fn() -> Reply + Send + Sync + 'static,
    limits: impl FnOnce(&mut Limits),
) -> ActionError {
    let upstream = Upstream::start(move |_, _| reply()).await;
    get_text(&Caller::default(), &open_api(&upstream, limits).await).await.unwrap_err()
}

#[tokio::test]
async fn an_upstream_that_hangs_times_out_before_and_within_its_answer() {
    let error = failure(|| Reply::Hang(Vec::new()), short).await;
    assert_eq!(error.kind(), ErrorKind::UpstreamTimeout);
    assert!(error.to_string().contains("begin its answer"), "{error}");
    let error =
        failure(|| Reply::Hang([head("content-length: 10\r\n"), b"12345".to_vec()].concat()), short).await;
    assert_eq!(error.kind(), ErrorKind::UpstreamTimeout);
    assert!(error.to_string().contains("go on with its answer"), "{error}");
    let error =
        failure(|| Reply::Hang(head("content-length: 10\r\n")), |limits| limits.timeout = SHORT).await;
    assert!(error.to_string().contains("raise limits.timeout_seconds"), "{error}");
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error_that_says_how_far_it_came() {
    let error =
        failure(|| Reply::Send([head("content-length: 10\r\n"), b"12345".to_vec()].concat()), |_| {}).await;
    let ActionError::UpstreamClosed { received: 5, expected: Some(10), .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(error.kind(), ErrorKind::UpstreamFailed);
    assert!(error.to_string().contains("after 5 of 10 bytes"), "{error}");
    let error =
        failure(|| Reply::Send([head("transfer-encoding: chunked\r\n"), chunk(b"12345")].concat()), |_| {})
            .await;
    assert!(matches!(error, ActionError::UpstreamClosed { received: 5, expected: None, .. }), "{error:?}");
    let error = failure(|| Reply::Send(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()), |_| {}).await;
    assert!(matches!(error, ActionError::UpstreamProtocol { .. }), "{error:?}");
}

#[tokio::test]
async fn more_bytes_than_stated_are_not_passed_on() {
    let upstream =
        Upstream::start(|_, _| Reply::Send([head("content-length: 3\r\n"), b"12345".to_vec()].concat()))
            .await;
    assert_eq!(get_text(&Caller::default(), &open_api(&upstream, |_| {}).await).await.unwrap(), "123");
}

#[tokio::test]
async fn a_flood_is_cut_off_at_the_limit() {
    let upstream = Upstream::start(|_, _| {
        Reply::Flood(head("connection: close\r\n"), vec![b'x'; 64 << 10], (200 << 20) / (64 << 10))
    })
    .await;
    let api = open_api(&upstream, |limits| limits.max_response_bytes = 1 << 20).await;
    let error = get_text(&Caller::default(), &api).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(*upstream.flooded.lock().unwrap() < 100 << 20);

    let error = failure(
        || Reply::Hang(head("content-length: 2000000\r\n")),
        |limits| limits.max_response_bytes = 1 << 20,
    );
    assert_eq!(error.await.kind(), ErrorKind::TooLarge);
}

/// gzip of `length` zeros or a little more: fixed Huffman codes, each match 258 bytes long.
fn gzip_of_zeros(length: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false];
    let mut code = |value: u32, width: u32| bits.extend((0..width).rev().map(|bit| value >> bit & 1 == 1));
    code(0b0011_0000, 8);
    for _ in 0..length.div_ceil(258) {
        code(0b1100_0101, 8);
        code(0, 5);
    }
    code(0, 7);
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(
        bits.chunks(8)
            .map(|byte| byte.iter().enumerate().fold(0u8, |all, (i, bit)| all | u8::from(*bit) << i)),
    );
    out
}

#[tokio::test]
async fn a_gzip_bomb_is_counted_unpacked() {
    let bomb = gzip_of_zeros(64 << 20);
    assert!(bomb.len() < 1 << 20);
    let headers = format!("content-encoding: gzip\r\ncontent-length: {}\r\n", bomb.len());
    let error = failure(
        move || Reply::Send([head(&headers), bomb.clone()].concat()),
        |limits| limits.max_response_bytes = 1 << 20,
    )
    .await;
    assert!(matches!(error, ActionError::ResponseTooLarge { limit: 1_048_576, .. }), "{error:?}");
}

#[tokio::test]
async fn damaged_cut_and_unasked_encodings_are_errors() {
    let zeros = gzip_of_zeros(100_000);
    let half = zeros[..zeros.len() / 2].to_vec();
    let headers = "content-encoding: gzip\r\nconnection: close\r\n";
    let error = failure(move || Reply::Send([head(headers), half.clone()].concat()), |_| {}).await;
    assert!(matches!(error, ActionError::UpstreamClosed { .. }), "{error:?}");
    let error =
        failure(move || Reply::Send([head(headers), b"this is no gzip".to_vec()].concat()), |_| {}).await;
    assert!(matches!(error, ActionError::UpstreamProtocol { .. }), "{error:?}");
    let error = failure(|| answer(200, "content-encoding: br\r\n", "xx"), |_| {}).await;
    assert!(error.to_string().contains("`br`"), "{error}");
}

#[tokio::test]
async fn retries_wait_as_long_as_the_upstream_asks() {
    let upstream =
        Upstream::start(|_, n| if n == 1 { answer(429, "retry-after: 7\r\n", "") } else { ok("[]") }).await;
    let api = open_api(&upstream, |limits| limits.max_retries = 2).await;
    let (caller, clock) = manual_caller();
    let response = get(&caller, &api).await.unwrap();
    assert_eq!(response.attempts, 2);
    assert_eq!(clock.slept(), [Duration::from_secs(7)]);
    assert_eq!(response.elapsed, Duration::from_secs(7));
}

#[tokio::test]
async fn a_wait_beyond_the_timeout_is_told_instead() {
    let upstream = Upstream::start(|_, _| answer(429, "retry-after: 120\r\n", "")).await;
    let (caller, clock) = manual_caller();
    let error = get(&caller, &open_api(&upstream, |limits| limits.max_retries = 2).await).await.unwrap_err();
    assert_eq!((error.retry_after(), clock.slept().len()), (Some(Duration::from_secs(120)), 0));
    assert!(error.to_string().contains("retry after 120 s"), "{error}");
}

#[tokio::test]
async fn only_idempotent_calls_and_passing_failures_are_tried_again() {
    for (operation, status, tries) in
        [("get", 503, 3), ("get", 500, 1), ("get", 404, 1), ("post", 503, 1), ("post", 429, 1)]
    {
        let upstream = Upstream::start(move |_, _| answer(status, "", "")).await;
        let api = open_api(&upstream, |limits| limits.max_retries = 2).await;
        let (caller, _) = manual_caller();
        caller.call(&api, operation, &json!({"id": "1"}), &CancellationToken::new()).await.unwrap_err();
        assert_eq!(upstream.seen().len(), tries, "{operation} {status}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_tried_again_if_that_does_no_harm() {
    for (operation, tries) in [("get", 2), ("post", 1)] {
        let upstream = Upstream::start(|_, n| if n == 1 { Reply::Send(Vec::new()) } else { ok("[]") }).await;
        let api = open_api(&upstream, |limits| limits.max_retries = 1).await;
        let (caller, _) = manual_caller();
        let result = caller.call(&api, operation, &json!({"id": "1"}), &CancellationToken::new()).await;
        assert_eq!((result.is_ok(), upstream.seen().len()), (tries == 2, tries));
    }
}

#[tokio::test]
async fn an_absurd_retry_after_is_only_told() {
    let upstream = Upstream::start(|_, _| answer(503, "retry-after: 18446744073709551615\r\n", "")).await;
    let (caller, _) = manual_caller();
    let error = get(&caller, &open_api(&upstream, |limits| limits.max_retries = 2).await).await.unwrap_err();
    assert_eq!((error.kind(), upstream.seen().len()), (ErrorKind::UpstreamFailed, 1));
}

#[tokio::test]
async fn a_dead_host_is_left_alone_after_five_failures_and_tried_again_later() {
    let upstream = Upstream::start(|_, n| if n <= 5 { answer(500, "", "") } else { ok("[]") }).await;
    let api = open_api(&upstream, |_| {}).await;
    let (caller, clock) = manual_caller();
    for _ in 0..5 {
        assert!(matches!(get(&caller, &api).await.unwrap_err(), ActionError::UpstreamStatus { .. }));
    }
    let error = get(&caller, &api).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Unavailable, Some(Duration::from_secs(30))));
    assert_eq!(upstream.seen().len(), 5);
    clock.advance(Duration::from_secs(30));
    assert_eq!(get_text(&caller, &api).await.unwrap(), "[]");
    assert_eq!(get_text(&caller, &api).await.unwrap(), "[]");
}

#[tokio::test]
async fn nobody_there_is_a_connect_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let upstream = Upstream { base, seen: Arc::default(), flooded: Arc::default() };
    let api = open_api(&upstream, |limits| limits.max_retries = 2).await;
    let (caller, clock) = manual_caller();
    let error = get(&caller, &api).await.unwrap_err();
    assert!(matches!(error, ActionError::Connect { .. }), "{error:?}");
    assert_eq!(clock.slept().len(), 2);
}

#[tokio::test]
async fn the_rate_limit_makes_calls_wait_and_then_refuses() {
    let upstream = Upstream::start(|_, _| ok("[]")).await;
    let api = open_api(&upstream, |limits| limits.requests_per_minute = Some(10)).await;
    let (caller, clock) = manual_caller();
    get_text(&caller, &api).await.unwrap();
    get_text(&caller, &api).await.unwrap();
    let waited: f64 = clock.slept().iter().map(Duration::as_secs_f64).sum();
    assert!((1.0..=6.1).contains(&waited), "{waited}");

    let api = open_api(&upstream, |limits| limits.requests_per_minute = Some(1)).await;
    let (caller, _) = manual_caller();
    get_text(&caller, &api).await.unwrap();
    let error = get(&caller, &api).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert!(error.retry_after().unwrap() > Duration::from_secs(50));
}

#[tokio::test]
async fn a_cancelled_call_ends_at_once_before_and_within_the_body() {
    let upstream = Upstream::start(|_, n| match n {
        1 => Reply::Hang(head("content-length: 10\r\n")),
        _ => Reply::Hang(Vec::new()),
    })
    .await;
    let api = open_api(&upstream, |_| {}).await;
    let caller = Caller::default();
    let cancel = CancellationToken::new();
    let mut response = caller.call(&api, "get", &json!({"id": "1"}), &cancel).await.unwrap();
    cancel.cancel();
    assert_eq!(response.body.next().await, Some(Err(ActionError::Cancelled)));
    assert!(response.body.next().await.is_none());
    let error = caller.call(&api, "get", &json!({"id": "1"}), &cancel).await.unwrap_err();
    assert_eq!(error, ActionError::Cancelled);
}

#[tokio::test]
async fn an_empty_answer_is_an_empty_body() {
    let upstream = Upstream::start(|_, _| Reply::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())).await;
    let response = get(&Caller::default(), &open_api(&upstream, |_| {}).await).await.unwrap();
    assert_eq!(response.status, 204);
    assert_eq!(response.bytes().await.unwrap(), "");
}
