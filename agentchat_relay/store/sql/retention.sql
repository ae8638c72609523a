-- channels_due: channels that hold something older than they keep. An ephemeral one has a time of its own
SELECT c.id FROM channels c JOIN spaces s ON s.id = c.space_id
WHERE c.vanish_after IS NULL AND coalesce(c.retention, s.retention) > 0 AND (
    EXISTS (
        SELECT 1 FROM messages m WHERE m.channel_id = c.id AND (m.kind = 'status') = FALSE
        AND m.created_at < :now - coalesce(c.retention, s.retention) * :day
    ) OR EXISTS (
        SELECT 1 FROM messages m WHERE m.channel_id = c.id AND (m.kind = 'status') = TRUE
        AND m.created_at < :now - coalesce(c.retention, s.retention) * :day
    ) OR EXISTS (
        SELECT 1 FROM (SELECT created_at FROM files WHERE channel_id = c.id ORDER BY id LIMIT 1) AS oldest
        WHERE oldest.created_at < :now - coalesce(c.retention, s.retention) * :day
    )
)

-- retention_of: how many days a channel keeps what it holds; 0 is for ever
SELECT c.public_id, c.space_id, coalesce(c.retention, s.retention) AS days
FROM channels c JOIN spaces s ON s.id = c.space_id WHERE c.id = :id

-- messages_due: the oldest of a channel, if they are old enough
SELECT id, kind, author_id, created_at, chats FROM (
    SELECT id, kind, author_id, created_at, chats FROM (
        SELECT id, kind, author_id, created_at, chats FROM messages
        WHERE channel_id = :channel_id AND (kind = 'status') = FALSE AND created_at < :before
        ORDER BY created_at LIMIT :limit
    ) AS posts
    UNION ALL
    SELECT id, kind, author_id, created_at, chats FROM (
        SELECT id, kind, author_id, created_at, chats FROM messages
        WHERE channel_id = :channel_id AND (kind = 'status') = TRUE AND created_at < :before
        ORDER BY created_at LIMIT :limit
    ) AS reports
) AS page ORDER BY created_at LIMIT :limit

-- items_due: what still waits for somebody among a channel's oldest messages
SELECT i.public_id, i.agent_id, i.kind, i.message_id FROM messages m JOIN inbox i ON i.message_id = m.id
WHERE m.channel_id = :channel_id AND (m.kind = 'status') = FALSE AND m.created_at <= :through AND i.done_at IS NULL

-- message_to_go: what is written anew if it has to stay
SELECT m.author_id, m.recipient_id, m.root_id, m.content, m.metadata, c.name AS channel, c.space_id
FROM messages m JOIN channels c ON c.id = m.channel_id WHERE m.id = :id

-- move_items: what still waits, waits for a message that was written anew
UPDATE inbox SET message_id = :message_id WHERE message_id = :old_id AND done_at IS NULL

-- purge_items: of a channel's oldest messages
DELETE FROM inbox WHERE message_id IN (
    SELECT id FROM messages WHERE channel_id = :channel_id AND (kind = 'status') = FALSE AND created_at <= :through
)

-- purge_fan_outs: nobody is told of them any more
DELETE FROM fan_outs WHERE message_id IN (
    SELECT id FROM messages WHERE channel_id = :channel_id AND (kind = 'status') = FALSE AND created_at <= :through
)

-- purge_pins: of a channel's oldest messages
DELETE FROM pins WHERE channel_id = :channel_id AND message_id IN (
    SELECT id FROM messages WHERE channel_id = :channel_id AND (kind = 'status') = FALSE AND created_at <= :through
)

-- purge_chats: a channel's oldest messages
DELETE FROM messages WHERE channel_id = :channel_id AND (kind = 'status') = FALSE AND created_at <= :through

-- purge_status: and its oldest status posts
DELETE FROM messages WHERE channel_id = :channel_id AND (kind = 'status') = TRUE AND created_at <= :through

-- count_purged: so many less
UPDATE channels SET purged = purged + :purged WHERE id = :id

-- own_purged: an author's posts above its own cursor are fewer now
UPDATE memberships SET own_above = own_above - :posts WHERE agent_id = :agent_id AND channel_id = :channel_id

-- skip_purged: nobody has to read what is gone
UPDATE memberships SET read_chats = :chats WHERE channel_id = :channel_id AND read_chats < :chats

-- mark_purged: ids up to here were given
UPDATE marks SET value = :id WHERE name = 'purged_message' AND value < :id

-- files_due: the oldest of a channel, if they are old enough
SELECT id, space_id, path, hash FROM (
    SELECT id, space_id, path, hash, created_at FROM files WHERE channel_id = :channel_id ORDER BY id LIMIT :limit
) AS oldest WHERE created_at < :before

-- purge_file: its row
DELETE FROM files WHERE id = :id

-- drop_blob: a content that perhaps no file names any more
INSERT INTO dropped_blobs (space_id, hash) VALUES (:space_id, :hash) ON CONFLICT DO NOTHING

-- dropped_blobs: a portion of them
SELECT space_id, hash FROM dropped_blobs WHERE (space_id, hash) > (:space_id, :hash)
ORDER BY space_id, hash LIMIT :limit

-- content_named: whether a file has this content
SELECT 1 AS named FROM files WHERE space_id = :space_id AND hash = :hash LIMIT 1

-- settle_blob: it was seen to
DELETE FROM dropped_blobs WHERE space_id = :space_id AND hash = :hash
