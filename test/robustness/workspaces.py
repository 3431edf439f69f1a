"""What a client does with workspaces: as Terraform with tfstate, as one without, and in SQL."""

import json
import time
import uuid
from typing import Any, Optional

import psycopg2

STATES = "terraform_remote_state.states"
CREATION = "tfstate_pg/new workspace"
NEW_STATE = '{"version": 4, "serial": 1, "lineage": "test", "outputs": {}, "resources": []}'

# of a FATAL error: the connection is lost, and with it the outcome
FATAL = ("57P01", "57P02", "57P03", "57P04", "57P05", "08")


class Refused(Exception):
    """An operation failed or its outcome is not known.  It has been logged."""


class WorkspaceSteps:
    """Steps of a client (see driver.py, whose attributes they use)."""

    def choose_workspace(self) -> str:
        return f"w{self.random.randrange(self.config['workspaces'])}"

    def write(self, lockid: str, fence: int) -> None:
        """Writes a state and shows a fence, in a transaction that takes its time."""
        outer = not self.in_transaction
        if outer:
            self.begin("READ COMMITTED")
        self.call("set", f"SET LOCAL tfstate.fence = {int(fence)}")
        self.change_state("write", lockid, fence)
        if outer:
            time.sleep(self.random.choice([0, 0.002, 0.02]))
            self.finish("commit")

    def change_state(self, do: str, lockid: str, fence: Optional[int]) -> None:
        self.call(
            do,
            f"UPDATE {STATES} SET data = jsonb_set(jsonb_set(data::jsonb, '{{serial}}',"
            " to_jsonb((data::jsonb ->> 'serial')::bigint + 1)), '{outputs,by}', %s)::text"
            " WHERE name = %s",
            (json.dumps({"value": self.new_identity(), "type": "string"}), lockid.split("/")[1]),
            lockid=lockid,
            fence=fence,
        )

    def step_free_write(self) -> None:
        """Writes a state without a fence, whoever has the lock."""
        if self.route == "transaction":
            return
        lockid = f"{STATES}/{self.choose_workspace()}"
        self.begin("READ COMMITTED")
        self.change_state("free write", lockid, None)
        time.sleep(self.random.choice([0, 0.002, 0.02]))
        self.finish("commit")

    def step_stale_write(self) -> None:
        if self.fences:
            lockid = self.random.choice(list(self.fences))
            self.write(lockid, self.fences[lockid])

    # A Terraform with tfstate

    def set_up_shim(self, mode: str, wait: int, identity: str, run: str = "") -> None:
        self.call(
            "set",
            "SELECT set_config('tfstate.mode', %s, false), set_config('tfstate.wait', %s, false),"
            " set_config('tfstate.info', %s, false), set_config('tfstate.run_id', %s, false)",
            (mode, str(wait), json.dumps({"ID": identity}) if identity else "", run),
        )

    def step_shim(self) -> None:
        """Locks a workspace, writes and unlocks, perhaps over another connection than at first."""
        if self.route == "transaction" or self.held:
            return
        name = self.choose_workspace()
        mode = self.choose_mode()
        returns = mode == "durable" and self.random.random() < 0.5
        run = self.run_name(mode, returns)
        lock = self.shim_lock(name, mode, run)
        if returns and self.random.random() < 0.4:
            self.connect()
            if self.route == "transaction":
                return
            lock = self.shim_lock(name, mode, run)
        if lock["fence"]:
            self.fences[lock["lockid"]] = lock["fence"]
            self.hold(lock)
        if returns and self.random.random() < 0.3:
            self.rival(lock, name, run)
        self.shim_unlock(lock, f"id) FROM {STATES} WHERE name = %s", (name,))

    def run_name(self, mode: str, returns: bool) -> str:
        """Names a run, which a durable lock needs: with a name of its own, or this client's."""
        if mode != "durable":
            return ""
        return str(uuid.UUID(int=self.number + 1 if returns else self.random.getrandbits(128)))

    def shim_lock(self, name: str, mode: str, run: str) -> dict[str, Any]:
        """Locks a workspace.  The ID is that of an earlier lock if the run had one."""
        shares = self.may_have_shares
        self.may_have_shares |= mode == "durable"
        identity = self.new_identity()
        lockid = f"{STATES}/{name}"
        wait = self.random.choice([0, 100, 2000])
        self.set_up_shim(mode, wait, identity, run)
        row = self.call(
            "lock",
            "SELECT tfstate_pg.pg_try_advisory_lock(s.id),"
            " (SELECT json_build_array(fence, id) FROM tfstate_holders(%s) WHERE id LIKE %s"
            f" ORDER BY fence DESC LIMIT 1) FROM {STATES} s WHERE s.name = %s",
            (lockid, f"{self.number}.%", name),
            lockid=lockid,
            id=identity,
            mode=mode,
            wait=wait / 1000,
            ttl=None,
            run=run,
        )
        fence, known_as = row[1] or (None, identity)
        lock = {"lockid": lockid, "id": known_as, "mode": mode, "ttl": None, "fence": fence}
        lock["shares"] = shares
        self.left = [entry for entry in self.left if entry[1] != known_as]
        self.held.append(lock)
        return lock

    def rival(self, lock: dict[str, Any], name: str, run: str) -> None:
        """Another session of the same run is not given a lock whose session lives."""
        identity = self.new_identity()
        facts = {"lockid": lock["lockid"], "id": identity, "lock": lock["id"], "mode": "session"}
        self.log_start("rival", facts)
        outcome, code, other = "ok", "", None
        try:
            other = psycopg2.connect(**self.target())
            cursor = other.cursor()
            cursor.execute(
                "SELECT set_config('tfstate.info', %s, false), set_config('tfstate.run_id', %s, false)",
                (json.dumps({"ID": identity}), run),
            )
            cursor.execute(
                f"SELECT tfstate_pg.pg_try_advisory_lock(id) FROM {STATES} WHERE name = %s", (name,)
            )
        except psycopg2.Error as error:
            code = error.pgcode or ""
            outcome = "unknown" if not code or code.startswith(FATAL) else "failed"
        finally:
            if other is not None:
                other.close()
        self.log.write(n=self.counter, end=outcome, code=code, row=None)

    def shim_unlock(self, lock: dict[str, Any], key: str, arguments: tuple = ()) -> None:
        released = self.call(
            "unlock",
            f"SELECT tfstate_pg.pg_advisory_unlock({key}",
            arguments,
            lockid=lock["lockid"],
            id=lock["id"],
        )[0]
        self.held.remove(lock)
        if released:
            self.may_have_shares = lock.get("shares", True)
            self.look_for_remains()
        self.set_up_shim("session", 0, "")

    # Creation and deletion of workspaces

    def step_create(self) -> None:
        """Creates a workspace under the creation key, writes, deletes, and restores it."""
        if self.route == "transaction" or self.held:
            return
        name = f"c{self.number}"
        lockid = f"{STATES}/{name}"
        mode = self.choose_mode()
        self.call("hold", f"DELETE FROM {STATES} WHERE name = %s", (name,))
        creation = self.creation_lock(mode)
        lock = self.create(name, lockid, mode, creation)
        if lock is None:
            self.shim_unlock(creation, "-1)")
            return
        for _ in range(self.random.randrange(3)):
            self.write(lockid, lock["fence"])
        self.shim_unlock(lock, "-1)")
        self.call("hold", f"DELETE FROM {STATES} WHERE name = %s", (name,))
        if self.random.random() < 0.5:
            self.go_back(lockid, "tfstate_undelete(%s)", (lockid,))

    def creation_lock(self, mode: str) -> dict[str, Any]:
        self.may_have_shares |= mode == "durable"
        identity = self.new_identity()
        wait = self.random.choice([0, 0, 500])
        run = self.run_name(mode, False)
        self.set_up_shim(mode, wait, identity, run)
        row = self.call(
            "lock",
            "SELECT tfstate_pg.pg_try_advisory_lock(-1), (SELECT json_build_array(fence, id)"
            " FROM tfstate_holders(%s) WHERE id = %s)",
            (CREATION, identity),
            lockid=CREATION,
            id=identity,
            mode=mode,
            wait=wait / 1000,
            ttl=None,
            run="",
        )
        fence = row[1] and row[1][0]
        lock = {"lockid": CREATION, "id": identity, "mode": mode, "ttl": None, "fence": fence}
        lock["run"] = run
        self.held.append(lock)
        return lock

    def create(
        self, name: str, lockid: str, mode: str, creation: dict[str, Any]
    ) -> Optional[dict[str, Any]]:
        """Inserts the row.  Returns its lock, or None if it is rolled back or the key was lost."""
        identity = self.new_identity()
        self.set_up_shim(mode, 0, identity, creation["run"])
        self.begin("READ COMMITTED")
        self.call("hold", f"INSERT INTO {STATES} (name, data) VALUES (%s, %s)", (name, NEW_STATE))
        row = self.call(
            "exchange",
            "SELECT json_build_array(fence, id) FROM tfstate_holders(%s) WHERE id = %s",
            (lockid, identity),
            lockid=lockid,
            id=identity,
            creation=creation["id"],
            mode=mode,
            wait=0,
            ttl=None,
        )
        if row is None or self.chance("rollback"):
            self.finish("rollback")
            return None
        lock = {"lockid": lockid, "id": identity, "mode": mode, "ttl": None, "fence": row[0][0]}
        self.held = [creation, lock]
        self.finish("commit")
        self.held = [lock]
        return lock

    def step_roll_back(self) -> None:
        """Writes an earlier version again, and checks the result."""
        if self.route == "transaction":
            return
        lockid = f"{STATES}/{self.choose_workspace()}"
        row = self.call(
            "hold",
            "SELECT min(number) FROM (SELECT number FROM tfstate_versions(%s)"
            " WHERE size IS NOT NULL ORDER BY number DESC LIMIT %s) v",
            (lockid, self.random.randrange(1, 12)),
        )
        self.go_back(lockid, "tfstate_rollback(%s, %s)", (lockid, row[0]))

    def go_back(self, lockid: str, function: str, arguments: tuple) -> None:
        """Writes a version again: the same text as the original, except for the serial."""
        identity = self.new_identity()
        self.set_up_shim("session", 0, identity)
        self.may_have_shares = True
        self.begin("READ COMMITTED")
        number = self.call(
            "roll back", f"SELECT {function}", arguments, lockid=lockid, id=identity
        )[0]
        source = arguments[1] if len(arguments) > 1 else number - 2
        self.call(
            "ghosts",
            f"SELECT count(*) FROM {STATES} s WHERE name = %s AND"
            " (s.data IS DISTINCT FROM tfstate_version(%s, %s) OR s.data::jsonb - 'serial'"
            " IS DISTINCT FROM tfstate_version(%s, %s)::jsonb - 'serial')",
            (lockid.split("/")[1], lockid, number, lockid, source),
            lockid=lockid,
            id=f"version {source} as {number}",
        )
        self.finish("rollback" if self.chance("rollback") else "commit")

    # A Terraform without tfstate

    def step_stock(self) -> None:
        if self.route == "transaction" or self.held:
            return
        name = self.choose_workspace()
        identity = self.new_identity()
        lockid = f"{STATES}/{name}"
        row = self.call(
            "stock",
            f"SELECT pg_catalog.pg_try_advisory_lock(id), id FROM {STATES} WHERE name = %s",
            (name,),
            lockid=lockid,
            id=identity,
        )
        if not row[0]:
            return
        time.sleep(self.random.choice([0, 0.005, 0.02]))
        self.call("hold", "SELECT 1")
        unlock = f"SELECT pg_catalog.pg_advisory_unlock({row[1]})"
        self.call("stock unlock", unlock, lockid=lockid, id=identity)
