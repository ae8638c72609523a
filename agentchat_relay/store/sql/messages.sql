-- insert_message: one
INSERT INTO messages (
    id, public_id, channel_id, number, chats, created_at, author_id, recipient_id, kind, content, metadata, parent_id,
    root_id, depth, sent_with, vanishes_at, unmatched, key, digest
) VALUES (
    :id, :public_id, :channel_id, :number, :chats, :created_at, :author_id, :recipient_id, :kind, :content, :metadata,
    :parent_id, :root_id, :depth, :sent_with, :vanishes_at, :unmatched, :key, :digest
)

-- whole_message: as it travels
SELECT m.id, m.public_id, m.created_at, m.kind, m.content, m.metadata, m.vanishes_at, c.public_id AS channel_id,
    c.name AS channel_name, a.public_id AS author_id, a.name AS author_name, p.public_id AS parent_id
FROM messages m JOIN channels c ON c.id = m.channel_id JOIN agents a ON a.id = m.author_id
LEFT JOIN messages p ON p.id = m.parent_id
WHERE m.id = :id

-- unmatched_of: which names of a message were nobody's
SELECT unmatched FROM messages WHERE id = :id

-- find_message: one that this agent may see
SELECT m.id, m.public_id, m.channel_id, m.author_id, m.root_id, m.created_at, m.recipient_id, m.kind, m.depth,
    length(m.content) AS characters, r.is_group
FROM messages m JOIN channels c ON c.id = m.channel_id LEFT JOIN agents r ON r.id = m.recipient_id
WHERE m.public_id = :public_id AND c.space_id = :space_id
AND (
    m.recipient_id IS NULL OR m.recipient_id = :agent_id OR m.author_id = :agent_id
    OR EXISTS (SELECT 1 FROM inbox i WHERE i.agent_id = :agent_id AND i.message_id = m.id)
)

-- page_before: chats older than a time, newest first
SELECT id, created_at FROM messages
WHERE channel_id = :channel_id AND (kind = 'status') = FALSE AND created_at < :at
ORDER BY created_at DESC LIMIT :limit

-- page_after: chats newer than a time, oldest first
SELECT id, created_at FROM messages
WHERE channel_id = :channel_id AND (kind = 'status') = FALSE AND created_at > :at
ORDER BY created_at LIMIT :limit

-- full_page_before: the same with status posts
SELECT id, created_at FROM (
    SELECT id, created_at FROM (
        SELECT id, created_at FROM messages
        WHERE channel_id = :channel_id AND (kind = 'status') = FALSE AND created_at < :at
        ORDER BY created_at DESC LIMIT :limit
    ) AS chats
    UNION ALL
    SELECT id, created_at FROM (
        SELECT id, created_at FROM messages
        WHERE channel_id = :channel_id AND (kind = 'status') = TRUE AND created_at < :at
        ORDER BY created_at DESC LIMIT :limit
    ) AS status
) AS page ORDER BY created_at DESC LIMIT :limit

-- full_page_after: the same with status posts
SELECT id, created_at FROM (
    SELECT id, created_at FROM (
        SELECT id, created_at FROM messages
        WHERE channel_id = :channel_id AND (kind = 'status') = FALSE AND created_at > :at
        ORDER BY created_at LIMIT :limit
    ) AS chats
    UNION ALL
    SELECT id, created_at FROM (
        SELECT id, created_at FROM messages
        WHERE channel_id = :channel_id AND (kind = 'status') = TRUE AND created_at > :at
        ORDER BY created_at LIMIT :limit
    ) AS status
) AS page ORDER BY created_at LIMIT :limit

-- direct_page_before: an agent's own direct messages, newest first
SELECT id, created_at FROM (
    SELECT id, created_at FROM (
        SELECT id, created_at FROM messages WHERE recipient_id = :agent_id AND created_at < :at
        ORDER BY created_at DESC LIMIT :limit
    ) AS received
    UNION
    SELECT id, created_at FROM (
        SELECT id, created_at FROM messages
        WHERE author_id = :agent_id AND recipient_id IS NOT NULL AND created_at < :at
        ORDER BY created_at DESC LIMIT :limit
    ) AS written
    UNION
    SELECT id, created_at FROM (
        SELECT message_id AS id, created_at FROM inbox
        WHERE agent_id = :agent_id AND kind = 'group' AND created_at < :at ORDER BY created_at DESC LIMIT :limit
    ) AS shared
) AS page ORDER BY created_at DESC LIMIT :limit

-- direct_page_after: the same, newer than a time
SELECT id, created_at FROM (
    SELECT id, created_at FROM (
        SELECT id, created_at FROM messages WHERE recipient_id = :agent_id AND created_at > :at
        ORDER BY created_at LIMIT :limit
    ) AS received
    UNION
    SELECT id, created_at FROM (
        SELECT id, created_at FROM messages
        WHERE author_id = :agent_id AND recipient_id IS NOT NULL AND created_at > :at
        ORDER BY created_at LIMIT :limit
    ) AS written
    UNION
    SELECT id, created_at FROM (
        SELECT message_id AS id, created_at FROM inbox
        WHERE agent_id = :agent_id AND kind = 'group' AND created_at > :at ORDER BY created_at LIMIT :limit
    ) AS shared
) AS page ORDER BY created_at LIMIT :limit

-- root_of: where a thread begins
SELECT m.id, m.public_id, m.created_at FROM messages m WHERE m.id = :id AND m.channel_id > 0
AND (
    m.recipient_id IS NULL OR m.recipient_id = :agent_id OR m.author_id = :agent_id
    OR EXISTS (SELECT 1 FROM inbox i WHERE i.agent_id = :agent_id AND i.message_id = m.id)
)

-- thread_after: the replies of a thread, oldest first
SELECT m.id, m.created_at FROM messages m WHERE m.root_id = :root_id AND m.created_at > :at
AND (
    m.recipient_id IS NULL OR m.recipient_id = :agent_id OR m.author_id = :agent_id
    OR EXISTS (SELECT 1 FROM inbox i WHERE i.agent_id = :agent_id AND i.message_id = m.id)
)
ORDER BY m.created_at LIMIT :limit

-- pins_of_channel: which messages are pinned, the newest message first
SELECT message_id FROM pins WHERE channel_id = :channel_id ORDER BY message_id DESC

-- pin_of: whether this one is
SELECT message_id FROM pins WHERE message_id = :message_id

-- insert_pin: pin it
INSERT INTO pins (message_id, channel_id, pinned_by, pinned_at) VALUES (:message_id, :channel_id, :pinned_by, :pinned_at)

-- delete_pin: unpin it
DELETE FROM pins WHERE message_id = :message_id
