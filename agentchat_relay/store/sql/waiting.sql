-- first_reply: to a message, after a time: what names it, or stands in the thread that it begins
SELECT id, public_id FROM messages
WHERE root_id = :root_id AND (root_id = :id OR parent_id = :id) AND author_id <> :agent_id AND kind <> 'status'
AND created_at > :at ORDER BY created_at LIMIT 1

-- first_outcome: of what an agent wants done, since its last offer: that it ended, or was declined
SELECT id, public_id FROM messages WHERE root_id = :id AND created_at > :at
AND id > :offer_id AND (recipient_id IS NULL OR recipient_id = :agent_id) AND kind = 'system'
AND metadata NOT LIKE '%"created"}' AND metadata NOT LIKE '%"offered"}'
AND metadata NOT LIKE '%"returned"}' AND metadata NOT LIKE '%"lapsed"}'
ORDER BY created_at LIMIT 1

-- first_direct: a direct message to an agent, after a time; author 0: of anybody else
SELECT id, public_id FROM messages
WHERE recipient_id = :agent_id AND author_id <> :agent_id AND (:author_id = 0 OR author_id = :author_id)
AND created_at > :at ORDER BY created_at LIMIT 1

-- first_answer: to a message to a group, after a time: what names it, and is in the agent's inbox
SELECT m.id, m.public_id FROM messages m JOIN inbox i ON i.message_id = m.id AND i.agent_id = :agent_id
WHERE m.root_id = :root_id AND (m.root_id = :id OR m.parent_id = :id) AND m.author_id <> :agent_id
AND m.created_at > :at ORDER BY m.created_at LIMIT 1

-- metadata_of: a message's
SELECT metadata FROM messages WHERE id = :id

-- first_in_channel: a chat of somebody else after a message, perhaps of another channel; author 0: of anybody. Ids have
-- one order everywhere, times within a channel only
SELECT id, public_id FROM messages
WHERE channel_id = :channel_id AND (kind = 'status') = FALSE AND created_at > :at AND id > :after_id
AND recipient_id IS NULL AND author_id <> :agent_id AND (:author_id = 0 OR author_id = :author_id)
ORDER BY created_at LIMIT 1

-- first_notice: a message that notified an agent, after a message; author 0: of anybody else
SELECT m.id, m.public_id FROM inbox i JOIN messages m ON m.id = i.message_id
WHERE i.agent_id = :agent_id AND i.message_id > :after_id AND m.channel_id > 0 AND m.author_id <> :agent_id
AND (:author_id = 0 OR m.author_id = :author_id) AND (:channel_id = 0 OR m.channel_id = :channel_id)
AND (i.scope = '' OR EXISTS (SELECT 1 FROM TEXTS(:scopes) AS mine WHERE mine.value = i.scope))
ORDER BY i.message_id LIMIT 1

-- position_of: of a message's event, unless it is long ago
SELECT position FROM events
WHERE space_id = :space_id AND position > :after AND subject = :public_id AND kind = 'message.created' LIMIT 1

-- next_reply: the same as first_reply, in a piece of the log
SELECT m.id, e.position FROM events e JOIN messages m ON m.public_id = e.subject
WHERE e.space_id = :space_id AND e.position > :after AND e.position <= :until AND e.kind = 'message.created'
AND m.root_id = :root_id AND (m.root_id = :id OR m.parent_id = :id) AND m.author_id <> :agent_id AND m.kind <> 'status'
ORDER BY e.position LIMIT 1

-- next_outcome: the same as first_outcome, in a piece of the log
SELECT m.id, e.position FROM events e JOIN messages m ON m.public_id = e.subject
WHERE e.space_id = :space_id AND e.position > :after AND e.position <= :until AND e.kind = 'message.created'
AND m.root_id = :id
AND m.id > :offer_id AND (m.recipient_id IS NULL OR m.recipient_id = :agent_id) AND m.kind = 'system'
AND m.metadata NOT LIKE '%"created"}' AND m.metadata NOT LIKE '%"offered"}'
AND m.metadata NOT LIKE '%"returned"}' AND m.metadata NOT LIKE '%"lapsed"}'
ORDER BY e.position LIMIT 1

-- next_answer: the same as first_answer, in a piece of the log
SELECT m.id, e.position FROM events e JOIN inbox i ON i.public_id = e.subject JOIN messages m ON m.id = i.message_id
WHERE e.space_id = :space_id AND e.audience_id = :agent_id AND e.position > :after AND e.position <= :until
AND e.kind = 'inbox.added' AND m.root_id = :root_id AND (m.root_id = :id OR m.parent_id = :id)
AND m.author_id <> :agent_id ORDER BY e.position LIMIT 1

-- next_direct: the same as first_direct, in a piece of the log
SELECT m.id, e.position FROM events e JOIN messages m ON m.public_id = e.subject
WHERE e.space_id = :space_id AND e.audience_id = :agent_id AND e.position > :after AND e.position <= :until
AND e.kind = 'message.created' AND m.channel_id > 0 AND m.author_id <> :agent_id
AND (:author_id = 0 OR m.author_id = :author_id)
ORDER BY e.position LIMIT 1

-- next_in_channel: the same as first_in_channel, in a piece of the log
SELECT m.id, e.position FROM events e JOIN messages m ON m.public_id = e.subject
WHERE e.space_id = :space_id AND e.position > :after AND e.position <= :until AND e.kind = 'message.created'
AND e.channel_id = :channel_id AND m.channel_id > 0 AND m.kind <> 'status' AND m.recipient_id IS NULL AND m.author_id <> :agent_id
AND (:author_id = 0 OR m.author_id = :author_id) ORDER BY e.position LIMIT 1

-- next_notice: the same as first_notice, in a piece of the log. What its owner puts back notifies nobody anew
SELECT m.id, e.position FROM events e JOIN inbox i ON i.public_id = e.subject JOIN messages m ON m.id = i.message_id
WHERE e.space_id = :space_id AND e.audience_id = :agent_id AND e.position > :after AND e.position <= :until
AND e.kind = 'inbox.added' AND e.actor_id <> :agent_id AND m.channel_id > 0 AND m.author_id <> :agent_id
AND (:author_id = 0 OR m.author_id = :author_id) AND (:channel_id = 0 OR m.channel_id = :channel_id)
AND (i.scope = '' OR EXISTS (SELECT 1 FROM TEXTS(:scopes) AS mine WHERE mine.value = i.scope))
ORDER BY e.position LIMIT 1
