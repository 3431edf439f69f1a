--
-- The settings of roles that log in.
--
-- A right comes with membership in a role, a setting does not: a session has the settings of
-- the role that has logged in.  So an attached role can be a group, and each role that logs
-- in and is a member of it gets the settings itself.
--

-- Members need no INHERIT, because they can set the role.  From PostgreSQL 16 on, a member may
-- have neither, only ADMIN; then it acts for itself alone.
CREATE FUNCTION tfstate_internal.setting_roles(
	OUT roleid oid,
	OUT name name,
	OUT member_of name,
	OUT groupid oid)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE edge AS MATERIALIZED (
	SELECT m.roleid, m.member FROM pg_auth_members m, to_jsonb(m) j
	 WHERE coalesce((j ->> 'inherit_option')::boolean OR (j ->> 'set_option')::boolean, true)),
root AS MATERIALIZED (
	SELECT a.role::oid AS groupid, a.role::oid AS roleid FROM tfstate_internal.attached_role a
	UNION
	SELECT d.role::oid, d.role::oid FROM tfstate_internal.attached_database d WHERE d.role IS NOT NULL),
acts AS (
	SELECT * FROM root
	UNION
	SELECT a.groupid, e.member FROM acts a JOIN edge e ON e.roleid = a.roleid)
SELECT DISTINCT ON (r.oid) r.oid, r.rolname, CASE WHEN a.groupid <> a.roleid THEN g.rolname END, a.groupid
  FROM acts a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles g ON g.oid = a.groupid
 WHERE r.rolcanlogin AND (a.groupid = a.roleid OR NOT r.rolsuper)
 ORDER BY r.oid, a.groupid <> a.roleid, g.rolname
$$;
COMMENT ON FUNCTION tfstate_internal.setting_roles() IS
'the roles that log in and act for an attached role: that role itself, and its direct and indirect members';
REVOKE EXECUTE ON FUNCTION tfstate_internal.setting_roles() FROM PUBLIC;

-- A setting that somebody has changed since it was made counts as what was there before.
CREATE FUNCTION tfstate_internal.give_settings(role name, roleid oid)
RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	setting record;
	ours boolean;
	changed boolean := false;
BEGIN
	FOR setting IN
		SELECT n.name, n.value, c.value AS before
		  FROM tfstate_internal.needed_settings(roleid) n
			   LEFT JOIN tfstate_internal.role_config(roleid) c ON c.name = n.name
		 WHERE c.value IS DISTINCT FROM n.value
	LOOP
		changed := true;
		PERFORM tfstate_internal.set_role_config(role, setting.name, setting.value);
		UPDATE tfstate_internal.given g
		   SET value = setting.value,
			   replaced = CASE WHEN g.value = setting.before THEN g.replaced ELSE setting.before END
		 WHERE (g.role, g.kind, g.object) = (roleid, 'setting', setting.name)
		RETURNING g.replaced IS NOT DISTINCT FROM setting.before INTO ours;
		IF NOT FOUND THEN
			INSERT INTO tfstate_internal.given
			VALUES (0, roleid, role, 'setting', setting.name, setting.value, setting.before);
		END IF;
		IF setting.before IS NULL OR ours IS FALSE THEN
			CONTINUE;
		ELSIF roleid = 0 THEN
			RAISE NOTICE 'setting % = % of the database is replaced by %', setting.name, setting.before, setting.value
				USING DETAIL = 'tfstate_detach_database() brings the old value back.';
		ELSE
			RAISE NOTICE 'setting % = % of role "%" is replaced by %', setting.name, setting.before, role, setting.value
				USING DETAIL = 'tfstate_detach() brings the old value back.';
		END IF;
	END LOOP;
	RETURN changed;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.give_settings(name, oid) IS
'part of tfstate_attach(): make the settings that Terraform needs, and record what they replace; false if none was made';
REVOKE EXECUTE ON FUNCTION tfstate_internal.give_settings(name, oid) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.take_settings()
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	setting tfstate_internal.given;
	line text;
BEGIN
	FOR setting IN
		SELECT * FROM tfstate_internal.given g
		 WHERE g.kind = 'setting' AND g.role::oid <> 0
		   AND g.role::oid NOT IN (SELECT r.roleid FROM tfstate_internal.setting_roles() r)
		 ORDER BY g.role_name, g.object
	LOOP
		BEGIN
			line := tfstate_internal.take_back(setting);
			CONTINUE WHEN line IS NULL;
			RETURN NEXT line;
		EXCEPTION WHEN insufficient_privilege THEN
			-- It can be a role that others have attached, or a member of one.
			RAISE NOTICE 'role "%" keeps %, until a superuser calls tfstate_cleanup()', setting.role_name, setting.object;
		END;
	END LOOP;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.take_settings() IS
'take back the settings of roles that act for no attached role any more; returns what that was';
REVOKE EXECUTE ON FUNCTION tfstate_internal.take_settings() FROM PUBLIC;

