-- count_pending: what an agent sent to another by itself and is still pending by the clock, up to a number
SELECT count(*) AS things FROM (
    SELECT 1 FROM work WHERE target_id = :target_id AND kind = :kind AND state = :state AND creator_id = :creator_id
    AND deadline_at > :now AND details NOT LIKE '%"pause":"%' LIMIT :limit
) AS these

-- interrupts_for: those for an agent in some states, newest first. Overdue is what the relay has not yet made expired
SELECT w.id, w.public_id FROM TEXTS(:states) AS wanted JOIN work w ON w.id PICKED (
    SELECT x.id FROM work x
    WHERE x.target_id = :target_id AND x.kind = :kind AND x.id < :before
    AND x.state = CASE WHEN wanted.value = 'overdue' THEN 'pending' ELSE wanted.value END
    AND (x.ended_at IS NOT NULL OR (x.deadline_at <= :now) = (wanted.value = 'overdue')) ORDER BY x.id DESC LIMIT :limit
) PICKED ORDER BY w.id DESC LIMIT :limit

-- interrupts_by: those that an agent sent by itself in some states, newest first
SELECT w.id, w.public_id FROM work w WHERE w.creator_id = :creator_id AND w.kind = :kind AND w.id < :before
AND EXISTS (
    SELECT 1 FROM TEXTS(:states) AS wanted
    WHERE wanted.value = CASE WHEN w.ended_at IS NULL AND w.deadline_at <= :now THEN 'overdue' ELSE w.state END
)
AND w.details NOT LIKE '%"pause":"%' ORDER BY w.id DESC LIMIT :limit

-- interrupts_of_pause: those of a pause in some states, newest first
SELECT w.id, w.public_id FROM work_parts p JOIN work w ON w.id = p.work_id
WHERE p.parent_id = :parent_id AND w.kind = :kind AND w.id < :before
AND EXISTS (
    SELECT 1 FROM TEXTS(:states) AS wanted
    WHERE wanted.value = CASE WHEN w.ended_at IS NULL AND w.deadline_at <= :now THEN 'overdue' ELSE w.state END
)
ORDER BY w.id DESC LIMIT :limit

-- item_seen: when an item of a message was last given out
SELECT claimed_at FROM inbox WHERE message_id = :message_id AND agent_id = :agent_id

-- pauses: those of a space that are on, newest first
SELECT id, public_id FROM work
WHERE space_id = :space_id AND kind = 'pause' AND state = 'paused' AND deadline_at > :now ORDER BY id DESC LIMIT :limit

-- pauses_of: the same, in what an agent is in
SELECT w.id, w.public_id FROM work w LEFT JOIN agents g ON g.id = w.target_id
WHERE w.space_id = :space_id AND w.kind = 'pause' AND w.state = 'paused' AND w.deadline_at > :now
AND w.creator_id <> :agent_id AND (
    g.name = 'all'
    OR EXISTS (SELECT 1 FROM memberships m WHERE m.agent_id = :agent_id AND m.channel_id = w.channel_id)
    OR EXISTS (SELECT 1 FROM group_members m WHERE m.agent_id = :agent_id AND m.group_id = w.target_id)
) ORDER BY w.id DESC LIMIT :limit

-- insert_part: an interrupt of a pause
INSERT INTO work_parts (parent_id, work_id) VALUES (:parent_id, :work_id)

-- parts_of: the next of them
SELECT w.id, w.public_id FROM work_parts p JOIN work w ON w.id = p.work_id
WHERE p.parent_id = :parent_id AND p.work_id > :after ORDER BY p.work_id LIMIT :limit

-- count_parts: how many it reached, and how many of them are in a state
SELECT count(*) AS told, count(CASE WHEN w.state = :state THEN 1 END) AS acknowledged
FROM work_parts p JOIN work w ON w.id = p.work_id WHERE p.parent_id = :parent_id

-- delete_parts: of one that is deleted, whichever side it is on
DELETE FROM work_parts WHERE parent_id = :id OR work_id = :id

-- set_spread: the relay is to tell those after this one
INSERT INTO spreads (work_id, after_id) VALUES (:work_id, :after_id)
ON CONFLICT (work_id) DO UPDATE SET after_id = excluded.after_id

-- spread_of: how far it is
SELECT after_id FROM spreads WHERE work_id = :work_id

-- next_spread: the first that is not done
SELECT s.after_id, w.public_id, w.space_id FROM spreads s JOIN work w ON w.id = s.work_id ORDER BY s.work_id LIMIT 1

-- delete_spread: it is done
DELETE FROM spreads WHERE work_id = :work_id

-- agents_in_channel: agents that joined it, without persons and who asked, by their ids
SELECT a.id, a.name FROM memberships m JOIN agents a ON a.id = m.agent_id
WHERE m.channel_id = :channel_id AND a.id > :after AND a.space_id = :space_id AND a.kind = 'agent' AND a.active = 1
AND a.retired_at IS NULL AND a.is_group = 0 AND a.id <> :creator_id ORDER BY a.id LIMIT :limit

-- agents_in_group: the same of a group
SELECT a.id, a.name FROM group_members m JOIN agents a ON a.id = m.agent_id
WHERE m.group_id = :group_id AND a.id > :after AND a.space_id = :space_id AND a.kind = 'agent' AND a.active = 1
AND a.retired_at IS NULL AND a.is_group = 0 AND a.id <> :creator_id ORDER BY a.id LIMIT :limit

-- agents_in_space: the same of everybody
SELECT a.id, a.name FROM agents a
WHERE a.space_id = :space_id AND a.id > :after AND a.kind = 'agent' AND a.active = 1
AND a.retired_at IS NULL AND a.is_group = 0 AND a.id <> :creator_id ORDER BY a.id LIMIT :limit
