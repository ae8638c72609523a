-- insert_item: something waits for an agent
INSERT INTO inbox (public_id, agent_id, kind, message_id, created_at, urgent, expires_at, scope, vanishing)
VALUES (:public_id, :agent_id, :kind, :message_id, :created_at, :urgent, :expires_at, :scope, :vanishing)

-- items_open: what waits for an agent in its lanes and has not ended, newest first
SELECT i.public_id, i.done_at, m.public_id AS message_id, m.content, m.metadata, m.created_at, c.name AS channel,
    a.name AS author
FROM TEXTS(:lanes) AS lane JOIN inbox i ON i.id PICKED (
    SELECT x.id FROM inbox x WHERE x.agent_id = :agent_id AND x.done_at IS NULL
    AND x IN LANE AND x.kind <> 'returned' AND (x.expires_at IS NULL OR x.expires_at > :now)
    ORDER BY x.urgent DESC, x.scope DESC, x.id DESC LIMIT :limit
) PICKED
JOIN messages m ON m.id = i.message_id JOIN channels c ON c.id = m.channel_id JOIN agents a ON a.id = m.author_id
ORDER BY i.id DESC LIMIT :limit

-- items_all: the same with what has ended
SELECT i.public_id, i.done_at, m.public_id AS message_id, m.content, m.metadata, m.created_at, c.name AS channel,
    a.name AS author
FROM inbox i JOIN messages m ON m.id = i.message_id JOIN channels c ON c.id = m.channel_id
JOIN agents a ON a.id = m.author_id
WHERE i.agent_id = :agent_id AND i.kind <> 'returned' ORDER BY i.message_id DESC LIMIT :limit

-- acknowledge_item: the agent's own only, whoever holds it. Only who acknowledges an interrupt is done with its item
UPDATE inbox SET done_at = :now, lease_until = NULL
WHERE public_id = :public_id AND agent_id = :agent_id AND done_at IS NULL AND kind <> 'interrupt'

-- interrupt_waits: an item of the agent's that only acknowledging what it is about ends
SELECT 1 AS waits FROM inbox
WHERE public_id = :public_id AND agent_id = :agent_id AND done_at IS NULL AND kind = 'interrupt'

-- close_item: the agent has dealt with what it is about
UPDATE inbox SET done_at = :now, lease_until = NULL WHERE id = :id AND done_at IS NULL

-- peek_items: what waits, in the order in which it is given out, from a place on. One that is being held waits, too
SELECT i.id, i.public_id, i.kind, i.urgent, i.deliveries, i.expires_at, i.lease_until, i.scope,
    m.public_id AS message_id, m.content, m.metadata, m.created_at, m.vanishes_at, c.name AS channel, a.name AS author
FROM TEXTS(:lanes) AS lane JOIN inbox i ON i.id PICKED (
    SELECT x.id FROM inbox x WHERE x.agent_id = :agent_id AND x.done_at IS NULL
    AND x IN LANE AFTER (CASE WHEN CAST(substr(lane.value, 1, 1) AS BIGINT) = :is_urgent THEN :after ELSE 0 END) LANE
    AND x.urgent <= :is_urgent AND (x.expires_at IS NULL OR x.expires_at > :now)
    ORDER BY x.urgent, x.scope, x.id LIMIT :limit
) PICKED
JOIN messages m ON m.id = i.message_id JOIN channels c ON c.id = m.channel_id JOIN agents a ON a.id = m.author_id
ORDER BY i.urgent DESC, i.id LIMIT :limit

-- scopes_waiting: which scopes something waits in for an agent, each found by one look at the index. Urgency and scope
-- compared as one row would be a look at everything that is as urgent, in SQLite
WITH RECURSIVE found (urgent, scope, number) AS (
    VALUES (0, '', 1), (1, '', 1)
    UNION ALL
    SELECT f.urgent, (
        SELECT min(x.scope) FROM inbox x
        WHERE x.agent_id = :agent_id AND x.done_at IS NULL AND x.urgent = f.urgent AND x.scope > f.scope
    ), f.number + 1
    FROM found f WHERE f.scope IS NOT NULL AND f.number <= :limit
)
SELECT DISTINCT scope FROM found WHERE scope <> '' ORDER BY scope

