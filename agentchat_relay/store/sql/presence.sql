-- see_agent: it was just here
UPDATE agents SET last_seen_at = :now WHERE id = :id

-- agents_seen: those of a space that were seen lately
SELECT id, last_seen_at FROM agents
WHERE space_id = :space_id AND active = 1 AND is_group = 0 AND last_seen_at BETWEEN :since AND :until
LIMIT :limit

-- seen_agent: what is told of one
SELECT public_id, name, card, last_seen_at FROM agents WHERE id = :id

-- stale_agents: those not seen for long, a portion
SELECT id, public_id, space_id FROM agents
WHERE kind = 'agent' AND is_group = 0 AND active = 1 AND retired_at IS NULL
AND coalesce(last_seen_at, created_at) < :before ORDER BY id LIMIT :limit

-- retire_agent: nobody can write to it until it is back
UPDATE agents SET retired_at = :now WHERE id = :id AND retired_at IS NULL

-- retired_agent: one, if it was retired
SELECT public_id, space_id FROM agents WHERE id = :id AND retired_at IS NOT NULL

-- unretire_agent: it is back
UPDATE agents SET retired_at = NULL WHERE id = :id

-- items_of_retired: what waits for agents that were retired, a portion. What had its time has expired, and an interrupt
-- waits until it is over: its sender is told by that
SELECT i.id, i.public_id, i.agent_id, a.space_id, i.message_id, i.vanishing, a.name, m.channel_id, m.author_id,
    w.name AS author
FROM agents a JOIN inbox i ON i.agent_id = a.id AND i.done_at IS NULL
LEFT JOIN messages m ON m.id = i.message_id LEFT JOIN agents w ON w.id = m.author_id
WHERE a.retired_at IS NOT NULL AND i.kind <> 'interrupt' AND (i.expires_at IS NULL OR i.expires_at > :now) LIMIT :limit

-- insert_returned: its author learns that somebody did not get a message; once, whoever it was
INSERT INTO inbox (public_id, agent_id, kind, message_id, created_at, vanishing)
VALUES (:public_id, :agent_id, 'returned', :message_id, :created_at, :vanishing) ON CONFLICT (agent_id, message_id) DO NOTHING

-- undelivered_to: who was retired and did not get a message
SELECT a.name FROM inbox i JOIN messages m ON m.id = i.message_id JOIN agents a ON a.id = i.agent_id
WHERE m.public_id = :message_id AND i.outcome = 'dead' AND i.reason = 'retired' AND i.kind <> 'returned'
ORDER BY i.id LIMIT :limit
