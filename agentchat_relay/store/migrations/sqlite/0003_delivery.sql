-- Inbox items that are given out under a lease, come first, have their time, or failed too often.

ALTER TABLE inbox ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE inbox ADD COLUMN expires_at INTEGER; -- null: never
ALTER TABLE inbox ADD COLUMN outcome TEXT; -- of what is done: expired or dead; null: acknowledged
ALTER TABLE inbox ADD COLUMN deliveries INTEGER NOT NULL DEFAULT 0; -- how often it was given out
ALTER TABLE inbox ADD COLUMN claimed_at INTEGER; -- the last time
ALTER TABLE inbox ADD COLUMN claim_id TEXT; -- the last claim, until the item was returned
ALTER TABLE inbox ADD COLUMN lease_until INTEGER; -- nobody else gets it before
ALTER TABLE inbox ADD COLUMN session TEXT; -- that got it by check_inbox, and gets it again

CREATE INDEX inbox_waiting ON inbox (agent_id, id) WHERE done_at IS NULL;
CREATE INDEX inbox_urgent ON inbox (agent_id, id) WHERE done_at IS NULL AND urgent = 1;
CREATE INDEX inbox_leased ON inbox (agent_id, lease_until) WHERE done_at IS NULL AND lease_until IS NOT NULL;
CREATE INDEX inbox_claimed ON inbox (claim_id) WHERE claim_id IS NOT NULL;
CREATE INDEX inbox_expiring ON inbox (expires_at) WHERE done_at IS NULL AND expires_at IS NOT NULL;
CREATE INDEX inbox_dead ON inbox (agent_id, done_at) WHERE outcome = 'dead';
DROP INDEX inbox_open;
