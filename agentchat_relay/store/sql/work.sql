-- insert_work: something to be done, of any kind
INSERT INTO work (
    public_id, space_id, kind, state, creator_id, target_id, channel_id, message_id, message, offer_id, title, body,
    tags, details, urgent, scope, created_at, deadline_at, key, digest, fence, owner_id, session, claimed_at, lease_until
) VALUES (
    :public_id, :space_id, :kind, :state, :creator_id, :target_id, :channel_id, :message_id, :message, :offer_id, :title,
    :body, :tags, :details, :urgent, :scope, :created_at, :deadline_at, :key, :digest, :fence, :owner_id, :session,
    :claimed_at, :lease_until
) RETURNING id

-- insert_work_context: what comes with it
INSERT INTO work_contexts (work_id, content) VALUES (:work_id, :content)

-- count_open_work: what an agent created and has not ended, up to a number
SELECT count(*) AS things FROM (
    SELECT 1 FROM work WHERE creator_id = :creator_id AND kind = :kind AND ended_at IS NULL LIMIT :limit
) AS these

-- work_offered: by this message
UPDATE work SET offer_id = :offer_id WHERE id = :id

-- work_announced: by another message
UPDATE work SET message_id = :message_id, message = :message, offer_id = :offer_id WHERE id = :id

-- work_by_id: one of a kind, by its public id
SELECT w.id, w.public_id, w.space_id, w.kind, w.state, w.version, w.fence, w.creator_id, w.target_id, w.owner_id,
    w.session, w.message_id, w.message, w.offer_id, w.result_message, w.title, w.body, w.tags, w.details, w.urgent, w.scope, w.result, w.reason, w.created_at,
    w.deadline_at, w.claimed_at, w.lease_until, w.ended_at, w.channel_id, c.public_id AS channel, c.name AS channel_name,
    a.public_id AS creator, a.name AS creator_name, o.public_id AS owner, o.name AS owner_name, t.name AS target_name,
    coalesce(length(x.content), 0) AS context_size
FROM work w JOIN agents a ON a.id = w.creator_id LEFT JOIN agents o ON o.id = w.owner_id
LEFT JOIN agents t ON t.id = w.target_id LEFT JOIN channels c ON c.id = w.channel_id
LEFT JOIN work_contexts x ON x.work_id = w.id
WHERE w.public_id = :public_id AND w.space_id = :space_id AND w.kind = :kind

-- work_state: as it was written down
SELECT state FROM work WHERE public_id = :public_id

-- work_key: what a repeated call made
SELECT public_id FROM work WHERE id = :id

-- work_context: a piece of what came with it, from a character on
SELECT substr(content, CAST(:begin AS INTEGER), CAST(:size AS INTEGER)) AS content, length(content) AS size FROM work_contexts WHERE work_id = :work_id

-- move_work: a transition, if everything is still as it was and in time
UPDATE work SET state = :after, version = version + 1, fence = :fence, owner_id = :owner_id, session = :session,
    target_id = :target_id, message_id = :message_id, offer_id = :offer_id, result_message = :result_message,
    claimed_at = :claimed_at, deadline_at = :deadline_at, lease_until = :lease_until, ended_at = :ended_at,
    result = :result, reason = :reason
WHERE id = :id AND version = :version AND state = :before AND (deadline_at IS NULL OR deadline_at > :now)
AND (work.lease_until IS NULL OR work.lease_until > :now)

-- end_work_in_time: a transition of the relay's own, because its deadline is over, or its lease
UPDATE work SET state = :after, version = version + 1, owner_id = :owner_id, session = NULL, lease_until = NULL,
    ended_at = :ended_at, reason = NULL
WHERE id = :id AND version = :version AND state = :before
AND (deadline_at <= :now OR work.lease_until <= :now)

-- renew_work: hold on for longer
UPDATE work SET lease_until = :lease_until
WHERE id = :id AND version = :version AND (deadline_at IS NULL OR deadline_at > :now) AND lease_until > :now

-- end_leases: of what an agent has that is gone, so that others can have it
UPDATE work SET lease_until = :now WHERE owner_id = :agent_id AND lease_until > :now

-- insert_work_log: who did what
INSERT INTO work_log (space_id, work_id, version, action, actor_id, before, after, fence, note, at)
VALUES (:space_id, :work_id, :version, :action, :actor_id, :before, :after, :fence, :note, :at)

