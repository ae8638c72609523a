-- stats_relay: what belongs to no space
SELECT (SELECT count(*) FROM spaces) AS spaces, (SELECT count(*) FROM machines WHERE active = 1) AS machines

-- stats_spaces: how much there is in each; messages are counted by the channels' own counters
SELECT s.name,
    (SELECT count(*) FROM agents a WHERE a.space_id = s.id AND a.active = 1 AND a.is_group = 0) AS agents,
    (SELECT count(*) FROM channels c WHERE c.space_id = s.id) AS channels,
    (SELECT CAST(coalesce(sum(c.number - c.purged), 0) AS BIGINT) FROM channels c WHERE c.space_id = s.id) AS messages,
    (SELECT count(*) FROM files f WHERE f.space_id = s.id) AS files,
    (SELECT CAST(coalesce(sum(f.size), 0) AS BIGINT) FROM files f WHERE f.space_id = s.id) AS file_bytes,
    (
        SELECT count(*) FROM agents a JOIN inbox i ON i.agent_id = a.id AND i.done_at IS NULL WHERE a.space_id = s.id
    ) AS open_inbox,
    (SELECT max(c.last_at) FROM channels c WHERE c.space_id = s.id AND c.number > c.purged) AS newest
FROM spaces s ORDER BY s.name

-- stats_oldest: the first message that is left in each space; posts and status posts lie apart in the index
SELECT s.name, min(first.at) AS oldest FROM spaces s JOIN (
    SELECT c.space_id, (
        SELECT m.created_at FROM messages m WHERE m.channel_id = c.id AND (m.kind = 'status') = FALSE
        ORDER BY m.created_at LIMIT 1
    ) AS at FROM channels c
    UNION ALL
    SELECT c.space_id, (
        SELECT m.created_at FROM messages m WHERE m.channel_id = c.id AND (m.kind = 'status') = TRUE
        ORDER BY m.created_at LIMIT 1
    ) AS at FROM channels c
) AS first ON first.space_id = s.id GROUP BY s.name
