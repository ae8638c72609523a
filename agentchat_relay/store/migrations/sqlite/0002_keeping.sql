-- What an operator needs: messages that are kept for a while, and that leave no trace when their time is over.

ALTER TABLE spaces ADD COLUMN retention INTEGER NOT NULL DEFAULT 0; -- days that messages and files are kept; 0: for ever
ALTER TABLE channels ADD COLUMN retention INTEGER; -- the same for one channel; null: as its space
ALTER TABLE channels ADD COLUMN purged INTEGER NOT NULL DEFAULT 0; -- how many messages had their time

-- Numbers that outlive the rows they came from.
CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO marks VALUES ('purged_message', 0); -- the highest id among them, which is never given again

-- Contents that no file names any more, until they are removed.
CREATE TABLE dropped_blobs (
    space_id INTEGER NOT NULL REFERENCES spaces,
    hash TEXT NOT NULL,
    PRIMARY KEY (space_id, hash)
) WITHOUT ROWID;

CREATE INDEX inbox_of_message ON inbox (message_id);
CREATE INDEX files_by_content ON files (space_id, hash);

-- Deleted messages, until the full-text index has forgotten them: it needs their words for that. Ids are never reused.
CREATE TABLE unindexed (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id INTEGER NOT NULL,
    content TEXT NOT NULL,
    place TEXT NOT NULL
);
CREATE TRIGGER messages_unindexed AFTER DELETE ON messages WHEN old.kind <> 'status'
BEGIN INSERT INTO unindexed (message_id, content, place) SELECT old.id, old.content, CASE WHEN old.recipient_id IS NULL THEN 's' || c.space_id || ' c' || c.id ELSE 'd' || old.author_id || ' d' || old.recipient_id END FROM channels c WHERE c.id = old.channel_id; END;
