-- events_after: a space's log from a position on, oldest first
SELECT e.position, e.kind, e.subject, e.actor_id, e.channel_id, e.audience_id, e.created_at, c.name AS channel,
    a.name AS actor
FROM events e LEFT JOIN channels c ON c.id = e.channel_id LEFT JOIN agents a ON a.id = e.actor_id
WHERE e.space_id = :space_id AND e.position > :position ORDER BY e.position LIMIT :limit

-- events_begin: the oldest position that is kept
SELECT position FROM events WHERE space_id = :space_id ORDER BY position LIMIT 1

-- message_of: by its public id, for events, which never leave their space
SELECT id FROM messages WHERE public_id = :public_id AND channel_id > 0

-- agent_of: by its public id
SELECT name, card, last_seen_at, retired_at FROM agents WHERE public_id = :public_id
