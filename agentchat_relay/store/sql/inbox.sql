-- insert_item: something waits for an agent
INSERT INTO inbox (public_id, agent_id, kind, message_id, created_at)
VALUES (:public_id, :agent_id, :kind, :message_id, :created_at)

-- items_open: what waits for an agent and was not acknowledged, newest first
SELECT i.public_id, i.done_at, m.public_id AS message_id, m.content, m.metadata, m.created_at, c.name AS channel,
    a.name AS author
FROM inbox i JOIN messages m ON m.id = i.message_id JOIN channels c ON c.id = m.channel_id
JOIN agents a ON a.id = m.author_id
WHERE i.agent_id = :agent_id AND i.done_at IS NULL ORDER BY i.message_id DESC LIMIT :limit

-- items_all: the same with what was acknowledged
SELECT i.public_id, i.done_at, m.public_id AS message_id, m.content, m.metadata, m.created_at, c.name AS channel,
    a.name AS author
FROM inbox i JOIN messages m ON m.id = i.message_id JOIN channels c ON c.id = m.channel_id
JOIN agents a ON a.id = m.author_id
WHERE i.agent_id = :agent_id ORDER BY i.message_id DESC LIMIT :limit

-- acknowledge_item: the agent's own only
UPDATE inbox SET done_at = :now WHERE public_id = :public_id AND agent_id = :agent_id AND done_at IS NULL

-- delete_inbox: of an agent that is gone
DELETE FROM inbox WHERE agent_id = :agent_id
