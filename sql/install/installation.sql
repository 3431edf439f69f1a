--
-- What belongs to this installation alone.  Ordinary roles neither read nor write this
-- table and the others; the C functions do, and check the privileges that tfstate_grant()
-- gives.
--

-- The key is secret: row-level security keeps it from members of pg_read_all_data, too.
CREATE TABLE tfstate_internal.installation (
	one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
	key bytea NOT NULL CHECK (octet_length(key) = 16),
	protocol integer NOT NULL,
	timeline bigint NOT NULL
) USING heap;
ALTER TABLE tfstate_internal.installation ENABLE ROW LEVEL SECURITY;
ALTER TABLE tfstate_internal.installation ALTER COLUMN key SET STATISTICS 0;
COMMENT ON TABLE tfstate_internal.installation IS
'one row: what belongs to this installation alone; neither dumped nor replicated';
COMMENT ON COLUMN tfstate_internal.installation.key IS
'the secret key of the hash of lockids in the lock manager';
COMMENT ON COLUMN tfstate_internal.installation.protocol IS
'the number of the protocol that the library and the SQL objects must agree on';
COMMENT ON COLUMN tfstate_internal.installation.timeline IS
'the newest timeline for which the fences have jumped ahead';
REVOKE ALL ON tfstate_internal.installation FROM PUBLIC;

-- Two UUIDs of version 4 have 244 random bits.
CREATE FUNCTION tfstate_internal.make_key()
RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
	INSERT INTO tfstate_internal.installation (key, protocol, timeline)
	SELECT substr(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 1, 16), 1, c.timeline_id
	  FROM pg_control_checkpoint() c;
END;
COMMENT ON FUNCTION tfstate_internal.make_key() IS
'make the row of the table installation anew if somebody has deleted it, while no other session uses tfstate';
REVOKE EXECUTE ON FUNCTION tfstate_internal.make_key() FROM PUBLIC;
SELECT tfstate_internal.make_key();

CREATE FUNCTION tfstate_internal.keep_own_row()
RETURNS trigger
AS 'MODULE_PATHNAME', 'tfstate_keep_own_row'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.keep_own_row() IS
'trigger of the table installation: logical replication changes nothing there';
REVOKE EXECUTE ON FUNCTION tfstate_internal.keep_own_row() FROM PUBLIC;
CREATE TRIGGER keep_own_row BEFORE INSERT OR UPDATE OR DELETE ON tfstate_internal.installation
	FOR EACH ROW EXECUTE FUNCTION tfstate_internal.keep_own_row();
ALTER TABLE tfstate_internal.installation ENABLE ALWAYS TRIGGER keep_own_row;
COMMENT ON TRIGGER keep_own_row ON tfstate_internal.installation IS
'logical replication changes nothing here';

-- Unlogged, because a crash of the server ends the shared memory, too.
CREATE UNLOGGED SEQUENCE tfstate_internal.shared_memory AS bigint MINVALUE 0;
COMMENT ON SEQUENCE tfstate_internal.shared_memory IS
'the handle of the shared memory with the counters of this database';
REVOKE ALL ON SEQUENCE tfstate_internal.shared_memory FROM PUBLIC;
