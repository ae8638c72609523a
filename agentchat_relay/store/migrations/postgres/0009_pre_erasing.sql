-- A role that serves may erase what an ephemeral message said, and that is all it may change about a message: see
-- roles.py. Who owns the table may do anything to it anyway.

CREATE FUNCTION only_erase() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF current_user = (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = TG_RELID) OR (
        OLD.vanishes_at IS NOT NULL AND NEW.vanishes_at < 0
        AND NEW.content = '' AND NEW.metadata IS NULL AND NEW.unmatched IS NULL
        AND (NEW.id, NEW.public_id, NEW.number, NEW.chats, NEW.created_at) = (
            OLD.id, OLD.public_id, OLD.number, OLD.chats, OLD.created_at
        )
        AND NEW.channel_id = -abs(OLD.channel_id) AND NEW.author_id = -abs(OLD.author_id)
    ) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'what was said does not change' USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER messages_are_only_erased BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION only_erase();
