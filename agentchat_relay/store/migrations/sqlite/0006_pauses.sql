-- Pauses: one thing that is made up of many, and how far the relay is with telling whom it concerns.

CREATE TABLE work_parts (
    parent_id INTEGER NOT NULL REFERENCES work,
    work_id INTEGER NOT NULL REFERENCES work,
    PRIMARY KEY (parent_id, work_id)
) WITHOUT ROWID;
CREATE INDEX work_parts_of ON work_parts (work_id);

-- Who or what is next, by the id of the last one; none: that is done.
CREATE TABLE spreads (
    work_id INTEGER PRIMARY KEY REFERENCES work,
    after_id INTEGER NOT NULL
);

-- An index of some kinds only would have SQLite plan each statement that asks for a kind anew with every call.
DROP INDEX work_brief;
CREATE INDEX work_brief ON work (kind, ended_at) WHERE ended_at IS NOT NULL; -- kept for a while
