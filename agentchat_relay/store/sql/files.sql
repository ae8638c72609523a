-- insert_file: one
INSERT INTO files (space_id, channel_id, path, name, type, size, hash, author_id, created_at, key, digest)
VALUES (:space_id, :channel_id, :path, :name, :type, :size, :hash, :author_id, :created_at, :key, :digest) RETURNING id

-- file_by_path: one of a space
SELECT id, space_id, path, name, type, size, hash, created_at FROM files WHERE space_id = :space_id AND path = :path

-- file_by_id: the one a signed link names
SELECT id, space_id, path, name, type, size, hash, created_at FROM files WHERE id = :id

-- files_in_channel: newest first
SELECT path, name, type, size, created_at FROM files WHERE channel_id = :channel_id ORDER BY id DESC LIMIT :limit

-- any_file: of any space
SELECT id FROM files LIMIT 1
