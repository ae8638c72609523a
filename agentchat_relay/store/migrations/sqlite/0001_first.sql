-- Times are microseconds since 1970, UTC. Public ids are UUIDv7 texts; integer ids never leave the relay.

CREATE TABLE spaces (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    position INTEGER NOT NULL DEFAULT 0, -- of the newest event
    created_at INTEGER NOT NULL
);

CREATE TABLE machines (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    space_id INTEGER NOT NULL REFERENCES spaces,
    public_key TEXT NOT NULL,
    active INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL
);

CREATE TABLE agents (
    id INTEGER PRIMARY KEY,
    public_id TEXT NOT NULL UNIQUE,
    space_id INTEGER NOT NULL REFERENCES spaces,
    name TEXT NOT NULL,
    machine_id INTEGER REFERENCES machines,
    kind TEXT NOT NULL DEFAULT 'agent' CHECK (kind IN ('agent', 'person')),
    roles TEXT NOT NULL DEFAULT '', -- words, of admin and reviewer
    key_hash TEXT UNIQUE,
    active INTEGER NOT NULL DEFAULT 1,
    card TEXT, -- JSON
    card_role TEXT, -- the card's role, to be found by
    tags TEXT NOT NULL DEFAULT '', -- the card's capabilities, between blanks
    channels_created INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    last_seen_at INTEGER,
    UNIQUE (space_id, name)
);
CREATE INDEX agents_of_machine ON agents (machine_id);

CREATE TABLE nonces (
    nonce TEXT PRIMARY KEY,
    machine_id INTEGER, -- set once the signature was verified
    used_at INTEGER NOT NULL
);
CREATE INDEX nonces_by_time ON nonces (used_at);

CREATE TABLE channels (
    id INTEGER PRIMARY KEY,
    public_id TEXT NOT NULL UNIQUE,
    space_id INTEGER NOT NULL REFERENCES spaces,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    scope TEXT NOT NULL DEFAULT 'local',
    description TEXT,
    metadata TEXT, -- JSON
    created_by INTEGER REFERENCES agents,
    archived INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    number INTEGER NOT NULL DEFAULT 0, -- of the newest message
    chats INTEGER NOT NULL DEFAULT 0, -- how many of them were not status posts
    last_at INTEGER NOT NULL DEFAULT 0, -- time of the newest message
    latest_id INTEGER, -- the newest message that is no status post
    UNIQUE (space_id, name)
);
CREATE INDEX channels_by_time ON channels (space_id, last_at);

-- unread = the channel's chats - read_chats - own_above
CREATE TABLE memberships (
    agent_id INTEGER NOT NULL REFERENCES agents,
    channel_id INTEGER NOT NULL REFERENCES channels,
    joined_at INTEGER NOT NULL,
    read_at INTEGER NOT NULL, -- the cursor: time of the last message that was read, 0 if there was none
    read_chats INTEGER NOT NULL, -- the channel's chats up to the cursor
    own_above INTEGER NOT NULL DEFAULT 0, -- the member's own chats above the cursor
    moved_at INTEGER NOT NULL,
    shown_at INTEGER NOT NULL DEFAULT 0, -- newest message of the last page that is to be counted as read
    shown_key TEXT, -- idempotency key of the call that showed it
    PRIMARY KEY (agent_id, channel_id)
) WITHOUT ROWID;
CREATE INDEX members_of_channel ON memberships (channel_id, moved_at);

CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    public_id TEXT NOT NULL UNIQUE,
    channel_id INTEGER NOT NULL REFERENCES channels,
    number INTEGER NOT NULL, -- 1, 2, 3 … in the channel
    chats INTEGER NOT NULL, -- the channel's chats including this one
    created_at INTEGER NOT NULL, -- strictly increasing in the channel
    author_id INTEGER NOT NULL REFERENCES agents,
    recipient_id INTEGER REFERENCES agents, -- of a direct message
    kind TEXT NOT NULL CHECK (kind IN ('chat', 'status', 'system')),
    content TEXT NOT NULL,
    metadata TEXT, -- JSON
    parent_id INTEGER REFERENCES messages,
    root_id INTEGER REFERENCES messages, -- the first message of its thread
    unmatched TEXT, -- the names after an @ that were nobody's, as the sender was told
    key TEXT, -- idempotency, see sql/repeats.sql
    digest BLOB
);
CREATE INDEX messages_in_channel ON messages (channel_id, kind = 'status', created_at);
CREATE INDEX messages_in_thread ON messages (root_id, created_at) WHERE root_id IS NOT NULL;
CREATE INDEX messages_received ON messages (recipient_id, created_at) WHERE recipient_id IS NOT NULL;
CREATE INDEX messages_directed ON messages (author_id, created_at) WHERE recipient_id IS NOT NULL;
CREATE UNIQUE INDEX messages_by_key ON messages (key, author_id) WHERE key IS NOT NULL;

CREATE TABLE pins (
    message_id INTEGER PRIMARY KEY REFERENCES messages,
    channel_id INTEGER NOT NULL REFERENCES channels,
    pinned_by INTEGER NOT NULL REFERENCES agents,
    pinned_at INTEGER NOT NULL
);
CREATE INDEX pins_in_channel ON pins (channel_id, message_id);

CREATE TABLE inbox (
    id INTEGER PRIMARY KEY,
    public_id TEXT NOT NULL UNIQUE,
    agent_id INTEGER NOT NULL REFERENCES agents,
    kind TEXT NOT NULL, -- mention, direct
    message_id INTEGER REFERENCES messages,
    created_at INTEGER NOT NULL,
    done_at INTEGER -- when it was acknowledged
);
CREATE UNIQUE INDEX inbox_by_message ON inbox (agent_id, message_id);
CREATE INDEX inbox_open ON inbox (agent_id, message_id) WHERE done_at IS NULL;
CREATE INDEX inbox_open_direct ON inbox (agent_id) WHERE done_at IS NULL AND kind = 'direct';

CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    space_id INTEGER NOT NULL REFERENCES spaces,
    channel_id INTEGER NOT NULL REFERENCES channels,
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    size INTEGER NOT NULL,
    hash TEXT NOT NULL, -- SHA-256 of the content, which is a blob of the space
    author_id INTEGER NOT NULL REFERENCES agents,
    created_at INTEGER NOT NULL,
    key TEXT,
    digest BLOB,
    UNIQUE (space_id, path)
);
CREATE INDEX files_in_channel ON files (channel_id, id);
CREATE UNIQUE INDEX files_by_key ON files (key, author_id) WHERE key IS NOT NULL;

-- Answers of keyed calls that create no row of their own.
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    agent_id INTEGER NOT NULL REFERENCES agents,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    answer TEXT NOT NULL, -- JSON
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX answers_by_key ON answers (key, agent_id);
CREATE INDEX answers_of_agent ON answers (agent_id, id);

CREATE TABLE events (
    space_id INTEGER NOT NULL REFERENCES spaces,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    actor_id INTEGER,
    subject TEXT NOT NULL,
    channel_id INTEGER,
    audience_id INTEGER, -- an agent; null: the space
    created_at INTEGER NOT NULL,
    hash BLOB NOT NULL, -- of the payload
    PRIMARY KEY (space_id, position)
) WITHOUT ROWID;
CREATE INDEX events_for ON events (space_id, audience_id, position) WHERE audience_id IS NOT NULL;
