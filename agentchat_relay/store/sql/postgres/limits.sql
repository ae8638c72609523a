-- take_allowance: as many calls as are allowed at the moment, at most so many, out of a bucket that fills up with time
INSERT INTO allowances AS a (bucket, who, tokens, granted, at)
VALUES (
    :bucket, :who, CAST(:size AS FLOAT8) - least(CAST(:wanted AS FLOAT8), :size),
    least(CAST(:wanted AS FLOAT8), :size), clock_timestamp()
)
ON CONFLICT (bucket, who) DO UPDATE SET (tokens, granted, at) = (
    SELECT filled.tokens - filled.granted, filled.granted, filled.at FROM (
        SELECT held.tokens, held.at, CASE WHEN held.tokens < 1 THEN 0 ELSE least(:wanted, floor(held.tokens)) END AS granted
        FROM (
            SELECT clock_timestamp() AS at, least(
                :size, a.tokens + greatest(extract(epoch FROM clock_timestamp() - a.at), 0) * CAST(:rate AS FLOAT8)
            ) AS tokens
        ) AS held
    ) AS filled
)
RETURNING granted, tokens

-- count_attempt: of an address at a secret, or to register
INSERT INTO attempts (kind, address, at) VALUES (:kind, :address, clock_timestamp())

-- uncount_attempt: take back the last one
DELETE FROM attempts WHERE kind = :kind AND address = :address AND at = (
    SELECT max(at) FROM attempts WHERE kind = :kind AND address = :address
)

-- attempts_of: in the last while, and how many seconds ago the first of the newest so many was
SELECT count(*) AS counted, CAST(extract(epoch FROM clock_timestamp() - min(at)) AS FLOAT8) AS ago FROM (
    SELECT at FROM attempts
    WHERE kind = :kind AND address = :address AND at > clock_timestamp() - make_interval(secs => :seconds)
    ORDER BY at DESC LIMIT :most
) AS newest

-- sweep_attempts: what counts no more
DELETE FROM attempts WHERE at < clock_timestamp() - make_interval(secs => 3600)
