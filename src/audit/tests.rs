use super::*;

async fn store() -> (tempfile::TempDir, Store) {
    let (folder, _, store) = store_with_url().await;
    (folder, store)
}

async fn store_with_url() -> (tempfile::TempDir, String, Store) {
    let folder = tempfile::tempdir().unwrap();
    let url = crate::auth::testing::new_database(folder.path()).await;
    let store = Store::open_url(&url).await.unwrap();
    (folder, url, store)
}

fn event(number: usize) -> Event {
    let principal = Principal::local("tester");
    Event {
        rows: Some(number as u64),
        ..Event::new(&principal, &format!("r{number}"), "sql_run", "flights.airports")
    }
}

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn events_come_back_as_recorded_and_in_order_across_batches() {
    let (_folder, store) = store().await;
    let audit = Audit::start(store);
    let denied = Event {
        outcome: Outcome::Denied,
        reason: Some("insufficient_scope"),
        size_bytes: Some(7),
        elapsed_ms: Some(u64::MAX),
        ..event(0)
    };
    audit.record(&denied).await.unwrap();
    for number in 1..1_500 {
        audit.record(&event(number)).await.unwrap();
    }
    audit.flush().await.unwrap();
    let all = audit.list(&AuditQuery { limit: 2_000, ..AuditQuery::default() }).await.unwrap();
    let numbers: Vec<_> = all.iter().map(|record| record.rows).collect();
    assert_eq!(numbers, (0..1_500).map(Some).collect::<Vec<_>>());
    let first = &all[0];
    assert_eq!((first.outcome, first.reason.as_deref()), (Outcome::Denied, Some("insufficient_scope")));
    assert_eq!((first.size_bytes, first.elapsed_ms), (Some(7), Some(i64::MAX)));
    assert_eq!((first.client_id.as_str(), first.target.as_str()), ("local:tester", "flights.airports"));
    assert_eq!(all[1].reason, None);
}

#[tokio::test]
async fn closing_writes_everything_that_was_taken_from_many_callers_and_refuses_the_rest() {
    let (_folder, store) = store().await;
    let audit = Audit::start(store);
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let audit = audit.clone();
            tokio::spawn(async move {
                let mut taken = 0;
                while taken < 1_000 && audit.record(&event(caller)).await.is_ok() {
                    taken += 1;
                }
                taken
            })
        })
        .collect();
    tokio::task::yield_now().await;
    audit.close(SOON).await.unwrap();
    audit.close(SOON).await.unwrap();
    let mut taken = 0;
    for caller in callers {
        taken += caller.await.unwrap();
    }
    assert!(matches!(audit.record(&event(0)).await, Err(AuditError::Closed)));
    assert!(matches!(audit.flush().await, Err(AuditError::Closed)));
    let stored = audit.list(&AuditQuery { limit: MAX_LIST_ROWS, ..AuditQuery::default() }).await.unwrap();
    assert_eq!(stored.len(), taken);
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait_and_loses_nothing_while_the_database_is_locked() {
    let (_folder, url, store) = store_with_url().await;
    let audit = Audit::start(store);
    // Another process holds the lock that writers need: the only one in SQLite, the table's in PostgreSQL.
    let other = Store::open_url(&url).await.unwrap();
    let mut lock = other.pool().begin().await.unwrap();
    let take_lock = if url.starts_with("sqlite:") {
        "UPDATE auth_version SET version = version"
    } else {
        "LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE"
    };
    sqlx::query(take_lock).execute(&mut *lock).await.unwrap();
    let writer = audit.clone();
    let total = QUEUE_EVENTS + 2 * 512 + 10;
    let recording = tokio::spawn(async move {
        for number in 0..total {
            writer.record(&event(number)).await.unwrap();
        }
    });
    while audit.sender.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(!recording.is_finished(), "the caller waits for room");
    let late = audit.close(Duration::ZERO).await;
    assert!(matches!(late, Err(AuditError::NotWritten { pending }) if pending > QUEUE_EVENTS));
    lock.rollback().await.unwrap();
    recording.await.unwrap();
    audit.flush().await.unwrap();
    let stored = audit.list(&AuditQuery { limit: MAX_LIST_ROWS, ..AuditQuery::default() }).await.unwrap();
    assert_eq!(stored.len(), total);
}

#[tokio::test]
async fn filters_and_pages_meet_every_matching_event_once_in_both_directions() {
    let (_folder, store) = store().await;
    let audit = Audit::start(store);
    for number in 0..20 {
        let outcome = if number % 3 == 0 { Outcome::Refused } else { Outcome::Ok };
        let client_id = format!("client-{}", number % 2);
        audit.record(&Event { outcome, client_id, ..event(number) }).await.unwrap();
    }
    audit.flush().await.unwrap();
    let filter = AuditQuery {
        outcome: Some(Outcome::Refused),
        client_id: Some("client-0".into()),
        operation: Some("sql_run".into()),
        since_ms: Some(0),
        until_ms: Some(i64::MAX),
        limit: 2,
        ..AuditQuery::default()
    };
    for newest_first in [false, true] {
        let mut query = AuditQuery { newest_first, ..filter.clone() };
        let mut seen = Vec::new();
        loop {
            let page = audit.list(&query).await.unwrap();
            assert!(page.len() <= 2);
            let Some(last) = page.last() else { break };
            query.after = Some(last.event_id.clone());
            seen.extend(page.iter().filter_map(|record| record.rows));
        }
        let mut expected = vec![0, 6, 12, 18];
        if newest_first {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
    let none = AuditQuery { until_ms: Some(0), ..AuditQuery::default() };
    assert!(audit.list(&none).await.unwrap().is_empty());
    let hostile = AuditQuery { client_id: Some("' OR 1=1 --".into()), ..AuditQuery::default() };
    assert!(audit.list(&hostile).await.unwrap().is_empty());
    for limit in [0, MAX_LIST_ROWS + 1] {
        let error = audit.list(&AuditQuery { limit, ..AuditQuery::default() }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn overlong_and_unprintable_names_are_stored_marked_as_such() {
    let (_folder, store) = store().await;
    let audit = Audit::start(store);
    audit.record(&Event { target: format!("a\0b{}", "é".repeat(400)), ..event(0) }).await.unwrap();
    audit.flush().await.unwrap();
    let target = audit.list(&AuditQuery::default()).await.unwrap().remove(0).target;
    assert!(target.starts_with("a\u{fffd}bé") && target.ends_with('…'), "{target}");
    assert_eq!(target.chars().count(), MAX_TEXT_CHARACTERS + 1);
}

#[tokio::test]
async fn events_that_cannot_be_written_yet_are_kept_until_they_can_and_closing_says_how_many() {
    let (_folder, store) = store().await;
    let audit = Audit::start(store.clone());
    sqlx::query("ALTER TABLE audit_events RENAME TO hidden_events").execute(store.pool()).await.unwrap();
    for number in 0..3 {
        audit.record(&event(number)).await.unwrap();
    }
    let flushed = tokio::time::timeout(Duration::from_millis(200), audit.flush()).await;
    assert!(flushed.is_err(), "nothing is called written that is not");
    let closed = audit.close(Duration::from_millis(100)).await;
    assert!(matches!(closed, Err(AuditError::NotWritten { pending: 3 })), "{closed:?}");
    sqlx::query("ALTER TABLE hidden_events RENAME TO audit_events").execute(store.pool()).await.unwrap();
    audit.close(SOON).await.unwrap();
    let stored = audit.list(&AuditQuery::default()).await.unwrap();
    assert_eq!(stored.iter().map(|record| record.rows).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
}
