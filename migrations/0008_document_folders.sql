-- The data folder that a document's body, chunks and vectors lie in: replicas that share this database have a folder
-- each, and none may take the others' documents for lost. '' is from before this column; the next folder to be opened
-- takes it over.
ALTER TABLE documents ADD COLUMN folder_id TEXT NOT NULL DEFAULT '';
CREATE INDEX documents_by_folder ON documents (folder_id, index_name);
