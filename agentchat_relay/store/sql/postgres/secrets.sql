-- secret: one that all relays have in common
SELECT value FROM secrets WHERE name = :name

-- insert_secret: the first one
INSERT INTO secrets (name, value) VALUES (:name, :value)

-- replace_secret: another one
UPDATE secrets SET value = :value WHERE name = :name
