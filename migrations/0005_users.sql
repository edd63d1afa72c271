-- People who log in, and what a client may do besides asking for tokens of its own.
CREATE TABLE users (
    user_id              TEXT PRIMARY KEY,      -- 'user:' and a UUID; the claim sub of a person's tokens
    username             TEXT NOT NULL UNIQUE,  -- in lower case
    display_name         TEXT NOT NULL,
    password_hash        TEXT NOT NULL,         -- Argon2id, as a PHC string
    scopes               TEXT NOT NULL,
    claims               TEXT NOT NULL,
    created_at_ms        BIGINT NOT NULL,
    disabled_at_ms       BIGINT,
    tokens_not_before_ms BIGINT                 -- tokens and logins until then are dead
);

-- As deleted_clients: replicas refuse their tokens at once.
CREATE TABLE deleted_users (
    user_id       TEXT PRIMARY KEY,
    deleted_at_ms BIGINT NOT NULL
);

ALTER TABLE clients ADD COLUMN authentication TEXT NOT NULL DEFAULT 'client_secret';
ALTER TABLE clients ADD COLUMN grant_types TEXT NOT NULL DEFAULT 'client_credentials';  -- space-separated
ALTER TABLE clients ADD COLUMN redirect_uris TEXT NOT NULL DEFAULT '';                  -- space-separated
ALTER TABLE clients ADD COLUMN jwks TEXT NOT NULL DEFAULT '';       -- RFC 7517 key set for private_key_jwt
ALTER TABLE clients ADD COLUMN audiences TEXT NOT NULL DEFAULT '';  -- resources whose tokens it may introspect
