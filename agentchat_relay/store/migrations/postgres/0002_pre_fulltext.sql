-- Full-text search. What is in a message is said by store/postgres/words.py, when it is written by index.py there.

CREATE TABLE fulltext (
    id BIGINT PRIMARY KEY, -- of the message, which the index must not lock as a foreign key would
    words TSVECTOR NOT NULL
);
-- Statistics would only make the planner waver, and keep words that are to be forgotten.
ALTER TABLE fulltext ALTER COLUMN words SET STATISTICS 0;
-- New rows wait in a list, which is brought in as a whole at the end of each chunk: a quarter of the work of each alone.
CREATE INDEX fulltext_words ON fulltext USING gin (words) WITH (fastupdate = on);

-- Up to which message the index has come. Whoever adds to it, or takes out of it, locks this row first.
CREATE TABLE fulltext_progress (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    id BIGINT NOT NULL
);
INSERT INTO fulltext_progress (id) VALUES (0);

-- A message's words go with it. With the row locked, nobody who has read the message can add it afterwards, and the
-- DELETE sees what was added before.
CREATE FUNCTION forget_words() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM 1 FROM fulltext_progress FOR UPDATE;
    DELETE FROM fulltext USING gone WHERE fulltext.id = gone.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER words_forgotten AFTER DELETE ON messages
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION forget_words();
