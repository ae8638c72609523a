-- insert_group: a name that stands for its members
INSERT INTO agents (public_id, space_id, name, kind, is_group, created_at)
VALUES (:public_id, :space_id, :name, 'agent', 1, :created_at) RETURNING id

-- group_of: by its public id
SELECT name FROM agents WHERE public_id = :public_id AND is_group = 1

-- membership_in: whether an agent is in a group
SELECT joined_at FROM group_members WHERE group_id = :group_id AND agent_id = :agent_id

-- insert_member: it is
INSERT INTO group_members (group_id, agent_id, joined_at) VALUES (:group_id, :agent_id, :joined_at)

-- delete_member: it is not any more
DELETE FROM group_members WHERE group_id = :group_id AND agent_id = :agent_id

-- delete_memberships_in_groups: of an agent that is gone, or a group
DELETE FROM group_members WHERE agent_id = :agent_id OR group_id = :agent_id

-- count_members: how many, whether or not they are here
SELECT count(*) AS members FROM group_members WHERE group_id = :group_id

-- count_shown_members: how many of them are here, as in lists of agents
SELECT count(*) AS members FROM group_members m JOIN agents a ON a.id = m.agent_id
WHERE m.group_id = :group_id AND a.active = 1 AND a.retired_at IS NULL

-- count_groups_of: how many an agent is in
SELECT count(*) AS groups FROM group_members WHERE agent_id = :agent_id

-- groups_of: which an agent is in, with that of everybody in its space
SELECT group_id FROM group_members WHERE agent_id = :agent_id
UNION ALL SELECT id FROM agents WHERE space_id = :space_id AND name = 'all' AND is_group = 1

-- list_groups: of a space, or the one of a name, with how many of their members are here
SELECT g.id, g.name, (
    SELECT count(*) FROM group_members m JOIN agents a ON a.id = m.agent_id
    WHERE m.group_id = g.id AND a.active = 1 AND a.retired_at IS NULL
) AS members, mine.joined_at AS joined
FROM agents g LEFT JOIN group_members mine ON mine.group_id = g.id AND mine.agent_id = :agent_id
WHERE g.space_id = :space_id AND g.is_group = 1 AND g.name <> 'all' AND g.active = 1
AND (:name = '' OR g.name = :name) ORDER BY g.name LIMIT :limit

-- group_names: names to guess a misspelt one from
SELECT name FROM agents
WHERE space_id = :space_id AND is_group = 1 AND name <> 'all' AND active = 1 ORDER BY name LIMIT :limit

-- member_names: of those in a group who are here
SELECT a.name FROM group_members m JOIN agents a ON a.id = m.agent_id
WHERE m.group_id = :group_id AND a.active = 1 AND a.retired_at IS NULL ORDER BY a.name LIMIT :limit

-- members: those but the author who were in a group at a time, by their ids; without whom a call told already, by its
-- first message. Who was retired since gets it as well, and its author learns of that. That each is looked up alone is
-- said so that Postgres does not compare everybody with all who were told
SELECT m.agent_id FROM group_members m JOIN agents a ON a.id = m.agent_id
WHERE m.group_id = :group_id AND m.agent_id > :after AND m.joined_at <= :until AND a.active = 1
AND (a.retired_at IS NULL OR a.retired_at > :until) AND m.agent_id <> :author_id
AND (
    SELECT count(*) FROM messages o CROSS JOIN inbox i
    WHERE (o.id = :first_id OR o.sent_with = :first_id) AND i.message_id = o.id AND i.agent_id = m.agent_id
) < 1 ORDER BY m.agent_id LIMIT :limit

-- everybody: the same of a whole space
SELECT a.id AS agent_id FROM agents a
WHERE a.space_id = :space_id AND a.id > :after AND a.created_at <= :until AND a.active = 1
AND (a.retired_at IS NULL OR a.retired_at > :until) AND a.is_group = 0 AND a.id <> :author_id
AND (
    SELECT count(*) FROM messages o CROSS JOIN inbox i
    WHERE (o.id = :first_id OR o.sent_with = :first_id) AND i.message_id = o.id AND i.agent_id = a.id
) < 1 ORDER BY a.id LIMIT :limit

-- insert_fan_out: a large group is to be told
INSERT INTO fan_outs (message_id, after_id, urgent, expires_at, scope)
VALUES (:message_id, :after_id, :urgent, :expires_at, :scope)

-- next_fan_out: the oldest that is not done
SELECT f.message_id, f.after_id, f.urgent, f.expires_at, f.scope, m.created_at, m.channel_id, m.author_id,
    w.kind AS author_kind, m.vanishes_at, m.recipient_id AS group_id, g.space_id, g.name,
    coalesce(m.sent_with, m.id) AS first_id
FROM fan_outs f JOIN messages m ON m.id = f.message_id JOIN agents w ON w.id = m.author_id
JOIN agents g ON g.id = m.recipient_id
ORDER BY f.message_id LIMIT 1

-- fan_out_to: one that is not done of a certain group
SELECT f.message_id FROM fan_outs f JOIN messages m ON m.id = f.message_id WHERE m.recipient_id = :group_id LIMIT 1

-- untold: what is still to be told to an agent, the oldest first. It begins with what is not done of everybody's, which
-- is little, and looks each up
SELECT f.message_id, f.urgent, f.expires_at, f.scope, m.created_at, m.channel_id, m.author_id, m.vanishes_at,
    w.kind AS author_kind, g.space_id, coalesce(m.sent_with, m.id) AS first_id
FROM fan_outs f CROSS JOIN messages m CROSS JOIN agents w CROSS JOIN agents g
WHERE f.after_id < :agent_id AND m.id = f.message_id AND m.author_id <> :agent_id AND w.id = m.author_id
AND g.id = m.recipient_id
AND (
    EXISTS (
        SELECT 1 FROM group_members x
        WHERE x.group_id = g.id AND x.agent_id = :agent_id AND x.joined_at <= m.created_at
    ) OR (
        g.name = 'all' AND EXISTS (
            SELECT 1 FROM agents x WHERE x.id = :agent_id AND x.space_id = g.space_id AND x.created_at <= m.created_at
        )
    )
) AND NOT EXISTS (
    SELECT 1 FROM messages o CROSS JOIN inbox i
    WHERE (o.id = coalesce(m.sent_with, m.id) OR o.sent_with = coalesce(m.sent_with, m.id))
    AND i.message_id = o.id AND i.agent_id = :agent_id
) ORDER BY f.message_id

-- fan_out_of: whether a message's group is still being told
SELECT message_id FROM fan_outs WHERE message_id = :message_id

-- move_fan_out: members up to this one were told
UPDATE fan_outs SET after_id = :after_id WHERE message_id = :message_id

-- delete_fan_out: everybody was
DELETE FROM fan_outs WHERE message_id = :message_id
