-- agent_by_key: who holds a key, if it is in use
SELECT id, public_id, name, space_id, kind, last_seen_at FROM agents WHERE key_hash = :key_hash AND active = 1

-- holder_of_key: who has or had it
SELECT id FROM agents WHERE key_hash = :key_hash

-- agent_by_name: one agent of a space
SELECT id, public_id, name, space_id, machine_id, kind, roles, key_hash, active, card, is_group, retired_at,
    last_seen_at
FROM agents WHERE space_id = :space_id AND name = :name

-- agent_names: names to guess a misspelt one from
SELECT name FROM agents WHERE space_id = :space_id AND active = 1 ORDER BY last_seen_at DESC LIMIT 500

-- insert_agent: a new one
INSERT INTO agents (public_id, space_id, name, machine_id, kind, key_hash, created_at)
VALUES (:public_id, :space_id, :name, :machine_id, :kind, :key_hash, :created_at) RETURNING id

-- set_key: whoever had the old key is out
UPDATE agents SET key_hash = :key_hash, machine_id = :machine_id, active = 1 WHERE id = :id

-- set_card: the whole card
UPDATE agents SET card = :card, card_role = :card_role, tags = :tags WHERE id = :id

-- find_agents: the active ones of a space, the last seen first; those that were retired only if they are asked for
SELECT a.name, a.last_seen_at, a.retired_at, a.card, m.name AS machine, a.kind
FROM agents a LEFT JOIN machines m ON m.id = a.machine_id
WHERE a.space_id = :space_id AND a.active = 1 AND a.is_group = 0 AND (a.retired_at IS NULL OR :with_retired = 1)
AND a.tags LIKE :tags AND coalesce(a.card_role, '') LIKE :role ESCAPE '\'
AND a.name LIKE :name ESCAPE '\' AND coalesce(a.last_seen_at, 0) BETWEEN :since AND :until
AND (coalesce(a.last_seen_at, 0) BETWEEN :seen_after AND :seen_before) = (:is_between = 1)
ORDER BY a.last_seen_at IS NULL, a.last_seen_at DESC, a.name LIMIT :limit

-- agents_of_machine: how many active ones
SELECT count(*) AS agents FROM agents WHERE machine_id = :machine_id AND active = 1

-- list_agents: for an operator
SELECT a.name, s.name AS space, m.name AS machine, a.kind, a.roles, a.active, a.key_hash IS NOT NULL AS has_key,
    a.created_at, a.last_seen_at, a.retired_at
FROM agents a JOIN spaces s ON s.id = a.space_id LEFT JOIN machines m ON m.id = a.machine_id
WHERE s.name LIKE :space AND a.is_group = 0 AND a.name NOT LIKE :grave ORDER BY s.name, a.name

-- set_roles: of agent or person
UPDATE agents SET roles = :roles WHERE id = :id

-- update_agent: what an operator may change
UPDATE agents SET kind = :kind, active = :active WHERE id = :id

-- bury_agent: its name is free again, its messages keep an author, and it is retired for good
UPDATE agents SET name = :name, active = 0, key_hash = NULL, machine_id = NULL, card = NULL, card_role = NULL,
    tags = '', roles = '', retired_at = :now WHERE id = :id

-- delete_memberships: of an agent that is gone
DELETE FROM memberships WHERE agent_id = :agent_id

-- delete_answers: of an agent that is gone
DELETE FROM answers WHERE agent_id = :agent_id

-- tags_of: what an agent says that it can do
SELECT tags FROM agents WHERE id = :id
