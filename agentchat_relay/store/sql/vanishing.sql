-- acknowledged_vanishing: messages that somebody is done with since they were last looked at, a portion
SELECT DISTINCT message_id AS id FROM inbox
WHERE vanishing = 1 AND done_at IS NOT NULL AND (outcome IS NULL OR outcome = 'expired') LIMIT :limit

-- is_awaited: whether somebody is not done with a message: it waits, can be put back, or is still being given out. Who
-- was deleted puts nothing back
SELECT 1 AS awaited FROM inbox i JOIN agents a ON a.id = i.agent_id
WHERE i.message_id = :id AND (i.done_at IS NULL OR i.outcome = 'dead' AND a.name NOT LIKE :grave)
UNION ALL SELECT 1 FROM fan_outs WHERE message_id = :id LIMIT 1

-- silent_with: messages of the same call that are there for nobody, since whom they were for got another one of it
SELECT o.id FROM messages m CROSS JOIN messages o
WHERE m.id = :id AND (o.id = coalesce(m.sent_with, m.id) OR o.sent_with = coalesce(m.sent_with, m.id))
AND o.vanishes_at > 0 AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.message_id = o.id)
AND NOT EXISTS (SELECT 1 FROM fan_outs f WHERE f.message_id = o.id)

-- looked_at: who is done with a message need not be asked again
UPDATE inbox SET vanishing = 0
WHERE message_id = :id AND vanishing = 1 AND done_at IS NOT NULL AND (outcome IS NULL OR outcome = 'expired')

-- look_again: at who is done with a message
UPDATE inbox SET vanishing = 1
WHERE message_id = :id AND done_at IS NOT NULL AND (outcome IS NULL OR outcome = 'expired')

-- expire_dead: nobody puts it back, and it is to be looked at
UPDATE inbox SET outcome = 'expired', vanishing = 1 WHERE message_id = :id AND outcome = 'dead'

-- dead_vanishing: messages that an agent's dead letters keep
SELECT message_id AS id FROM inbox WHERE agent_id = :agent_id AND outcome = 'dead' AND vanishing = 1

-- overdue_vanishing: messages whose time is over, a portion
SELECT id FROM messages WHERE vanishes_at > 0 AND vanishes_at <= :now ORDER BY vanishes_at LIMIT :limit

-- next_vanishing: when the next one's is
SELECT vanishes_at AS at FROM messages WHERE vanishes_at > 0 ORDER BY vanishes_at LIMIT 1

-- vanishing_message: what is to be known of one that goes
SELECT m.id, m.public_id, m.channel_id, m.author_id, m.recipient_id, m.created_at, m.kind, m.key, m.digest,
    c.space_id, c.public_id AS channel, c.name AS channel_name, a.public_id AS author, a.name AS author_name,
    p.public_id AS parent
FROM messages m JOIN channels c ON c.id = m.channel_id JOIN agents a ON a.id = m.author_id
LEFT JOIN messages p ON p.id = m.parent_id WHERE m.id = :id

-- sent_message: the same of a private one that may be gone
SELECT m.public_id, m.created_at, 'chat' AS kind, m.channel_id < 0 AS is_gone, c.public_id AS channel,
    c.name AS channel_name, a.public_id AS author, a.name AS author_name, p.public_id AS parent
FROM messages m JOIN channels c ON c.id = abs(m.channel_id) JOIN agents a ON a.id = abs(m.author_id)
LEFT JOIN messages p ON p.id = m.parent_id WHERE m.id = :id

-- turn_over: nothing of what it said, and nothing that finds it among the others
UPDATE messages SET content = '', metadata = NULL, unmatched = NULL, key = NULL, digest = NULL,
    kind = :kind, channel_id = -channel_id, author_id = -author_id, recipient_id = -recipient_id, root_id = -root_id,
    vanishes_at = -:now
WHERE id = :id

-- items_left: what still waits for somebody, or could be made to wait again
SELECT i.id, i.public_id, i.agent_id FROM inbox i JOIN agents a ON a.id = i.agent_id
WHERE i.message_id = :id AND (i.done_at IS NULL OR i.outcome = 'dead' AND a.name NOT LIKE :grave)

