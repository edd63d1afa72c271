-- Client assertions (RFC 7523) that have been used, until they would have expired anyway: each is taken once, whichever
-- replica it is shown to.
CREATE TABLE used_assertions (
    client_id     TEXT NOT NULL,
    jti_sha256    TEXT NOT NULL,     -- hex; the jti itself is the client's text
    expires_at_ms BIGINT NOT NULL,
    PRIMARY KEY (client_id, jti_sha256)
);
CREATE INDEX used_assertions_by_expiry ON used_assertions (expires_at_ms);
