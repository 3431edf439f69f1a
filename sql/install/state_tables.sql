--
-- The attached tables, the roles that use them, and the versions of states.
--

CREATE TABLE tfstate_internal.attached_table (
	relid regclass PRIMARY KEY,
	attached_by text NOT NULL,
	attached_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	guard text NOT NULL DEFAULT 'require' CHECK (guard IN ('off', 'on', 'require')),
	keep_versions integer CHECK (keep_versions > 0),
	keep_age interval CHECK (keep_age >= '0'),
	name text NOT NULL,
	default_workspace boolean NOT NULL DEFAULT true,
	compressed boolean NOT NULL DEFAULT false,
	mode text CHECK (mode IN ('session', 'durable')),
	wait interval CHECK (wait BETWEEN '0' AND '24 days')
) USING heap;
COMMENT ON TABLE tfstate_internal.attached_table IS
'the tables of Terraform states whose workspaces are locked and guarded by tfstate';
COMMENT ON COLUMN tfstate_internal.attached_table.guard IS
'the least value of tfstate.guard for writes to this table';
COMMENT ON COLUMN tfstate_internal.attached_table.keep_versions IS
'how many versions of a state are kept; NULL keeps all';
COMMENT ON COLUMN tfstate_internal.attached_table.keep_age IS
'for how long versions of a state are kept; NULL keeps all';
COMMENT ON COLUMN tfstate_internal.attached_table.name IS
'the name under which the table was attached; its lockids begin with it';
COMMENT ON COLUMN tfstate_internal.attached_table.default_workspace IS
'whether tfstate_attach() creates a missing workspace "default", which an OpenTofu that encrypts states cannot read';
COMMENT ON COLUMN tfstate_internal.attached_table.compressed IS
'whether tfstate_attach() has set the compression of data';
COMMENT ON COLUMN tfstate_internal.attached_table.mode IS
'the mode of Terraform''s locks where a session sets none; NULL leaves it to tfstate.mode';
COMMENT ON COLUMN tfstate_internal.attached_table.wait IS
'how long Terraform waits for its locks where a session does not set that; NULL leaves it to tfstate.wait';
REVOKE ALL ON tfstate_internal.attached_table FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.attached_table',
	'WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = relid)');

CREATE TABLE tfstate_internal.attached_role (
	relid regclass,
	role tfstate_internal.role,
	role_name text COLLATE "C",
	access text NOT NULL DEFAULT 'write' CHECK (access IN ('write', 'plan')),
	by_database boolean NOT NULL DEFAULT false,
	PRIMARY KEY (relid, role, role_name)
) USING heap;
COMMENT ON TABLE tfstate_internal.attached_role IS
'the roles that tfstate_attach() has made ready for Terraform, one row for each table';
COMMENT ON COLUMN tfstate_internal.attached_role.role_name IS
'the name of the role when that was done';
COMMENT ON COLUMN tfstate_internal.attached_role.access IS
'write, or plan for a role that reads and locks only';
COMMENT ON COLUMN tfstate_internal.attached_role.by_database IS
'whether tfstate_attach_database() has done that, and not tfstate_attach()';
REVOKE ALL ON tfstate_internal.attached_role FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.attached_role',
	'WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = relid)
	   AND EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = role)');

-- A role gets a right once, for the first of its tables that needs it; when that table is
-- detached and another one still needs it, the row passes on to that one.  A setting is for
-- all tables: its relid is 0, and its role is 0, too, if it is one of the database.  No row
-- depends on the OID of anything but the table and the role.
CREATE TABLE tfstate_internal.given (
	relid regclass,
	role tfstate_internal.role,
	role_name text COLLATE "C",
	kind text COLLATE "C" CHECK (kind IN ('table', 'schema', 'sequence', 'shim', 'database', 'lock', 'setting')),
	object text COLLATE "C",
	value text,
	replaced text,
	PRIMARY KEY (relid, role, role_name, kind, object)
) USING heap;
COMMENT ON TABLE tfstate_internal.given IS
'what tfstate_attach() has given to roles that did not have it, for tfstate_detach() to take back';
COMMENT ON COLUMN tfstate_internal.given.kind IS
'a setting of the role or of everybody in this database, a lock for a grant of tfstate, or what the right is on';
COMMENT ON COLUMN tfstate_internal.given.object IS
'the name of the setting, or the privilege';
COMMENT ON COLUMN tfstate_internal.given.value IS
'the value of the setting, the schema, or the pattern of the grant';
COMMENT ON COLUMN tfstate_internal.given.replaced IS
'the value that the setting had before; NULL if it was not set';
REVOKE ALL ON tfstate_internal.given FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.given',
	'WHERE (relid = 0 OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = relid))
	   AND (role = 0 OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = role))');