-- work_logged: one transition
SELECT l.action, l.before, l.after, l.version, l.note, w.kind, w.space_id FROM work_log l JOIN work w ON w.id = l.work_id
WHERE w.public_id = :public_id AND l.version = :version

-- had_work: whether an agent got it once
SELECT max(fence) AS fence FROM work_log WHERE work_id = :work_id AND actor_id = :agent_id AND action = :action

-- work_history: of one, oldest first
SELECT l.version, l.action, a.name AS actor, l.before, l.after, l.fence, l.note, l.at FROM work_log l
LEFT JOIN agents a ON a.id = l.actor_id WHERE l.work_id = :work_id AND l.version > :after ORDER BY l.version LIMIT :limit

-- insert_offer: anybody may take it who can do this
INSERT INTO work_offers (space_id, kind, tag, work_id) VALUES (:space_id, :kind, :tag, :work_id)

-- delete_offers: somebody has it, or it is over
DELETE FROM work_offers WHERE work_id = :work_id

-- offered: what an agent could take by the clock, newest first: of others, for one of these capabilities or for none;
-- and what somebody lost, which the relay has not yet offered again. What is added to columns here and below keeps an
-- engine from the indexes that they are in: what is over is little
SELECT public_id FROM (
    SELECT w.id, w.public_id FROM work w WHERE w.id IN (
        SELECT DISTINCT o.work_id FROM TEXTS(:tags) AS mine JOIN work_offers o ON o.work_id PICKED (
            SELECT x.work_id FROM work_offers x CROSS JOIN work y
            WHERE x.space_id = :space_id AND x.kind = :kind AND x.tag = mine.value AND y.id = x.work_id
            AND (y.deadline_at IS NULL OR y.deadline_at > :now) ORDER BY x.work_id DESC LIMIT :limit
        ) PICKED AND o.tag = mine.value AND o.space_id = :space_id AND o.kind = :kind
    )
    UNION ALL
    SELECT w.id, w.public_id FROM work w
    WHERE w.lease_until <= :now AND w.kind || '' = :kind AND w.space_id + 0 = :space_id AND w.target_id IS NULL
    AND (w.deadline_at IS NULL OR w.deadline_at > :now) AND EXISTS (
        SELECT 1 FROM TEXTS(:tags) AS mine
        WHERE w.tags LIKE CASE WHEN mine.value = '' THEN '' ELSE '%"' || mine.value || '"%' END
    )
) AS open ORDER BY id DESC LIMIT :limit

-- offered_to: what waits for an agent's yes or no by the clock, newest first, and what it took and lost
SELECT public_id FROM (
    SELECT * FROM (
        SELECT id, public_id FROM work WHERE target_id = :agent_id AND kind = :kind AND state = :state
        AND (deadline_at IS NULL OR deadline_at > :now) ORDER BY id DESC LIMIT :limit
    ) AS untaken
    UNION ALL
    SELECT id, public_id FROM work
    WHERE owner_id = :agent_id AND kind = :kind AND lease_until <= :now AND target_id + 0 = :agent_id
    AND (deadline_at IS NULL OR deadline_at > :now)
) AS open ORDER BY id DESC LIMIT :limit

-- held_by: what an agent has, newest first
SELECT public_id FROM work WHERE owner_id = :agent_id AND kind = :kind AND lease_until > :now
AND (deadline_at IS NULL OR deadline_at > :now) ORDER BY id DESC LIMIT :limit

-- ended_for: what an agent asked for and ended by itself after a time by the clock, newest first: done, or not
SELECT public_id FROM (
    SELECT * FROM (
        SELECT public_id, ended_at AS at FROM work WHERE creator_id = :agent_id AND kind = :kind AND ended_at > :since
        AND (state = 'done') = (:is_done = 1) AND state <> 'cancelled' ORDER BY ended_at DESC LIMIT :limit
    ) AS ended
    UNION ALL
    SELECT public_id, deadline_at FROM work
    WHERE creator_id = :agent_id AND kind = :kind AND ended_at IS NULL AND deadline_at > :since AND deadline_at <= :now
    AND :is_done = 0
) AS ended ORDER BY at DESC LIMIT :limit

-- unwanted_of: what an agent offered and was declined, newest first
SELECT public_id FROM work WHERE creator_id = :agent_id AND kind = :kind AND state = 'declined'
AND (deadline_at IS NULL OR deadline_at > :now) ORDER BY id DESC LIMIT :limit

