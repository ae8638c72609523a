-- next_fence: a space's, one higher
INSERT INTO fences (space_id, fence) VALUES (:space_id, 1)
ON CONFLICT (space_id) DO UPDATE SET fence = fences.fence + 1

-- fence: the highest of a space
SELECT fence FROM fences WHERE space_id = :space_id

-- insert_names: what a lock is on; of each the first letter says whether it is a prefix
INSERT INTO work_names (space_id, is_shared, name, is_prefix, work_id)
SELECT :space_id, :is_shared, substr(each.value, 2), CAST(substr(each.value, 1, 1) AS BIGINT), :work_id
FROM TEXTS(:names) AS each

-- delete_names: nobody holds or waits for it any more
DELETE FROM work_names WHERE work_id = :work_id

-- overlapping: who holds or waits for something that overlaps, first come first; mode 0: only what is exclusive; '', 0: any
SELECT w.id AS id, w.public_id, w.state, w.creator_id, w.session, w.lease_until, w.deadline_at, w.details
FROM TEXTS(:leading) AS each JOIN work w ON w.id PICKED (
    SELECT n.work_id FROM work_names n WHERE n.space_id = :space_id AND n.is_shared IN (0, :mode)
    AND n.name = substr(each.value, 2) AND n.is_prefix = CAST(substr(each.value, 1, 1) AS BIGINT)
) PICKED WHERE w.id > :after AND w.id < :before AND :state IN ('', w.state) AND :agent_id IN (0, w.creator_id)
UNION SELECT w.id AS id, w.public_id, w.state, w.creator_id, w.session, w.lease_until, w.deadline_at, w.details
FROM TEXTS(:below) AS each JOIN work w ON w.id PICKED (
    SELECT n.work_id FROM work_names n WHERE n.space_id = :space_id AND n.is_shared IN (0, :mode)
    AND n.name >= each.value
    AND n.name < CASE each.value WHEN '' THEN :last ELSE substr(each.value, 1, length(each.value) - 1) || '0' END
) PICKED WHERE w.id > :after AND w.id < :before AND :state IN ('', w.state) AND :agent_id IN (0, w.creator_id)
ORDER BY id LIMIT :limit

-- end_waits: of those of a space who may not call any more, so that they are granted nothing
UPDATE work SET deadline_at = :now WHERE space_id = :space_id AND kind = 'lock' AND state = 'waiting'
AND deadline_at > :now AND EXISTS (SELECT 1 FROM agents a WHERE a.id = work.creator_id AND a.active = 0)

-- live_of: how much an agent has or wants, and how much of that it waits for
SELECT count(*) AS live, count(CASE WHEN state = :waiting THEN 1 END) AS waiting FROM work
WHERE creator_id = :agent_id AND kind = :kind AND ended_at IS NULL

-- list_live: what is held or waited for in a space, first come first
SELECT w.id, w.public_id FROM TEXTS(:states) AS wanted JOIN work w ON w.id PICKED (
    SELECT x.id FROM work x WHERE x.space_id = :space_id AND x.kind = :kind AND x.state = wanted.value
    AND x.id > :after AND (x.lease_until > :now OR x.deadline_at > :now) ORDER BY x.id LIMIT :limit
) PICKED ORDER BY w.id LIMIT :limit

-- list_live_of: the same of one agent
SELECT id, public_id FROM work WHERE creator_id = :agent_id AND kind = :kind AND ended_at IS NULL
AND id > :after AND (lease_until > :now OR deadline_at > :now) ORDER BY id LIMIT :limit
