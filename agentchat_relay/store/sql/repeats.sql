-- repeat: what an agent did before under this key
SELECT 'message' AS kind, id, digest, NULL AS answer FROM messages WHERE key = :key AND author_id = :agent_id
UNION ALL SELECT 'file', id, digest, NULL FROM files WHERE key = :key AND author_id = :agent_id
UNION ALL SELECT 'work', id, digest, NULL FROM work WHERE key = :key AND creator_id = :agent_id
UNION ALL SELECT 'answer', id, digest, answer FROM answers WHERE key = :key AND agent_id = :agent_id

-- insert_answer: to be given again
INSERT INTO answers (agent_id, key, digest, answer, created_at)
VALUES (:agent_id, :key, :digest, :answer, :created_at)

-- bound_answers: an agent's newest only
DELETE FROM answers WHERE agent_id = :agent_id AND id <= (
    SELECT id FROM answers WHERE agent_id = :agent_id ORDER BY id DESC LIMIT 1 OFFSET :keep
)

-- sweep_answers: a portion of what is too old
DELETE FROM answers WHERE id IN (
    SELECT id FROM (SELECT id, created_at FROM answers ORDER BY id LIMIT :limit) AS oldest WHERE created_at < :before
)
