-- space_by_name: one
SELECT id, name FROM spaces WHERE name = :name

-- space_name: one
SELECT name FROM spaces WHERE id = :id

-- list_spaces: all, with what is in them
SELECT s.name, s.created_at, s.retention,
    (SELECT count(*) FROM agents a WHERE a.space_id = s.id AND a.active = 1 AND a.is_group = 0) AS agents,
    (SELECT count(*) FROM channels c WHERE c.space_id = s.id) AS channels
FROM spaces s ORDER BY s.name

-- keep_space: how many days it keeps what it holds
UPDATE spaces SET retention = :retention WHERE id = :id

-- insert_space: a new one
INSERT INTO spaces (name, created_at) VALUES (:name, :created_at) RETURNING id

-- space_position: of its newest event
SELECT position FROM spaces WHERE id = :id

-- move_space: of its newest event
UPDATE spaces SET position = :position WHERE id = :id

-- insert_event: one committed change
INSERT INTO events (space_id, position, kind, actor_id, subject, channel_id, audience_id, created_at, hash)
VALUES (:space_id, :position, :kind, :actor_id, :subject, :channel_id, :audience_id, :created_at, :hash)

-- sweep_events: a portion of what is too old
DELETE FROM events WHERE space_id = :space_id AND position <= (
    SELECT coalesce(max(position), 0) FROM (
        SELECT position, created_at FROM events WHERE space_id = :space_id ORDER BY position LIMIT :limit
    ) AS oldest WHERE created_at < :before
)

-- space_ids: all
SELECT id FROM spaces ORDER BY id