CREATE VIEW @extschema@.tfstate_tables AS
SELECT n.nspname::text AS schema,
	   c.relname::text AS "table",
	   t.mode, t.wait, t.guard, t.keep_versions, t.keep_age, t.default_workspace,
	   ARRAY(SELECT a.role::text FROM tfstate_internal.attached_role a
			  WHERE a.relid = t.relid AND a.role::text <> 'none' ORDER BY a.role::text COLLATE "C") AS roles,
	   t.attached_by,
	   date_trunc('second', t.attached_at) AS attached_at
  FROM tfstate_internal.attached_table t
	   JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace;
COMMENT ON VIEW @extschema@.tfstate_tables IS
'the attached tables, one row each, with what tfstate_attach() was told for them';
COMMENT ON COLUMN @extschema@.tfstate_tables.schema IS 'the schema of the table';
COMMENT ON COLUMN @extschema@.tfstate_tables."table" IS 'its name there';
COMMENT ON COLUMN @extschema@.tfstate_tables.mode IS
'the mode of Terraform''s locks, where a session sets none; NULL leaves it to tfstate.mode';
COMMENT ON COLUMN @extschema@.tfstate_tables.wait IS
'how long Terraform waits for its locks, where a session does not set that; NULL leaves it to tfstate.wait';
COMMENT ON COLUMN @extschema@.tfstate_tables.guard IS 'the least value of tfstate.guard for writes';
COMMENT ON COLUMN @extschema@.tfstate_tables.keep_versions IS 'how many versions of a state are kept; NULL keeps all';
COMMENT ON COLUMN @extschema@.tfstate_tables.keep_age IS 'for how long versions are kept; NULL keeps all';
COMMENT ON COLUMN @extschema@.tfstate_tables.default_workspace IS
'whether tfstate_attach() creates a missing workspace "default"';
COMMENT ON COLUMN @extschema@.tfstate_tables.roles IS 'the roles that tfstate_attach() has made ready for it';
COMMENT ON COLUMN @extschema@.tfstate_tables.attached_by IS 'the role that attached it';
COMMENT ON COLUMN @extschema@.tfstate_tables.attached_at IS 'when it was attached';
REVOKE ALL ON @extschema@.tfstate_tables FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_tables TO PUBLIC;

-- The content is compressed already.
CREATE TABLE tfstate_internal.stored_version (
	lockid text COLLATE "C" NOT NULL,
	number bigint NOT NULL,
	operation text NOT NULL CHECK (operation IN ('write', 'delete', 'found')),
	serial bigint,
	lineage text,
	terraform_version text,
	resources integer,
	size bigint,
	sha256 bytea,
	md5 bytea,
	created timestamptz NOT NULL,
	who text,
	role text,
	application_name text,
	client_addr inet,
	lock_id text,
	lock_who text,
	lock_operation text,
	fence bigint,
	chain integer,
	content bytea,
	erased_at timestamptz,
	erased_by text,
	erase_reason text,
	PRIMARY KEY (lockid, number)
) USING heap;
ALTER TABLE tfstate_internal.stored_version ALTER COLUMN content SET STORAGE EXTERNAL;
COMMENT ON TABLE tfstate_internal.stored_version IS
'the recorded versions of states, one row each';
COMMENT ON COLUMN tfstate_internal.stored_version.chain IS
'0 for a full copy; else content is a delta to the version before, and a full copy is so many versions back';
COMMENT ON COLUMN tfstate_internal.stored_version.erased_at IS
'when tfstate_erase() has removed text and digests; NULL if it has not';
REVOKE ALL ON tfstate_internal.stored_version FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.stored_version', '');
