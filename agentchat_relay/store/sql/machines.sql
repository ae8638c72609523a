-- machine_by_name: one machine of the relay
SELECT m.id, m.name, m.space_id, s.name AS space, m.public_key, m.active
FROM machines m JOIN spaces s ON s.id = m.space_id WHERE m.name = :name

-- insert_machine: a new one
INSERT INTO machines (name, space_id, public_key, created_at) VALUES (:name, :space_id, :public_key, :created_at)

-- update_machine: another key; it is active again
UPDATE machines SET public_key = :public_key, active = 1 WHERE id = :id

-- revoke_machine: it registers nobody any more
UPDATE machines SET active = 0 WHERE id = :id

-- revoke_agents_of_machine: and its agents' keys stop working
UPDATE agents SET active = 0 WHERE machine_id = :machine_id AND active = 1

-- list_machines: for an operator
SELECT m.name, s.name AS space, m.active, m.public_key, m.created_at,
    (SELECT count(*) FROM agents a WHERE a.machine_id = m.id AND a.active = 1) AS agents
FROM machines m JOIN spaces s ON s.id = m.space_id ORDER BY m.name

-- nonce_used: whether it was seen before
SELECT used_at FROM nonces WHERE nonce = :nonce

-- insert_nonce: seen now
INSERT INTO nonces (nonce, used_at) VALUES (:nonce, :used_at)

-- nonce_verified: it came from this machine
UPDATE nonces SET machine_id = :machine_id WHERE nonce = :nonce

-- registrations_since: the machine's verified registrations, oldest first
SELECT used_at FROM nonces WHERE used_at > :since AND used_at <= :now AND machine_id = :machine_id ORDER BY used_at

-- sweep_nonces: too old to be accepted again
DELETE FROM nonces WHERE used_at < :before