-- From PostgreSQL 17 on, where the administrator asks for that, members get the settings when
-- they log in, by an event trigger.  What a role or its client has set for itself stays.  The
-- trigger keeps nobody from logging in: superusers are let pass at once, errors become
-- warnings, and on a standby there is nothing to be written.
CREATE FUNCTION tfstate_internal.needs_login_settings()
RETURNS boolean
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = session_user)
		   AND EXISTS (SELECT FROM (SELECT a.role::oid FROM tfstate_internal.attached_role a
									UNION
									SELECT d.role::oid FROM tfstate_internal.attached_database d) g(role)
						WHERE pg_has_role(session_user, g.role, 'USAGE') OR pg_has_role(session_user, g.role, 'SET'));
END;
$$;
COMMENT ON FUNCTION tfstate_internal.needs_login_settings() IS
'part of on_login(): whether the role that logs in acts for an attached role';
REVOKE EXECUTE ON FUNCTION tfstate_internal.needs_login_settings() FROM PUBLIC;

-- What makes the settings has a search_path of its own, so it is told whose the session's is.
CREATE FUNCTION tfstate_internal.make_login_settings(search_path_source text)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM set_config(n.name, n.value, false)
	   FROM pg_roles r, tfstate_internal.needed_settings(r.oid) n JOIN pg_settings s ON s.name = n.name
	  WHERE r.rolname = session_user
		AND CASE n.name WHEN 'search_path' THEN search_path_source ELSE s.source END
			NOT IN ('user', 'database user', 'client', 'session');
END;
$$;
COMMENT ON FUNCTION tfstate_internal.make_login_settings(text) IS
'part of on_login(): make the settings that Terraform needs, unless the role or its client has made them';
REVOKE EXECUTE ON FUNCTION tfstate_internal.make_login_settings(text) FROM PUBLIC;

-- It has no SET search_path, which would hide the session's own, so that all names are qualified.
CREATE FUNCTION tfstate_internal.on_login()
RETURNS event_trigger
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SECURITY DEFINER
AS $$
BEGIN
	IF tfstate_internal.needs_login_settings() THEN
		PERFORM tfstate_internal.make_login_settings(
			(SELECT s.source FROM pg_catalog.pg_settings s WHERE s.name OPERATOR(pg_catalog.=) 'search_path'));
	END IF;
EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
	RAISE WARNING 'the settings for Terraform could not be made: %', sqlerrm;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.on_login() IS
'event trigger: a role that acts for an attached role gets the settings that Terraform needs';
REVOKE EXECUTE ON FUNCTION tfstate_internal.on_login() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.create_login_trigger()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) THEN
		RAISE EXCEPTION 'permission denied to make settings at login'
			USING ERRCODE = 'insufficient_privilege',
				  HINT = 'Only superusers can create event triggers.';
	END IF;
	IF current_setting('server_version_num')::integer < 170000 THEN
		RAISE EXCEPTION 'settings at login need PostgreSQL 17 or later'
			USING ERRCODE = 'feature_not_supported',
				  HINT = format('When there are new members of attached roles: SELECT %s();',
								tfstate_internal.qualified('tfstate_attach_members'));
	END IF;
	PERFORM tfstate_internal.drop_login_trigger();
	CREATE EVENT TRIGGER tfstate_login ON login EXECUTE FUNCTION tfstate_internal.on_login();
	COMMENT ON EVENT TRIGGER tfstate_login IS 'gives members of roles attached to tfstate the settings for Terraform';
END;
$$;
COMMENT ON FUNCTION tfstate_internal.create_login_trigger() IS
'let members of attached roles get their settings when they log in';
REVOKE EXECUTE ON FUNCTION tfstate_internal.create_login_trigger() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.drop_login_trigger()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM pg_event_trigger e WHERE e.evtname = 'tfstate_login') THEN
		DROP EVENT TRIGGER tfstate_login;
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.drop_login_trigger() IS
'let logins be as they are without tfstate';
REVOKE EXECUTE ON FUNCTION tfstate_internal.drop_login_trigger() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.set_at_login(roleid oid, names text[])
RETURNS boolean
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN EXISTS (SELECT FROM pg_event_trigger e
					WHERE e.evtname = 'tfstate_login' AND e.evtenabled IN ('O', 'A')
					  AND e.evtfoid = 'tfstate_internal.on_login()'::regprocedure)
		   AND NOT EXISTS (SELECT FROM pg_db_role_setting s, unnest(s.setconfig) c
							WHERE s.setrole = roleid AND lower(split_part(c, '=', 1)) = ANY (names));
END;
$$;
COMMENT ON FUNCTION tfstate_internal.set_at_login(oid, text[]) IS
'part of tfstate_check(): whether a role that acts for an attached one gets these settings when it logs in';
REVOKE EXECUTE ON FUNCTION tfstate_internal.set_at_login(oid, text[]) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_attach_members()
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
BEGIN
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	RETURN QUERY
	SELECT CASE WHEN g.member_of IS NULL THEN format('role "%s" has got its settings', g.name)
				ELSE format('role "%s" has got its settings, as a member of "%s"', g.name, g.member_of) END
	  FROM (SELECT r.name, r.member_of, tfstate_internal.give_settings(r.name, r.roleid) AS changed
			  FROM tfstate_internal.setting_roles() r ORDER BY r.name) g
	 WHERE g.changed;
	RETURN QUERY SELECT * FROM tfstate_internal.take_settings();
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_attach_members() IS
'give all members of attached roles the settings for Terraform, and take them back from former ones; one row a change
Privilege: administrator.';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_attach_members() FROM PUBLIC;
