-- The info of a lock is what the caller gives, then tfstate.info, then the defaults: as jsonb
-- itself would put it together, to the byte.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
RESET client_min_messages;

CREATE TABLE odd (info jsonb);
INSERT INTO odd VALUES
('{}'),
('{"ID": "x"}'),
('{"Who": "", "Info": null, "Path": "else", "Version": "1"}'),
('{"a": 1, "bb": [], "ccc": {}, "dddd": [[], {}, [1, [2, {"e": [3]}]], null, true, "t"]}'),
('{"Operation": "twice", "Operation": "last", "a": {"b": 1, "b": 2}}'),
('{"n": 12345678901234567890123456789012345678901234567890.000100, "m": -0.0, "e": 1e-300, "z": 1e100}'),
('{"\u00e4\ud83d\ude00": "\u0001\t\\ \" \u2028", "": "empty key", "i": "case", "I": "case"}'),
('{"Info": "info", "infO": "not it", "Infos": {"Info": {"ID": "deep"}}, "zzzzzzzzzzzzzzzz": [1.5, "b", {"Who": ""}]}'),
('{"Created": "yesterday", "Path": "", "ID": "y", "Who": "me", "Operation": "", "Info": "", "Version": ""}');
INSERT INTO odd SELECT jsonb_object_agg(repeat('k', 1 + i % 7) || i, CASE i % 3 WHEN 0 THEN to_jsonb(i) WHEN 1 THEN jsonb_build_array(i, i::text) ELSE jsonb_build_object('i', i) END) FROM generate_series(1, 100) i;
INSERT INTO odd SELECT jsonb_object_agg('k' || i, repeat('v', i)) FROM generate_series(1, 40) i;

-- The info of a lock with both, and whether it is that of jsonb
CREATE FUNCTION put_together(given jsonb, setting jsonb, OUT info jsonb, OUT same boolean) LANGUAGE plpgsql AS $$
DECLARE
	key text;
BEGIN
	PERFORM set_config('tfstate.info', coalesce(setting::text, ''), false);
	PERFORM tfstate_lock('odd', given);
	info := tfstate_unlock('odd');
	given := coalesce(setting, '{}') || given;
	FOREACH key IN ARRAY '{ID,Who,Info,Path,Created,Version,Operation}'::text[] LOOP
		IF coalesce(put_together.given ->> key, '') = '' AND info ? key THEN
			given := given || jsonb_build_object(key, info -> key);
		END IF;
	END LOOP;
	same := record_image_eq(ROW(info), ROW(given));
END;
$$;

SELECT count(*) AS infos, bool_and(same) AS all_same
  FROM odd g CROSS JOIN (SELECT info FROM odd UNION ALL SELECT NULL) s, put_together(g.info, s.info)
 WHERE octet_length(g.info::text || coalesce(s.info::text, '')) < 6000;

-- What a later source has replaces nothing but what is missing
SELECT info - '{ID,Created,Who}'::text[] AS info FROM put_together('{"Info": null, "a": null, "Operation": "given"}',
	'{"Info": "setting", "a": [1], "b": {"c": "setting"}, "Operation": "setting", "Path": null}');
-- A new ID is a random UUID of version 4, and no two are the same
SELECT count(DISTINCT id), bool_and(id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$') AS uuids
  FROM (SELECT (put_together('{}', NULL)).info ->> 'ID' AS id FROM generate_series(1, 200)) i;

SET client_min_messages = warning;
DROP FUNCTION put_together;
DROP TABLE odd;
DROP EXTENSION tfstate;