-- list_work: of a space in some states by the clock, newest first; tag '': any. What is over, and not yet made so by the
-- relay, is found by its time: else who asks for what has ended would walk through all that has not
SELECT id, public_id FROM (
    SELECT w.id, w.public_id FROM TEXTS(:states) AS wanted JOIN work w ON w.id PICKED (
        SELECT x.id FROM work x
        WHERE x.space_id = :space_id AND x.kind = :kind AND x.state = wanted.value AND x.id < :before
        AND (x.ended_at IS NOT NULL OR x.deadline_at IS NULL OR x.deadline_at > :now)
        AND (x.lease_until IS NULL OR x.lease_until > :now) AND (:tag = '' OR x.tags LIKE :tag)
        AND (x.channel_id IS NOT NULL OR x.creator_id = :agent_id OR x.target_id = :agent_id OR x.owner_id = :agent_id)
        ORDER BY x.id DESC LIMIT :limit
    ) PICKED
    UNION ALL
    SELECT w.id, w.public_id FROM (
        SELECT id FROM work WHERE deadline_at <= :now AND ended_at IS NULL
        UNION SELECT id FROM work WHERE lease_until <= :now
    ) AS late JOIN work w ON w.id = late.id
    WHERE w.space_id + 0 = :space_id AND w.kind || '' = :kind AND w.id < :before
    AND EXISTS (
        SELECT 1 FROM TEXTS(:states) AS wanted
        WHERE wanted.value = CASE WHEN w.deadline_at <= :now THEN 'expired' ELSE 'open' END
    )
    AND (:tag = '' OR w.tags LIKE :tag)
    AND (w.channel_id IS NOT NULL OR w.creator_id = :agent_id OR w.target_id = :agent_id OR w.owner_id = :agent_id)
) AS found ORDER BY id DESC LIMIT :limit

-- list_work_by: what one agent made, in some states by the clock, newest first; tag '': any
SELECT w.id, w.public_id FROM work w
WHERE w.creator_id = :creator_id AND w.kind = :kind AND w.id < :before
AND EXISTS (
    SELECT 1 FROM TEXTS(:states) AS wanted WHERE wanted.value = CASE
    WHEN w.ended_at IS NULL AND w.deadline_at <= :now THEN 'expired' WHEN w.lease_until <= :now THEN 'open' ELSE w.state END
)
AND (:tag = '' OR w.tags LIKE :tag) AND :in_channel IN (0, w.channel_id)
AND (w.channel_id IS NOT NULL OR w.creator_id = :agent_id OR w.target_id = :agent_id OR w.owner_id = :agent_id)
ORDER BY w.id DESC LIMIT :limit

-- list_work_of: what one agent has or had, in some states by the clock, newest first; tag '': any. Whose lease was over
-- before its deadline has it no more
SELECT w.id, w.public_id FROM work w
WHERE w.owner_id = :owner_id AND w.kind = :kind AND w.id < :before
AND (w.lease_until IS NULL OR w.lease_until > :now OR w.lease_until >= w.deadline_at)
AND EXISTS (
    SELECT 1 FROM TEXTS(:states) AS wanted WHERE wanted.value = CASE
    WHEN w.ended_at IS NULL AND w.deadline_at <= :now THEN 'expired' WHEN w.lease_until <= :now THEN 'open' ELSE w.state END
)
AND (:tag = '' OR w.tags LIKE :tag) AND :in_channel IN (0, w.channel_id)
AND (w.channel_id IS NOT NULL OR w.creator_id = :agent_id OR w.target_id = :agent_id OR w.owner_id = :agent_id)
ORDER BY w.id DESC LIMIT :limit

-- list_work_in: of a channel, in some states by the clock, newest first; tag '': any
SELECT w.id, w.public_id FROM work w
WHERE w.channel_id = :channel_id AND w.kind = :kind AND w.id < :before
AND EXISTS (
    SELECT 1 FROM TEXTS(:states) AS wanted WHERE wanted.value = CASE
    WHEN w.ended_at IS NULL AND w.deadline_at <= :now THEN 'expired' WHEN w.lease_until <= :now THEN 'open' ELSE w.state END
)
AND (:tag = '' OR w.tags LIKE :tag)
AND (w.channel_id IS NOT NULL OR w.creator_id = :agent_id OR w.target_id = :agent_id OR w.owner_id = :agent_id)
ORDER BY w.id DESC LIMIT :limit

