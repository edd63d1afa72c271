-- Who did what, when, how much, with what outcome. Append-only: nothing in the service updates or deletes a row.
CREATE TABLE audit_events (
    event_id     TEXT PRIMARY KEY,          -- UUIDv7, so that order of id is order of time
    at_ms        BIGINT NOT NULL,
    request_id   TEXT NOT NULL,
    client_id    TEXT NOT NULL,
    subject      TEXT NOT NULL,
    operation    TEXT NOT NULL,
    target       TEXT NOT NULL,
    outcome      TEXT NOT NULL,             -- ok, refused, denied, failed
    reason       TEXT,
    rows_count   BIGINT,
    size_bytes   BIGINT,
    elapsed_ms   BIGINT
);
CREATE INDEX audit_events_by_time ON audit_events (at_ms);
