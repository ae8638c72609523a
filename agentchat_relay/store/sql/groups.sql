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

-- count_members: how many
SELECT count(*) AS members FROM group_members WHERE group_id = :group_id

-- count_groups_of: how many an agent is in
SELECT count(*) AS groups FROM group_members WHERE agent_id = :agent_id

-- groups_of: which an agent is in, with that of everybody in its space
SELECT group_id FROM group_members WHERE agent_id = :agent_id
UNION ALL SELECT id FROM agents WHERE space_id = :space_id AND name = 'all' AND is_group = 1

-- list_groups: of a space, or the one of a name
SELECT g.id, g.name, (SELECT count(*) FROM group_members m WHERE m.group_id = g.id) AS members, mine.joined_at AS joined
FROM agents g LEFT JOIN group_members mine ON mine.group_id = g.id AND mine.agent_id = :agent_id
WHERE g.space_id = :space_id AND g.is_group = 1 AND g.name <> 'all' AND g.active = 1
AND (:name = '' OR g.name = :name) ORDER BY g.name LIMIT :limit

-- member_names: of a group
SELECT a.name FROM group_members m JOIN agents a ON a.id = m.agent_id
WHERE m.group_id = :group_id AND a.active = 1 ORDER BY a.name LIMIT :limit

-- members: those but the author who were in a group at a time, by their ids
SELECT m.agent_id FROM group_members m JOIN agents a ON a.id = m.agent_id
WHERE m.group_id = :group_id AND m.agent_id > :after AND m.joined_at <= :until AND a.active = 1
AND a.retired_at IS NULL AND m.agent_id <> :author_id ORDER BY m.agent_id LIMIT :limit

-- everybody: the same of a whole space
SELECT a.id AS agent_id FROM agents a
WHERE a.space_id = :space_id AND a.id > :after AND a.created_at <= :until AND a.active = 1
AND a.retired_at IS NULL AND a.is_group = 0
AND a.id <> :author_id ORDER BY a.id LIMIT :limit

-- insert_fan_out: a large group is to be told
INSERT INTO fan_outs (message_id, after_id, urgent, expires_at, scope)
VALUES (:message_id, :after_id, :urgent, :expires_at, :scope)

-- next_fan_out: the oldest that is not done
SELECT f.message_id, f.after_id, f.urgent, f.expires_at, f.scope, m.created_at, m.channel_id, m.author_id,
    m.vanishes_at, m.recipient_id AS group_id, g.space_id, g.name, coalesce(m.sent_with, m.id) AS first_id,
    m.sent_with IS NOT NULL OR EXISTS (SELECT 1 FROM messages o WHERE o.sent_with = m.id) AS is_one_of_many
FROM fan_outs f JOIN messages m ON m.id = f.message_id JOIN agents g ON g.id = m.recipient_id
ORDER BY f.message_id LIMIT 1

-- fan_out_of: whether a message's group is still being told
SELECT message_id FROM fan_outs WHERE message_id = :message_id

-- told_with: whether an agent was told of a message of this call already, by its first one
SELECT i.id FROM messages o JOIN inbox i ON i.message_id = o.id AND i.agent_id = :agent_id
WHERE o.id = :id OR o.sent_with = :id LIMIT 1

-- move_fan_out: members up to this one were told
UPDATE fan_outs SET after_id = :after_id WHERE message_id = :message_id

-- delete_fan_out: everybody was
DELETE FROM fan_outs WHERE message_id = :message_id
