-- newest_message: the highest id that a message ever had; one is never given twice, though its message may be gone
SELECT greatest(
    coalesce((SELECT max(id) FROM messages), 0), (SELECT value FROM marks WHERE name = 'purged_message')
) AS id

-- look_around: epoch and time; if another process had the last turn, newest message, some spaces, some channels, as JSON
SELECT epoch, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now,
    CASE WHEN last_value <> :me THEN json_build_array(
        greatest(
            coalesce((SELECT max(id) FROM messages), 0), (SELECT value FROM marks WHERE name = 'purged_message')
        ),
        (
            SELECT coalesce(json_agg(json_build_array(id, position)), '[]')
            FROM spaces WHERE id = ANY(CAST(:spaces AS BIGINT[]))
        ),
        (
            SELECT coalesce(json_agg(json_build_array(id, number, chats, last_at, latest_id)), '[]')
            FROM channels WHERE id = ANY(CAST(:channels AS BIGINT[]))
        )
    ) END AS standing
FROM turn_writer, epochs

-- repeats: what agents did before under these keys
SELECT r.key, r.agent_id, m.id, m.digest, NULL AS answer
FROM json_to_recordset(CAST(:keys AS JSON)) AS r(key TEXT, agent_id BIGINT)
JOIN messages m ON m.key = r.key AND m.author_id = r.agent_id
UNION ALL SELECT r.key, r.agent_id, f.id, f.digest, NULL
FROM json_to_recordset(CAST(:keys AS JSON)) AS r(key TEXT, agent_id BIGINT)
JOIN files f ON f.key = r.key AND f.author_id = r.agent_id
UNION ALL SELECT r.key, r.agent_id, w.id, w.digest, NULL
FROM json_to_recordset(CAST(:keys AS JSON)) AS r(key TEXT, agent_id BIGINT)
JOIN work w ON w.key = r.key AND w.creator_id = r.agent_id
UNION ALL SELECT r.key, r.agent_id, a.id, a.digest, a.answer
FROM json_to_recordset(CAST(:keys AS JSON)) AS r(key TEXT, agent_id BIGINT)
JOIN answers a ON a.key = r.key AND a.agent_id = r.agent_id

-- append: everything that a group of calls has buffered, a JSON list for each statement
WITH messages_ AS (
    INSERT INTO messages (
        id, public_id, channel_id, number, chats, created_at, author_id, recipient_id, kind, content, metadata,
        parent_id, root_id, depth, sent_with, vanishes_at, unmatched, key, digest
    )
    SELECT id, public_id, channel_id, number, chats, created_at, author_id, recipient_id, kind, content, metadata,
        parent_id, root_id, depth, sent_with, vanishes_at, unmatched, key, decode(digest, 'base64')
    FROM json_to_recordset(CAST(:insert_message AS JSON)) AS r(
        id BIGINT, public_id TEXT, channel_id BIGINT, number BIGINT, chats BIGINT, created_at BIGINT, author_id BIGINT,
        recipient_id BIGINT, kind TEXT, content TEXT, metadata TEXT, parent_id BIGINT, root_id BIGINT, depth BIGINT,
        sent_with BIGINT, vanishes_at BIGINT, unmatched TEXT, key TEXT, digest TEXT
    )
), inbox_ AS (
    INSERT INTO inbox (public_id, agent_id, kind, message_id, created_at, urgent, expires_at, scope, vanishing)
    SELECT public_id, agent_id, kind, message_id, created_at, urgent, expires_at, scope, vanishing
    FROM json_to_recordset(CAST(:insert_item AS JSON)) AS r(
        public_id TEXT, agent_id BIGINT, kind TEXT, message_id BIGINT, created_at BIGINT, urgent BIGINT,
        expires_at BIGINT, scope TEXT, vanishing BIGINT
    )
), events_ AS (
    INSERT INTO events (space_id, position, kind, actor_id, subject, channel_id, audience_id, created_at, hash)
    SELECT space_id, position, kind, actor_id, subject, channel_id, audience_id, created_at, decode(hash, 'base64')
    FROM json_to_recordset(CAST(:insert_event AS JSON)) AS r(
        space_id BIGINT, position BIGINT, kind TEXT, actor_id BIGINT, subject TEXT, channel_id BIGINT,
        audience_id BIGINT, created_at BIGINT, hash TEXT
    )
), log_ AS (
    INSERT INTO work_log (space_id, work_id, version, action, actor_id, before, after, fence, note, at)
    SELECT space_id, work_id, version, action, actor_id, before, after, fence, note, at
    FROM json_to_recordset(CAST(:insert_work_log AS JSON)) AS r(
        space_id BIGINT, work_id BIGINT, version BIGINT, action TEXT, actor_id BIGINT, before TEXT, after TEXT,
        fence BIGINT, note TEXT, at BIGINT
    )
), answers_ AS (
    INSERT INTO answers (agent_id, key, digest, answer, created_at)
    SELECT agent_id, key, decode(digest, 'base64'), answer, created_at
    FROM json_to_recordset(CAST(:insert_answer AS JSON)) AS r(
        agent_id BIGINT, key TEXT, digest TEXT, answer TEXT, created_at BIGINT
    )
), own_ AS (
    UPDATE memberships SET own_above = own_above + own.posts
    FROM (
        SELECT agent_id, channel_id, count(*) AS posts
        FROM json_to_recordset(CAST(:count_own AS JSON)) AS r(agent_id BIGINT, channel_id BIGINT)
        GROUP BY agent_id, channel_id
    ) AS own
    WHERE memberships.agent_id = own.agent_id AND memberships.channel_id = own.channel_id
), turns_ AS (
    INSERT INTO turns (low_id, high_id, author_id, turns, at)
    SELECT DISTINCT ON (low_id, high_id) low_id, high_id, author_id, turns, at
    FROM (
        SELECT row_number() OVER () AS number, r.* FROM json_to_recordset(CAST(:set_turn AS JSON)) AS r(
            low_id BIGINT, high_id BIGINT, author_id BIGINT, turns BIGINT, at BIGINT
        )
    ) AS words ORDER BY low_id, high_id, number DESC
    ON CONFLICT (low_id, high_id)
    DO UPDATE SET author_id = excluded.author_id, turns = excluded.turns, at = excluded.at
), agents_ AS (
    UPDATE agents SET last_seen_at = seen.now
    FROM json_to_recordset(CAST(:see_agent AS JSON)) AS seen(now BIGINT, id BIGINT) WHERE agents.id = seen.id
), channels_ AS (
    UPDATE channels SET number = moved.number, chats = moved.chats, last_at = moved.last_at, latest_id = moved.latest_id
    FROM json_to_recordset(CAST(:move_channel AS JSON)) AS moved(
        id BIGINT, number BIGINT, chats BIGINT, last_at BIGINT, latest_id BIGINT
    )
    WHERE channels.id = moved.id
)
UPDATE spaces SET position = moved.position
FROM json_to_recordset(CAST(:move_space AS JSON)) AS moved(position BIGINT, id BIGINT) WHERE spaces.id = moved.id
