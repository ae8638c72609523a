-- Scopes and groups, mail to many, answers that are counted, agents that were retired, messages that vanish.

ALTER TABLE agents ADD COLUMN is_group BIGINT NOT NULL DEFAULT 0; -- a name that stands for its members
ALTER TABLE agents ADD COLUMN retired_at BIGINT; -- it had not been seen for long; null once it is back
ALTER TABLE channels ADD COLUMN vanish_after BIGINT; -- seconds after which its posts are gone at the latest; null: kept
ALTER TABLE messages ADD COLUMN depth BIGINT NOT NULL DEFAULT 0; -- answers by agents since a person spoke
ALTER TABLE messages ADD COLUMN sent_with BIGINT; -- the first of the messages of one call
ALTER TABLE messages ADD COLUMN vanishes_at BIGINT; -- at the latest; null: never. Of what has vanished (service/vanishing.py), when, negative
ALTER TABLE inbox ADD COLUMN scope TEXT NOT NULL DEFAULT ''; -- what a session must present; '': nothing
ALTER TABLE inbox ADD COLUMN vanishing BIGINT NOT NULL DEFAULT 0; -- 1: its message does, once everybody is done with it
ALTER TABLE inbox ADD COLUMN reason TEXT; -- of what is dead: retired; null: given out too often

CREATE TABLE group_members (
    group_id BIGINT NOT NULL,
    agent_id BIGINT NOT NULL,
    joined_at BIGINT NOT NULL,
    PRIMARY KEY (group_id, agent_id)
);
CREATE INDEX groups_of_member ON group_members (agent_id);

-- Mail to a large group, until everybody has it.
CREATE TABLE fan_outs (
    message_id BIGINT PRIMARY KEY,
    after_id BIGINT NOT NULL, -- members up to this one have it
    urgent BIGINT NOT NULL,
    expires_at BIGINT,
    scope TEXT NOT NULL
);

-- How often two agents have answered each other without a pause.
CREATE TABLE turns (
    low_id BIGINT NOT NULL,
    high_id BIGINT NOT NULL,
    author_id BIGINT NOT NULL, -- of the last word
    turns BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (low_id, high_id)
);

CREATE INDEX agents_retired ON agents (id) WHERE retired_at IS NOT NULL;
CREATE INDEX messages_sent_with ON messages (sent_with) WHERE sent_with IS NOT NULL;
CREATE INDEX messages_vanishing ON messages (vanishes_at) WHERE vanishes_at IS NOT NULL;
CREATE INDEX channels_vanishing ON channels (id) WHERE vanish_after IS NOT NULL;
CREATE INDEX inbox_vanishing ON inbox (message_id)
WHERE vanishing = 1 AND done_at IS NOT NULL AND (outcome IS NULL OR outcome = 'expired');
CREATE INDEX inbox_lanes ON inbox (agent_id, urgent, scope, id) WHERE done_at IS NULL;
CREATE INDEX inbox_groups ON inbox (agent_id, created_at) WHERE kind = 'group';
