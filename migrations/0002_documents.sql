-- Stored bodies and what has become of them. The text of the chunks lives in LanceDB, the bytes in the body store.
CREATE TABLE documents (
    document_id     TEXT PRIMARY KEY,
    index_name      TEXT NOT NULL,
    owner           TEXT NOT NULL,          -- client_id of whoever brought it in
    source          TEXT NOT NULL,          -- 'upload', or 'action:<api>.<operation>'
    title           TEXT NOT NULL,
    content_type    TEXT NOT NULL,
    body_sha256     TEXT NOT NULL,
    content_key     TEXT NOT NULL,          -- SHA-256 over body, media type, chunking, title, source and metadata
    size_bytes      BIGINT NOT NULL,
    tokens          BIGINT NOT NULL,
    chunks          BIGINT NOT NULL,
    embedded_chunks BIGINT NOT NULL,
    state           TEXT NOT NULL,          -- storing, indexed (text search answers), ready (vectors too), failed
    error           TEXT,
    response_table  TEXT,                   -- the table in schema responses, if the body holds records
    records_pointer TEXT,                   -- JSON Pointer of the array behind that table
    metadata        TEXT NOT NULL,          -- JSON object of strings
    outline         TEXT NOT NULL,          -- JSON array of lines
    preview         TEXT NOT NULL,
    preview_is_cut  BIGINT NOT NULL,        -- 0 or 1
    created_at_ms   BIGINT NOT NULL,
    expires_at_ms   BIGINT
);
CREATE INDEX documents_by_index ON documents (index_name, owner, created_at_ms);
CREATE INDEX documents_by_state ON documents (state);
CREATE INDEX documents_by_content ON documents (content_key);
CREATE INDEX documents_by_body ON documents (body_sha256);
