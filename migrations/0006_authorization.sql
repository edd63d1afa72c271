-- What the authorization endpoint and refresh tokens need. Every secret value is kept as its SHA-256 in hex.

-- People who are logged in with a browser, by the value of their cookie.
CREATE TABLE browser_sessions (
    session_sha256 TEXT PRIMARY KEY,
    user_id        TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    started_at_ms  BIGINT NOT NULL,         -- when the password was shown
    used_at_ms     BIGINT NOT NULL          -- to the minute
);
CREATE INDEX browser_sessions_by_start ON browser_sessions (started_at_ms);
CREATE INDEX browser_sessions_by_user ON browser_sessions (user_id);

-- What users have allowed clients, so that they are not asked twice.
CREATE TABLE consents (
    user_id     TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    client_id   TEXT NOT NULL REFERENCES clients (client_id) ON DELETE CASCADE,
    scopes      TEXT NOT NULL,
    given_at_ms BIGINT NOT NULL,
    PRIMARY KEY (user_id, client_id)
);
CREATE INDEX consents_by_client ON consents (client_id);

-- Authorization codes. A used one stays as long as the tokens that it gave could live, so that using it again is noticed.
CREATE TABLE authorization_codes (
    code_sha256         TEXT PRIMARY KEY,
    client_id           TEXT NOT NULL,
    user_id             TEXT NOT NULL,
    redirect_uri        TEXT NOT NULL,      -- as the request gave it; '' if it gave none
    scopes              TEXT NOT NULL,
    resource            TEXT NOT NULL,      -- RFC 8707; '' for the service itself
    code_challenge      TEXT NOT NULL,      -- RFC 7636, S256
    authenticated_at_ms BIGINT NOT NULL,
    issued_at_ms        BIGINT NOT NULL,
    expires_at_ms       BIGINT NOT NULL,
    used_at_ms          BIGINT,
    family_id           TEXT NOT NULL DEFAULT '',  -- of the tokens that it gave
    forget_at_ms        BIGINT NOT NULL
);
CREATE INDEX authorization_codes_by_end ON authorization_codes (forget_at_ms);

-- All tokens that come from one login: the refresh token that is good now, and what it may be exchanged for.
CREATE TABLE token_families (
    family_id           TEXT PRIMARY KEY,
    client_id           TEXT NOT NULL,
    user_id             TEXT NOT NULL,
    scopes              TEXT NOT NULL,
    resource            TEXT NOT NULL,
    authenticated_at_ms BIGINT NOT NULL,
    started_at_ms       BIGINT NOT NULL,
    ends_at_ms          BIGINT NOT NULL,    -- no refresh token outlives it
    expires_at_ms       BIGINT NOT NULL,    -- of the refresh token that is good now
    refresh_sha256      TEXT NOT NULL,      -- '' if the client gets none
    revoked_at_ms       BIGINT
);
CREATE INDEX token_families_by_end ON token_families (expires_at_ms);

-- The access tokens of a family that may not have expired: they die with it.
CREATE TABLE family_tokens (
    jti           TEXT PRIMARY KEY,
    family_id     TEXT NOT NULL REFERENCES token_families (family_id) ON DELETE CASCADE,
    expires_at_ms BIGINT NOT NULL
);
CREATE INDEX family_tokens_by_family ON family_tokens (family_id);
