-- sent_with: the other messages of a call, by its first one
SELECT id FROM messages WHERE sent_with = :id ORDER BY id

-- sent_by: an agent's mail, newest first
SELECT m.id, m.public_id, m.content, m.created_at, r.name AS recipient, r.is_group, f.message_id AS pending
FROM messages m JOIN agents r ON r.id = m.recipient_id LEFT JOIN fan_outs f ON f.message_id = m.id
WHERE m.author_id = :agent_id AND m.recipient_id IS NOT NULL AND m.created_at < :before AND m.kind <> 'system'
ORDER BY m.created_at DESC LIMIT :limit

-- states_of: what became of a message, counted
SELECT state, count(*) AS items FROM (
    SELECT CASE
        WHEN done_at IS NOT NULL THEN coalesce(outcome, 'acknowledged')
        WHEN claim_id IS NOT NULL AND lease_until > :now THEN 'claimed'
        WHEN expires_at <= :now THEN 'expired'
        ELSE 'stored'
    END AS state FROM inbox WHERE message_id = :message_id AND kind <> 'returned'
) AS items GROUP BY state ORDER BY state

-- turn_of: where two agents stand; of one with itself, when a person's word reached it
SELECT author_id, turns, at FROM turns WHERE low_id = :low_id AND high_id = :high_id

-- set_turn: where they stand now
INSERT INTO turns (low_id, high_id, author_id, turns, at) VALUES (:low_id, :high_id, :author_id, :turns, :at)
ON CONFLICT (low_id, high_id) DO UPDATE SET author_id = excluded.author_id, turns = excluded.turns, at = excluded.at

-- sweep_turns: a portion of what was a while ago
DELETE FROM turns WHERE (low_id, high_id) IN (SELECT low_id, high_id FROM turns WHERE at < :before LIMIT :limit)