-- expire_item: whatever was to become of it
UPDATE inbox SET done_at = coalesce(done_at, :now), outcome = 'expired', lease_until = NULL WHERE id = :id

-- skip_one: one less for everybody who has not read it; an author's own is skipped already
UPDATE memberships SET own_above = own_above + 1
WHERE channel_id = :channel_id AND read_at < :created_at AND agent_id <> :author_id

-- own_vanished: an author's posts above its own cursor are one less
UPDATE memberships SET own_above = own_above - 1
WHERE channel_id = :channel_id AND agent_id = :author_id AND read_at < :created_at

-- oldest_chat: the first one of a channel that is left
SELECT chats, created_at FROM messages WHERE channel_id = :channel_id AND (kind = 'status') = FALSE
ORDER BY created_at LIMIT 1

-- skip_through: nobody has to read what is gone, and nobody counts it one by one any more
UPDATE memberships SET own_above = own_above - (:chats - read_chats), read_chats = :chats
WHERE channel_id = :channel_id AND read_chats < :chats

-- settle_through: of those before a time, that is so
UPDATE messages SET kind = 'status'
WHERE channel_id = -:channel_id AND (kind = 'status') = FALSE AND created_at < :at

-- find_vanished: one that is gone and that this agent could see
SELECT m.id, m.public_id, c.id AS channel_id, -m.author_id AS author_id, -m.root_id AS root_id, m.created_at,
    -m.recipient_id AS recipient_id, 'chat' AS kind, m.depth, 0 AS characters, r.is_group
FROM messages m JOIN channels c ON c.id = -m.channel_id LEFT JOIN agents r ON r.id = -m.recipient_id
WHERE m.public_id = :public_id AND c.space_id = :space_id
AND (
    m.recipient_id IS NULL OR m.recipient_id = -:agent_id OR m.author_id = -:agent_id
    OR EXISTS (SELECT 1 FROM inbox i WHERE i.agent_id = :agent_id AND i.message_id = m.id)
)

-- traces_due: what is left of messages that vanished long ago, unless one that is still to vanish may lie beside it
SELECT m.id FROM messages m WHERE m.vanishes_at < 0 AND m.vanishes_at > -:before AND NOT EXISTS (
    SELECT 1 FROM messages n WHERE n.id > m.id - :near AND n.id < m.id + :near AND n.vanishes_at > 0
) ORDER BY m.vanishes_at DESC LIMIT :limit

-- delete_items: of one message
DELETE FROM inbox WHERE message_id = :id

-- delete_trace: the last of it
DELETE FROM messages WHERE id = :id AND vanishes_at < 0

-- vanishing_files: files of ephemeral channels whose time is over, a portion
SELECT f.id, f.space_id, f.channel_id, f.path, f.type, f.size, f.hash, f.author_id, f.created_at, f.key, f.digest
FROM channels c JOIN files f ON f.channel_id = c.id
WHERE c.vanish_after IS NOT NULL AND f.created_at <= :now - c.vanish_after * 1000000 LIMIT :limit

-- next_vanishing_file: when the next one's is
SELECT min(f.created_at + c.vanish_after * 1000000) AS at FROM channels c JOIN files f ON f.channel_id = c.id
WHERE c.vanish_after IS NOT NULL

-- holds_anything: whether there is a message or a file in a channel
SELECT 1 AS held FROM messages WHERE channel_id = :channel_id UNION ALL
SELECT 1 FROM files WHERE channel_id = :channel_id LIMIT 1

-- channel_vanishes: its posts do, after so many seconds; null: they are kept
UPDATE channels SET vanish_after = :vanish_after WHERE id = :id

-- newest_chat: the last one of a channel that is left
SELECT l.public_id AS latest_id, l.content, l.created_at, a.public_id AS author_id, a.name AS author_name
FROM messages l JOIN agents a ON a.id = l.author_id
WHERE l.channel_id = :channel_id AND (l.kind = 'status') = FALSE ORDER BY l.created_at DESC LIMIT 1