-- claim_items: give out what nobody holds, in order, until there are so many or their texts so long. A session that
-- checked gets what it holds again, and that is no new delivery
UPDATE inbox SET claim_id = :claim_id, claimed_at = :now, lease_until = :lease_until, session = :session,
    deliveries = deliveries + CASE WHEN session = :session AND lease_until > :now THEN 0 ELSE 1 END
WHERE done_at IS NULL AND id IN (
    SELECT id FROM (
        SELECT id, sum(size) OVER (ORDER BY urgent DESC, id) - size AS before FROM (
            SELECT i.id, i.urgent, length(m.content) AS size
            FROM TEXTS(:lanes) AS lane JOIN inbox i ON i.id PICKED (
                SELECT x.id FROM inbox x WHERE x.agent_id = :agent_id AND x.done_at IS NULL
                AND x IN LANE
                AND (
                    x.lease_until IS NULL OR x.lease_until <= :now OR x.lease_until > :now + :longest
                    OR x.session = :session
                )
                AND (x.expires_at IS NULL OR x.expires_at > :now) ORDER BY x.urgent, x.scope, x.id LIMIT :limit
            ) PICKED
            JOIN messages m ON m.id = i.message_id ORDER BY i.urgent DESC, i.id LIMIT :limit
        ) AS wanted
    ) AS taken WHERE before < :characters
)

-- claimed_items: what a claim gave out and is still its own, and whether somebody could claim more
SELECT i.id, i.public_id, i.kind, i.urgent, i.deliveries, i.expires_at, i.lease_until, i.scope,
    m.public_id AS message_id, m.content, m.metadata, m.created_at, m.vanishes_at, c.name AS channel, a.name AS author,
    EXISTS (
        SELECT 1 FROM TEXTS(:lanes) AS lane JOIN inbox x ON x.agent_id = :agent_id AND x.done_at IS NULL
        AND x.urgent = CAST(substr(lane.value, 1, 1) AS BIGINT) AND x.scope = substr(lane.value, 2)
        AND (x.claim_id IS NULL OR x.claim_id <> :claim_id)
        AND (x.lease_until IS NULL OR x.lease_until <= :now) AND (x.expires_at IS NULL OR x.expires_at > :now)
    ) AS has_more
FROM inbox i JOIN messages m ON m.id = i.message_id JOIN channels c ON c.id = m.channel_id
JOIN agents a ON a.id = m.author_id
WHERE i.claim_id = :claim_id AND i.agent_id = :agent_id ORDER BY i.urgent DESC, i.id

-- inbox_item: one, by its public id
SELECT i.id, i.public_id, i.kind, i.urgent, i.deliveries, i.expires_at, i.scope, NULL AS lease_until,
    m.public_id AS message_id, m.content, m.metadata, m.created_at, m.vanishes_at, c.name AS channel, a.name AS author
FROM inbox i JOIN messages m ON m.id = i.message_id JOIN channels c ON c.id = m.channel_id
JOIN agents a ON a.id = m.author_id WHERE i.public_id = :public_id

-- items_of_claim: which items a claim is about
SELECT id, public_id, kind, deliveries, done_at, outcome FROM inbox
WHERE claim_id = :claim_id AND agent_id = :agent_id ORDER BY id

-- acknowledge_claimed: one of them
UPDATE inbox SET done_at = :now, lease_until = NULL WHERE id = :id AND claim_id = :claim_id AND done_at IS NULL

-- rest_claimed: one that stays, to be given out again before its lease would have been over
UPDATE inbox SET lease_until = :until WHERE id = :id AND claim_id = :claim_id AND done_at IS NULL AND lease_until > :until

-- return_claimed: to be given out again, perhaps only after a while
UPDATE inbox SET claim_id = NULL, session = NULL, lease_until = :lease_until
WHERE id = :id AND claim_id = :claim_id AND done_at IS NULL

-- renew_claim: hold on for longer
UPDATE inbox SET lease_until = :lease_until WHERE claim_id = :claim_id AND agent_id = :agent_id AND done_at IS NULL