-- work_due: a portion of what is over, its deadline or its lease
SELECT public_id, space_id, kind FROM work
WHERE id IN (SELECT id FROM work WHERE deadline_at <= :now AND ended_at IS NULL ORDER BY deadline_at LIMIT :limit)
OR id IN (SELECT id FROM work WHERE lease_until <= :now ORDER BY lease_until LIMIT :limit)

-- next_work_due: when the next one is
SELECT min(at) AS at FROM (
    SELECT min(deadline_at) AS at FROM work WHERE deadline_at IS NOT NULL AND ended_at IS NULL
    UNION ALL SELECT min(lease_until) FROM work WHERE lease_until IS NOT NULL
    UNION ALL SELECT min(0) FROM spreads
) AS times

-- able_agents: who says that it can do one of these, and takes mail; who was seen last comes first
SELECT a.id, a.name FROM agents a
WHERE a.space_id = :space_id AND a.active = 1 AND a.retired_at IS NULL AND a.is_group = 0 AND a.id <> :agent_id
AND EXISTS (SELECT 1 FROM TEXTS(:tags) AS wanted WHERE a.tags LIKE '% ' || wanted.value || ' %')
ORDER BY coalesce(a.last_seen_at, 0) DESC, a.id LIMIT :limit

-- notices_of: items of one message that still wait
SELECT id, public_id, agent_id FROM inbox WHERE message_id = :message_id AND done_at IS NULL

-- mover_of: who took the last step of a thing; NULL is the relay
SELECT actor_id FROM work_log WHERE work_id = :work_id ORDER BY version DESC LIMIT 1

-- caller_by_id: an agent, as a caller
SELECT id, public_id, name, space_id, kind FROM agents WHERE id = :id

-- newest_transitions: of a space, newest first; '' and 0: of any thing, by anybody
SELECT l.id AS number, l.at, w.kind, w.public_id AS id, l.version, l.action, a.name AS actor, l.before, l.after, l.fence,
    l.note
FROM work_log l JOIN work w ON w.id = l.work_id LEFT JOIN agents a ON a.id = l.actor_id
WHERE l.space_id = :space_id AND (:public_id = '' OR w.public_id = :public_id)
AND (:actor_id = 0 OR l.actor_id = :actor_id) ORDER BY l.id DESC LIMIT :limit

-- transitions_after: the same from one on, oldest first
SELECT l.id AS number, l.at, w.kind, w.public_id AS id, l.version, l.action, a.name AS actor, l.before, l.after, l.fence,
    l.note
FROM work_log l JOIN work w ON w.id = l.work_id LEFT JOIN agents a ON a.id = l.actor_id
WHERE l.space_id = :space_id AND (:public_id = '' OR w.public_id = :public_id)
AND (:actor_id = 0 OR l.actor_id = :actor_id) AND l.id > :after ORDER BY l.id LIMIT :limit

-- work_kept_enough: what ended and has been kept as long as its channel keeps things, or its space; a lock briefly. A
-- part is kept while the whole is not done with: its end concerns those who acknowledged theirs
SELECT id FROM (
    SELECT w.id FROM channels c JOIN spaces s ON s.id = c.space_id JOIN work w ON w.space_id = s.id AND w.channel_id = c.id
    WHERE coalesce(c.retention, s.retention) > 0 AND w.ended_at < :now - coalesce(c.retention, s.retention) * :day
    UNION ALL
    SELECT w.id FROM spaces s JOIN work w ON w.space_id = s.id
    WHERE s.retention > 0 AND w.channel_id IS NULL AND w.ended_at < :now - s.retention * :day
    AND NOT EXISTS (
        SELECT 1 FROM work_parts p JOIN work whole ON whole.id = p.parent_id WHERE p.work_id = w.id
        AND (whole.ended_at IS NULL OR EXISTS (SELECT 1 FROM spreads WHERE spreads.work_id = whole.id))
    )
    UNION ALL
    SELECT w.id FROM work w WHERE w.kind = 'lock' AND w.ended_at < :now - :brief * :day
) AS old LIMIT :limit

-- delete_work_context: of one that is over
DELETE FROM work_contexts WHERE work_id = :id

-- delete_work_log: the same
DELETE FROM work_log WHERE work_id = :id

-- delete_work: the same
DELETE FROM work WHERE id = :id
