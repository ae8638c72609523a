-- count_pending_of: what an agent asked for and nobody decided, up to a number
SELECT count(*) AS things FROM (
    SELECT 1 FROM work WHERE creator_id = :creator_id AND kind = :kind AND ended_at IS NULL LIMIT :limit
) AS these

-- roles_of: an agent's, and what it is
SELECT roles, kind FROM agents WHERE id = :id

-- reviewers: who may decide what somebody else asked for; who was seen last comes first
SELECT id, name FROM agents WHERE space_id = :space_id AND active = 1 AND retired_at IS NULL AND is_group = 0
AND ' ' || roles || ' ' LIKE '% reviewer %' AND id <> :creator_id ORDER BY coalesce(last_seen_at, 0) DESC, id LIMIT :limit

-- approvals_in: those of others in a space in some states, newest first; of those nobody decided the ones in time, or the late ones
SELECT w.id, w.public_id FROM TEXTS(:states) AS wanted JOIN work w ON w.id PICKED (
    SELECT x.id FROM work x
    WHERE x.space_id = :space_id AND x.kind = :kind AND x.state = wanted.value AND x.id < :before
    AND x.creator_id <> :agent_id AND (x.ended_at IS NOT NULL OR (x.deadline_at <= :now) = (:late = 1)) ORDER BY x.id DESC LIMIT :limit
) PICKED ORDER BY w.id DESC LIMIT :limit

-- approvals_by: an agent's own in some states by the clock, newest first
SELECT w.id, w.public_id FROM work w WHERE w.creator_id = :agent_id AND w.kind = :kind AND w.id < :before
AND EXISTS (
    SELECT 1 FROM TEXTS(:states) AS wanted
    WHERE wanted.value = CASE WHEN w.ended_at IS NULL AND w.deadline_at <= :now THEN 'expired' ELSE w.state END
) ORDER BY w.id DESC LIMIT :limit

-- notices_about: items of one kind that still wait, of a message or of an answer to it; agent_id 0: anybody's. What
-- is appended keeps SQLite from asking with each call anew whether one of the indexes of single kinds is meant
SELECT i.id, i.public_id, i.agent_id FROM (
    SELECT id FROM messages WHERE id = :message_id UNION ALL SELECT id FROM messages WHERE root_id = :message_id
) AS m JOIN inbox i ON i.message_id = m.id
WHERE i.kind || '' = :kind AND i.done_at IS NULL AND :agent_id IN (0, i.agent_id)