-- tired_items: given out too often, and nobody holds them any more. An interrupt is given out until it is over
SELECT id, public_id FROM inbox
WHERE agent_id = :agent_id AND done_at IS NULL AND lease_until IS NOT NULL AND lease_until <= :now
AND deliveries >= :most AND kind <> 'interrupt'

-- all_tired_items: the same of everybody, a portion
SELECT i.id, i.public_id, i.agent_id, a.space_id, m.channel_id FROM inbox i JOIN agents a ON a.id = i.agent_id
LEFT JOIN messages m ON m.id = i.message_id
WHERE i.done_at IS NULL AND i.lease_until IS NOT NULL AND i.lease_until <= :now AND i.deliveries >= :most
AND i.kind <> 'interrupt' LIMIT :limit

-- end_item: other than by an acknowledgement
UPDATE inbox SET done_at = :now, outcome = :outcome, reason = :reason, lease_until = NULL
WHERE id = :id AND done_at IS NULL

-- expired_items: what had its time and is held by nobody, a portion
SELECT i.id, i.public_id, i.agent_id, a.space_id, m.channel_id FROM inbox i JOIN agents a ON a.id = i.agent_id
LEFT JOIN messages m ON m.id = i.message_id
WHERE i.done_at IS NULL AND i.expires_at IS NOT NULL AND i.expires_at <= :now
AND (i.lease_until IS NULL OR i.lease_until <= :now) ORDER BY i.expires_at LIMIT :limit

-- dead_items: an agent's dead letters, the last ones first
SELECT i.id, i.public_id, i.kind, i.urgent, i.deliveries, i.expires_at, i.scope, NULL AS lease_until, i.done_at, i.reason,
    m.public_id AS message_id, m.content, m.metadata, m.created_at, m.vanishes_at, c.name AS channel, a.name AS author
FROM inbox i JOIN messages m ON m.id = i.message_id JOIN channels c ON c.id = m.channel_id
JOIN agents a ON a.id = m.author_id
WHERE i.agent_id = :agent_id AND i.outcome = 'dead' ORDER BY i.done_at DESC, i.id DESC LIMIT :limit

-- requeue_item: a dead letter waits again, as if it were new; for as long as its sender said, unless that is over
UPDATE inbox SET done_at = NULL, outcome = NULL, reason = NULL, deliveries = 0, claim_id = NULL, session = NULL, lease_until = NULL,
    expires_at = CASE WHEN expires_at > :now THEN expires_at END
WHERE public_id = :public_id AND agent_id = :agent_id AND outcome = 'dead'

-- receipts_of: what became of a message for each who was notified
SELECT a.name, i.kind, i.deliveries, i.created_at, i.claimed_at, i.done_at, i.outcome, i.reason, i.claim_id,
    i.lease_until, i.expires_at, i.scope
FROM inbox i JOIN agents a ON a.id = i.agent_id WHERE i.message_id = :message_id AND i.kind <> 'returned'
ORDER BY i.id LIMIT :limit

-- count_waiting: how much waits for an agent in its lanes, of about a hundred
SELECT count(CASE WHEN urgent > 0 THEN 1 END) AS urgent, count(CASE WHEN kind = 'direct' THEN 1 END) AS direct,
    count(CASE WHEN kind = 'mention' THEN 1 END) AS mentions, count(CASE WHEN kind = 'group' THEN 1 END) AS groups,
    count(CASE WHEN kind = 'task' THEN 1 END) AS tasks, count(CASE WHEN kind = 'interrupt' THEN 1 END) AS interrupts,
    count(CASE WHEN kind = 'approval' THEN 1 END) AS approvals,
    count(CASE WHEN kind = 'returned' THEN 1 END) AS returned, min(created_at) AS oldest
FROM (
    SELECT i.urgent, i.kind, i.created_at FROM TEXTS(:lanes) AS lane JOIN inbox i ON i.id PICKED (
        SELECT x.id FROM inbox x WHERE x.agent_id = :agent_id AND x.done_at IS NULL
        AND x IN LANE
        AND (x.expires_at IS NULL OR x.expires_at > :now) ORDER BY x.urgent, x.scope, x.id LIMIT 100
    ) PICKED
) AS waiting
