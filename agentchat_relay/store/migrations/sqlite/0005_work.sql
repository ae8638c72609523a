-- Work that agents hand to each other, of all kinds, and what became of it.

CREATE TABLE work (
    id INTEGER PRIMARY KEY,
    public_id TEXT NOT NULL UNIQUE,
    space_id INTEGER NOT NULL REFERENCES spaces,
    kind TEXT NOT NULL, -- task
    state TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1, -- grows with every transition
    fence INTEGER NOT NULL DEFAULT 0, -- how often somebody got it
    creator_id INTEGER NOT NULL REFERENCES agents,
    target_id INTEGER REFERENCES agents, -- to whom it is offered; null: to anybody
    owner_id INTEGER REFERENCES agents, -- who has it, or had it at its end
    session TEXT, -- of the owner's
    channel_id INTEGER REFERENCES channels, -- null: it is between two agents
    message_id INTEGER, -- that announced it; it may be gone
    message TEXT, -- its public id
    offer_id INTEGER, -- the last message that offered it
    result_message TEXT, -- of the one with the result
    title TEXT NOT NULL,
    body TEXT,
    tags TEXT NOT NULL DEFAULT '', -- JSON list of capabilities; '': none
    details TEXT, -- JSON; what only its kind knows
    urgent INTEGER NOT NULL DEFAULT 0,
    scope TEXT NOT NULL DEFAULT '',
    result TEXT,
    reason TEXT, -- of the last transition, if one was given
    created_at INTEGER NOT NULL,
    deadline_at INTEGER, -- null: never
    claimed_at INTEGER,
    lease_until INTEGER, -- null: nobody has it
    ended_at INTEGER,
    key TEXT,
    digest BLOB
);
CREATE UNIQUE INDEX work_by_key ON work (creator_id, key) WHERE key IS NOT NULL;
CREATE INDEX work_in_state ON work (space_id, kind, state, id);
CREATE INDEX work_of_channel ON work (channel_id, kind, id) WHERE channel_id IS NOT NULL;
CREATE INDEX work_of_creator ON work (creator_id, kind, id);
CREATE INDEX work_open ON work (creator_id) WHERE ended_at IS NULL;
CREATE INDEX work_ended ON work (creator_id, kind, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX work_kept ON work (space_id, channel_id, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX work_of_owner ON work (owner_id, kind, id) WHERE owner_id IS NOT NULL;
CREATE INDEX work_held ON work (owner_id, kind, id) WHERE lease_until IS NOT NULL;
CREATE INDEX work_of_target ON work (target_id, kind, state, id) WHERE target_id IS NOT NULL;
CREATE INDEX work_leases ON work (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX work_deadlines ON work (deadline_at) WHERE deadline_at IS NOT NULL AND ended_at IS NULL;

-- What anybody may take, by each capability it asks for; '' if by none.
CREATE TABLE work_offers (
    space_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    tag TEXT NOT NULL,
    work_id INTEGER NOT NULL REFERENCES work,
    PRIMARY KEY (space_id, kind, tag, work_id)
) WITHOUT ROWID;
CREATE INDEX work_offers_of ON work_offers (work_id);

-- What comes with it and is too large to be listed.
CREATE TABLE work_contexts (
    work_id INTEGER PRIMARY KEY REFERENCES work,
    content TEXT NOT NULL
);

-- Every transition: who, when, from where to where.
CREATE TABLE work_log (
    id INTEGER PRIMARY KEY,
    space_id INTEGER NOT NULL,
    work_id INTEGER NOT NULL REFERENCES work,
    version INTEGER NOT NULL,
    action TEXT NOT NULL,
    actor_id INTEGER, -- null: the relay
    before TEXT, -- null: it was not there
    after TEXT NOT NULL,
    fence INTEGER NOT NULL,
    note TEXT,
    at INTEGER NOT NULL
);
CREATE UNIQUE INDEX work_log_of ON work_log (work_id, version);
CREATE INDEX work_log_of_space ON work_log (space_id, id);
