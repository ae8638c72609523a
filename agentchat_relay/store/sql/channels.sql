-- channel_by_name: one channel of a space
SELECT id, public_id, name, number, chats, last_at, latest_id, vanish_after FROM channels WHERE space_id = :space_id AND name = :name

-- channel_names: names to guess a misspelt one from, the liveliest first
SELECT name FROM channels WHERE space_id = :space_id ORDER BY last_at DESC LIMIT 500

-- insert_channel: a new one, empty
INSERT INTO channels (public_id, space_id, name, type, scope, created_by, created_at, vanish_after)
VALUES (:public_id, :space_id, :name, :type, :scope, :created_by, :created_at, :vanish_after) RETURNING id

-- count_channel_of: one more channel that this agent made
UPDATE agents SET channels_created = channels_created + 1 WHERE id = :id

-- channels_made_by: how many
SELECT channels_created FROM agents WHERE id = :id

-- channel_counters: where a channel stands
SELECT number, chats, last_at, latest_id FROM channels WHERE id = :id

-- move_channel: where it stands now
UPDATE channels SET number = :number, chats = :chats, last_at = :last_at, latest_id = :latest_id WHERE id = :id

-- channels_joined: whole rows of the channels an agent is in
SELECT c.public_id, c.name, c.type, c.scope, c.description, c.metadata, c.archived, c.created_at, c.vanish_after,
    a.public_id AS creator
FROM memberships m JOIN channels c ON c.id = m.channel_id LEFT JOIN agents a ON a.id = c.created_by
WHERE m.agent_id = :agent_id AND c.type LIKE :type
ORDER BY m.joined_at, c.id LIMIT :limit

-- board_joined: an agent's channels with what is unread and what came last
SELECT c.id, c.public_id, c.name, c.type, c.scope, c.vanish_after, c.chats - m.read_chats - m.own_above AS unread,
    l.public_id AS latest_id, l.content, l.created_at, a.public_id AS author_id, a.name AS author_name
FROM memberships m JOIN channels c ON c.id = m.channel_id
LEFT JOIN messages l ON l.id = c.latest_id AND l.recipient_id IS NULL LEFT JOIN agents a ON a.id = l.author_id
WHERE m.agent_id = :agent_id ORDER BY m.joined_at, c.id LIMIT :limit

-- board_others: the liveliest channels an agent is not in
SELECT c.id, c.public_id, c.name, c.type, c.scope, c.vanish_after, 0 AS unread,
    l.public_id AS latest_id, l.content, l.created_at, a.public_id AS author_id, a.name AS author_name
FROM channels c LEFT JOIN memberships m ON m.channel_id = c.id AND m.agent_id = :agent_id
LEFT JOIN messages l ON l.id = c.latest_id LEFT JOIN agents a ON a.id = l.author_id
WHERE c.space_id = :space_id AND m.agent_id IS NULL AND c.name <> 'direct-messages'
ORDER BY c.last_at DESC LIMIT :limit

-- board_direct: what is open and what came last of an agent's direct messages
SELECT l.public_id AS latest_id, l.content, l.created_at, a.public_id AS author_id, a.name AS author_name,
    (
        SELECT count(*) FROM (
            SELECT 1 FROM inbox WHERE agent_id = :agent_id AND done_at IS NULL AND kind = 'direct' LIMIT 10000
        ) AS open
    ) AS unread
FROM messages l JOIN agents a ON a.id = l.author_id WHERE l.id = :id

-- membership: whether and how far
SELECT joined_at, read_at, read_chats, own_above, shown_at, shown_key FROM memberships
WHERE agent_id = :agent_id AND channel_id = :channel_id

-- insert_membership: join, with everything that is there counted as read
INSERT INTO memberships (agent_id, channel_id, joined_at, read_at, read_chats, moved_at)
VALUES (:agent_id, :channel_id, :now, :read_at, :read_chats, :now)

-- count_own: one more own post above the cursor
UPDATE memberships SET own_above = own_above + 1 WHERE agent_id = :agent_id AND channel_id = :channel_id

-- move_cursor: forward
UPDATE memberships SET read_at = :read_at, read_chats = :read_chats, own_above = :own_above, moved_at = :now
WHERE agent_id = :agent_id AND channel_id = :channel_id

-- show_page: what the last page held that is to be counted as read
UPDATE memberships SET shown_at = :shown_at, shown_key = :shown_key
WHERE agent_id = :agent_id AND channel_id = :channel_id

-- newest_through: the last message up to a time
SELECT created_at, chats FROM messages
WHERE channel_id = :channel_id AND (kind = 'status') = FALSE AND created_at <= :through
ORDER BY created_at DESC LIMIT 1

-- own_between: chats after one message and up to another that an agent need not read: its own, and what vanished
SELECT (
    SELECT count(*) FROM messages
    WHERE channel_id = :channel_id AND (kind = 'status') = FALSE AND created_at > :after AND created_at <= :through
    AND author_id = :agent_id
) + (
    SELECT count(*) FROM messages
    WHERE channel_id = -:channel_id AND (kind = 'status') = FALSE AND created_at > :after AND created_at <= :through
) AS own

-- readers_of: who reads a channel, the last to move first
SELECT a.name, m.read_at, m.joined_at, m.moved_at FROM memberships m JOIN agents a ON a.id = m.agent_id
WHERE m.channel_id = :channel_id AND a.active = 1 ORDER BY m.moved_at DESC LIMIT :limit

-- list_channels: for an operator
SELECT c.name, s.name AS space, c.number, c.purged, coalesce(c.retention, s.retention) AS retention,
    c.retention IS NOT NULL AS own_retention, c.vanish_after, c.created_at, c.last_at
FROM channels c JOIN spaces s ON s.id = c.space_id WHERE s.id = :space_id ORDER BY c.name

-- keep_channel: how many days it keeps what it holds; null: as its space
UPDATE channels SET retention = :retention WHERE space_id = :space_id AND name = :name

-- description_of: what a channel is about
SELECT description FROM channels WHERE public_id = :public_id
