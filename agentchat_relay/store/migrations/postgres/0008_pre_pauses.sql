-- Pauses: one thing that is made up of many, and how far the relay is with telling whom it concerns.

CREATE TABLE work_parts (
    parent_id BIGINT NOT NULL,
    work_id BIGINT NOT NULL,
    PRIMARY KEY (parent_id, work_id)
);
CREATE INDEX work_parts_of ON work_parts (work_id);

-- Who or what is next, by the id of the last one; none: that is done.
CREATE TABLE spreads (
    work_id BIGINT PRIMARY KEY,
    after_id BIGINT NOT NULL
);
