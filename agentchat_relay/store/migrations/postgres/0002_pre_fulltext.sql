-- Full-text search. What is filed under which words is decided in store/postgres/words.py, when in index.py.

CREATE TABLE fulltext (
    id BIGINT PRIMARY KEY, -- of the message
    words TSVECTOR NOT NULL
);
-- Statistics would only make the planner waver, and keep words that are to be forgotten.
ALTER TABLE fulltext ALTER COLUMN words SET STATISTICS 0;
-- New rows wait in a list, which is brought in at the end of each chunk: a quarter of the work that each alone would be.
CREATE INDEX fulltext_words ON fulltext USING gin (words) WITH (fastupdate = on);

-- Only its owner may bring in the list of an index, and the relay's role need not be that.
CREATE FUNCTION bring_in_words() RETURNS BIGINT LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT gin_clean_pending_list('fulltext_words')
$$;

-- Up to which message the index has come. Whoever adds to it locks this row first.
CREATE TABLE fulltext_progress (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    id BIGINT NOT NULL
);
INSERT INTO fulltext_progress (id) VALUES (0);

-- A message's words go with it. Those up to the place above are in the index, or were never to be. Others may be on
-- their way into it just now: with the row locked nobody adds them after this, and the DELETE sees who did before.
CREATE FUNCTION forget_words() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM gone JOIN fulltext_progress p ON gone.id > p.id) THEN
        PERFORM 1 FROM fulltext_progress FOR UPDATE;
    END IF;
    DELETE FROM fulltext USING gone WHERE fulltext.id = gone.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER words_forgotten AFTER DELETE ON messages
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION forget_words();
