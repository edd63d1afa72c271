-- Clients that are gone, for as long as a token of theirs could be valid: replicas refuse those at once, where
-- they would take a client that they have not heard of for one that is younger than their copy.
CREATE TABLE deleted_clients (
    client_id     TEXT PRIMARY KEY,
    deleted_at_ms BIGINT NOT NULL
);
