-- OAuth2 clients. Secrets are 256-bit random values; only their SHA-256 is kept.
CREATE TABLE clients (
    client_id            TEXT PRIMARY KEY,
    name                 TEXT NOT NULL,
    scopes               TEXT NOT NULL,     -- space-separated, as in RFC 6749 section 3.3
    claims               TEXT NOT NULL,     -- JSON object; what row filters see as {{claims.x}}
    created_at_ms        BIGINT NOT NULL,
    disabled_at_ms       BIGINT,
    tokens_not_before_ms BIGINT             -- tokens issued until then are dead
);
CREATE INDEX clients_by_name ON clients (name);

CREATE TABLE client_secrets (
    secret_id     TEXT PRIMARY KEY,
    client_id     TEXT NOT NULL REFERENCES clients (client_id) ON DELETE CASCADE,
    sha256_hex    TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT
);
CREATE INDEX client_secrets_by_client ON client_secrets (client_id);

-- Access tokens that died before their time; a row may go once the token would have expired anyway.
CREATE TABLE revoked_tokens (
    jti           TEXT PRIMARY KEY,
    client_id     TEXT NOT NULL,
    revoked_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL
);

-- One row, counted up in the transaction of every change to the tables above: replicas poll it to know when the
-- copy in their memory is out of date. Updating it first also makes the writers queue.
CREATE TABLE auth_version (
    singleton BIGINT PRIMARY KEY CHECK (singleton = 1),
    version   BIGINT NOT NULL
);
INSERT INTO auth_version (singleton, version) VALUES (1, 0);
