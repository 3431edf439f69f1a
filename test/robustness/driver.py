"""One client: takes and releases locks at random, and logs what it did.

    driver.py CONFIG NUMBER INCARNATION

A client that is killed is started again under its number with the next
incarnation; it can then release what its predecessor has left in durable mode.
IDs of locks begin with "NUMBER.", and are chosen by the client, so that the
tables can tell what became of a call that it did not see the end of.
"""

import json
import random
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, Optional

import psycopg2
import psycopg2.extensions

from log import Log, now

PATIENCE = 12.0  # seconds after which a silent server is given up

# of a FATAL error: the connection is lost, and with it the outcome
FATAL = ("57P01", "57P02", "57P03", "57P04", "57P05", "08")

STATES = "terraform_remote_state.states"


class NoAnswer(psycopg2.OperationalError):
    """The server said nothing for too long."""


def wait_for_server(connection) -> None:
    """What psycopg2 does while it waits, but not for ever."""
    deadline = now() + PATIENCE
    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        reading = state == psycopg2.extensions.POLL_READ
        files = ([connection], []) if reading else ([], [connection])
        if not any(select.select(*files, [], max(0, deadline - now()))):
            raise NoAnswer("no answer")


class Refused(Exception):
    """An operation failed or its outcome is not known.  It has been logged."""


class Client:
    def __init__(self, config: dict[str, Any], number: int, incarnation: int):
        self.config = config
        self.name = f"{number}.{incarnation}"
        self.number = number
        self.random = random.Random(f"{config['seed']}/{self.name}")
        self.log = Log(Path(config["log"]) / f"client.{number}.{incarnation}")
        self.connection: Any = None
        self.route = ""
        self.counter = 0
        self.in_transaction = False
        self.held: list[dict[str, Any]] = []  # on this connection
        self.left: list[tuple[str, str]] = []  # durable, to be released later
        self.fences: dict[str, int] = {}  # the last of each workspace
        self.weights = config["weights"]

    # Talking to the server

    def call(self, do: str, sql: str = "", arguments: tuple = (), **facts: Any) -> Any:
        """Run a statement, with its log.  Returns its first row, if any."""
        self.counter += 1
        self.log.write(n=self.counter, do=do, **facts)
        row, outcome, code = None, "ok", ""
        try:
            if do == "connect":
                self.open_connection()
            else:
                row = self.fetch(sql, arguments)
        except psycopg2.Error as error:
            code = error.pgcode or ""
            lost = self.connection is None or self.connection.closed
            outcome = "unknown" if lost or not code or code.startswith(FATAL) else "failed"
        if do in ("commit", "release") and outcome == "ok" and self.status != do.upper():
            outcome = "failed"
        self.log.write(n=self.counter, end=outcome, code=code, row=row)
        if outcome == "unknown":
            self.drop_connection()
        if outcome != "ok":
            raise Refused(code)
        return row

    def fetch(self, sql: str, arguments: tuple) -> Any:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, arguments or None)
            self.status = cursor.statusmessage
            return cursor.fetchone() if cursor.description else None

    def open_connection(self) -> None:
        self.connection = psycopg2.connect(**self.target())
        self.connection.autocommit = True

    def target(self) -> dict[str, Any]:
        route = self.config["routes"][self.route]
        return {
            **route,
            "user": "robust",
            "dbname": "robust",
            "application_name": f"client {self.name}",
        }

    def drop_connection(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        self.in_transaction = False
        for lock in self.held:
            if lock["mode"] == "durable":
                self.left.append((lock["lockid"], lock["id"]))
        self.held = []

    def connect(self) -> None:
        self.drop_connection()
        self.route = self.random.choices(*zip(*self.weights["route"].items()))[0]
        self.call("connect", route=self.route)
        self.choose_flush()

    def choose_flush(self) -> None:
        if self.route != "transaction":
            level = "on" if self.chance("flush") else "off"
            self.call("set", f"SET synchronous_commit = {level}", level=level)

    def chance(self, name: str) -> bool:
        return self.random.random() < self.weights.get(name, 0)

    # What is done with locks

    def choose_lockid(self) -> str:
        if self.chance("workspace"):
            return f"{STATES}/w{self.random.randrange(self.config['workspaces'])}"
        return f"key/{self.random.randrange(self.config['keys'])}"

    def choose_wait(self) -> tuple[Optional[str], Optional[float]]:
        if self.held:
            return self.random.choice([("0", 0), ("0", 0), ("10ms", 0.01), ("400ms", 0.4)])
        return self.random.choice(
            [("0", 0), ("20ms", 0.02), ("200ms", 0.2), ("1s", 1), ("4s", 4), (None, None)]
        )

    def lock(self) -> Optional[dict[str, Any]]:
        """Ask for a lock.  Returns it, or None if somebody else has it."""
        self.counter += 1
        lockid = self.choose_lockid()
        identity = f"{self.name}.{self.counter}"
        session = self.route != "transaction" and self.chance("session")
        mode = "session" if session else "durable"
        wait, seconds = self.choose_wait()
        ttl = self.random.choice([0.3, 2, 20]) if not session and self.chance("lease") else None
        how = self.random.choice(["lock", "try_lock", "wait_lock"])
        if how == "wait_lock" and (self.in_transaction or self.route == "transaction"):
            how = "lock"
        verb = "CALL" if how == "wait_lock" else "SELECT * FROM"
        row = self.call(
            "lock",
            f"{verb} tfstate_{how}(%s, %s, %s, %s::interval, %s::interval)",
            (lockid, json.dumps({"ID": identity}), mode, wait, ttl and f"{ttl}s"),
            lockid=lockid,
            id=identity,
            mode=mode,
            wait=seconds,
            ttl=ttl,
        )
        if how == "try_lock" and not row[0]:
            self.look_for_remains()
            return None
        lock = {"lockid": lockid, "id": identity, "mode": mode, "ttl": ttl}
        lock["fence"] = row[2] if how == "try_lock" else row[1]
        self.held.append(lock)
        if lockid.startswith(STATES):
            self.fences[lockid] = lock["fence"]
        return lock

    def look_for_remains(self) -> None:
        """What a failed wait has left in the lock table, if all is to be free."""
        if self.held or self.left or self.in_transaction or self.route == "transaction":
            return
        self.call(
            "remains",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            " AND pid = pg_backend_pid() AND objsubid <> x'7467'::int AND objsubid <> 1",
        )

    def hold(self, lock: dict[str, Any]) -> None:
        """Have a lock for a moment: sleep, look, renew, write."""
        for _ in range(self.random.randrange(3)):
            time.sleep(self.random.choice([0, 0.001, 0.005, 0.02]))
            self.call("hold", "SELECT 1")
        if lock["ttl"] and self.chance("renew"):
            self.renew(lock)
        if lock["lockid"].startswith(STATES) and self.chance("write"):
            self.write(lock["lockid"], lock["fence"])

    def renew(self, lock: dict[str, Any]) -> None:
        """Renew a lease, perhaps late, and perhaps in a transaction that takes its time."""
        slow = not self.in_transaction and self.random.random() < 0.5
        if lock["ttl"] < 1 and self.random.random() < 0.5:
            time.sleep(lock["ttl"] * 0.95)
        if slow:
            self.begin("READ COMMITTED")
        self.call(
            "renew",
            "SELECT tfstate_renew(%s, %s)",
            (lock["lockid"], lock["id"]),
            lockid=lock["lockid"],
            id=lock["id"],
        )
        if slow:
            time.sleep(self.random.choice([0, 0.02, 0.1]))
            self.finish("commit")

    def unlock(self, lockid: str, identity: str) -> None:
        self.call(
            "unlock",
            "SELECT tfstate_unlock(%s, %s)",
            (lockid, identity),
            lockid=lockid,
            id=identity,
        )

    def write(self, lockid: str, fence: int) -> None:
        """Write a state and show a fence, in a transaction that takes its time."""
        outer = not self.in_transaction
        if outer:
            self.begin("READ COMMITTED")
        self.call("set", f"SET LOCAL tfstate.fence = {int(fence)}")
        self.call(
            "write",
            f"UPDATE {STATES} SET data = jsonb_set(jsonb_set(data::jsonb, '{{serial}}',"
            " to_jsonb((data::jsonb ->> 'serial')::bigint + 1)), '{outputs,by}', %s)::text"
            " WHERE name = %s",
            (json.dumps({"value": self.name, "type": "string"}), lockid.split("/")[1]),
            lockid=lockid,
            fence=fence,
        )
        if outer:
            time.sleep(self.random.choice([0, 0.002, 0.02]))
            self.finish("commit")

    # Transactions

    def begin(self, level: str) -> None:
        self.call("begin", f"BEGIN ISOLATION LEVEL {level}")
        self.in_transaction = True

    def finish(self, how: str) -> None:
        try:
            self.call(how, how.upper())
        finally:
            self.in_transaction = False

    def abandon(self) -> None:
        """After an error, whatever was to be done."""
        if self.connection is not None and self.in_transaction:
            self.finish("rollback")

    # The steps, of which one after the other is chosen at random

    def step_lock(self) -> None:
        lock = self.lock()
        if lock is None:
            return
        self.hold(lock)
        if self.chance("keep"):
            return
        if lock["mode"] == "durable" and self.chance("leave"):
            self.held.remove(lock)
            self.left.append((lock["lockid"], lock["id"]))
            return
        self.release(lock)

    def release(self, lock: dict[str, Any]) -> None:
        """An unlock that fails is tried again, now and later: a cancel may have hit it."""
        for _ in range(3):
            try:
                self.unlock(lock["lockid"], lock["id"])
            except Refused as refusal:
                if self.connection is None:
                    return
                if refusal.args[0] != "55000":
                    continue
            self.held.remove(lock)
            return

    def step_release(self) -> None:
        if self.held:
            self.release(self.held[0])
        elif self.left:
            lockid, identity = self.left.pop(0)
            self.unlock(lockid, identity)

    def step_transaction(self) -> None:
        """Lock or unlock in a transaction, with a savepoint, and end it somehow."""
        before = list(self.held)
        level = self.random.choice(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
        self.begin(level)
        try:
            kept = self.transaction_body()
            if level == "SERIALIZABLE":
                self.skew()
        except Refused:
            self.held = [lock for lock in before if lock in self.held]
            raise
        time.sleep(self.random.choice([0, 0.002, 0.01]))
        if self.chance("rollback"):
            self.held = before
            self.finish("rollback")
            return
        try:
            self.finish("commit")
        except Refused:
            self.held = [lock for lock in before if lock in self.held]
            raise
        self.held = kept if self.connection is not None else []

    def transaction_body(self) -> list[dict[str, Any]]:
        """Returns what is held after it if it commits."""
        if self.held and self.random.random() < 0.5:
            lock = self.held[0]
            self.unlock(lock["lockid"], lock["id"])
            return self.held[1:]
        kept = list(self.held)
        for _ in range(self.random.choice([1, 1, 1, 2, 3])):
            savepoint = self.chance("savepoint")
            if savepoint:
                self.call("savepoint", "SAVEPOINT s")
            self.lock()
            if not savepoint:
                kept = list(self.held)
            elif self.random.random() < 0.5:
                self.call("rollback to", "ROLLBACK TO s")
                self.held = list(kept)
            else:
                self.call("release", "RELEASE s")
                kept = list(self.held)
        if kept and kept[-1] in self.held and self.random.random() < 0.2:
            lock = kept.pop()
            self.unlock(lock["lockid"], lock["id"])
        return kept

    def skew(self) -> None:
        """Read what others write, and write what they read: some commit fails for it."""
        self.call("hold", "SELECT sum(value) FROM skew")
        self.call(
            "hold",
            "UPDATE skew SET value = value + 1 WHERE id = %s RETURNING value",
            (self.random.randrange(8),),
        )

    def step_force(self) -> None:
        """Release a lock of anybody, with its ID or without."""
        mode = "durable" if self.random.random() < 0.7 else "session"
        row = self.call(
            "hold",
            "SELECT lockid, id FROM tfstate_holders WHERE mode = %s AND lockid NOT LIKE 'own/%%'"
            " ORDER BY random() LIMIT 1",
            (mode,),
        )
        if row is None:
            return
        lockid, identity = row
        shown = identity if self.random.random() < 0.8 else None
        self.call(
            "force",
            "SELECT tfstate_force_unlock(%s, %s, 'test', %s) ->> 'ID'",
            (lockid, shown, mode == "session"),
            lockid=lockid,
            id=shown,
        )

    def step_stale_write(self) -> None:
        if self.fences:
            lockid = self.random.choice(list(self.fences))
            self.write(lockid, self.fences[lockid])

    def step_discard(self) -> None:
        """DISCARD ALL ends what is held in session mode, and it stays so."""
        if self.route == "transaction":
            return
        if not self.held:
            self.lock()
        gone = [lock["id"] for lock in self.held if lock["mode"] == "session"]
        self.left += [
            (lock["lockid"], lock["id"]) for lock in self.held if lock["mode"] == "durable"
        ]
        self.held = []
        self.call("discard", "DISCARD ALL")
        self.choose_flush()
        self.lock()
        self.call(
            "ghosts",
            "SELECT count(*) FROM tfstate_holders WHERE id = ANY(%s)",
            (gone,),
            id=str(gone),
        )

    def step_abandon(self) -> None:
        """Who has gone while he waited is not given the lock."""
        if self.route != "direct" or self.held:
            return
        lockid = f"own/{self.number}"
        self.counter += 1
        identity = f"{self.name}.{self.counter}"
        statement = "SELECT * FROM tfstate_lock(%s, %s, wait => %s)"
        facts = {"lockid": lockid, "mode": "durable", "ttl": None}
        arguments = (lockid, json.dumps({"ID": identity}), "0")
        self.call("lock", statement, arguments, id=identity, wait=0, **facts)
        self.left.append((lockid, identity))
        gone = self.wait_and_go(statement, lockid, facts)
        self.unlock(*self.left.pop())
        time.sleep(0.05)
        self.call("ghosts", "SELECT count(*) FROM tfstate_holders WHERE id = %s", (gone,), id=gone)

    def wait_and_go(self, statement: str, lockid: str, facts: dict[str, Any]) -> Optional[str]:
        """Ask for a lock on another connection, and close that when it waits.

        Returns the ID of the lock that was asked for, or None if it was not seen to wait.
        """
        self.counter += 1
        identity = f"{self.name}.{self.counter}"
        waits = False
        other = None
        self.log.write(n=self.counter, do="go", id=identity, wait=8, **facts)
        self.log.write(n=self.counter, end="unknown", code="", row=None)
        try:
            other = psycopg2.connect(**self.target(), async_=True)
            wait_for_server(other)
            other.cursor().execute(statement, (lockid, json.dumps({"ID": identity}), "8s"))
            for _ in range(50):
                time.sleep(0.005)
                waits = self.call("hold", "SELECT count(*) FROM tfstate_waiters(%s)", (lockid,))[0]
                if waits:
                    break
        except psycopg2.Error:
            pass
        finally:
            if other is not None:
                other.close()
        return identity if waits else None

    def step_shim(self) -> None:
        """A Terraform with tfstate locks a workspace, writes and unlocks."""
        if self.route == "transaction" or self.held:
            return
        self.counter += 1
        identity = f"{self.name}.{self.counter}"
        lockid = f"{STATES}/w{self.random.randrange(self.config['workspaces'])}"
        mode = "session" if self.chance("session") else "durable"
        wait = self.random.choice([0, 100, 2000])
        self.set_up_shim(mode, wait, json.dumps({"ID": identity}))
        row = self.call(
            "lock",
            "SELECT tfstate_pg.pg_try_advisory_lock(s.id),"
            " (SELECT fence FROM tfstate_holders(%s) WHERE id = %s)"
            f" FROM {STATES} s WHERE s.name = %s",
            (lockid, identity, lockid.split("/")[1]),
            lockid=lockid,
            id=identity,
            mode=mode,
            wait=wait / 1000,
            ttl=None,
        )
        lock = {"lockid": lockid, "id": identity, "mode": mode, "ttl": None, "fence": row[1]}
        self.held.append(lock)
        if lock["fence"]:
            self.fences[lockid] = lock["fence"]
            self.hold(lock)
        self.call(
            "unlock",
            f"SELECT tfstate_pg.pg_advisory_unlock(id) FROM {STATES} WHERE name = %s",
            (lockid.split("/")[1],),
            lockid=lockid,
            id=identity,
        )
        self.held.remove(lock)
        self.set_up_shim("session", 0, "")

    def set_up_shim(self, mode: str, wait: int, info: str) -> None:
        self.call(
            "set",
            "SELECT set_config('tfstate.mode', %s, false), set_config('tfstate.wait', %s, false),"
            " set_config('tfstate.info', %s, false)",
            (mode, str(wait), info),
        )

    def step_stock(self) -> None:
        """A Terraform without tfstate locks a workspace."""
        if self.route == "transaction" or self.held:
            return
        name = f"w{self.random.randrange(self.config['workspaces'])}"
        self.counter += 1
        identity = f"{self.name}.{self.counter}"
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

    def step_connect(self) -> None:
        self.connect()

    def step(self) -> None:
        try:
            if self.connection is None:
                self.connect()
            if (self.held or self.left) and self.random.random() < 0.5:
                self.step_release()
            else:
                names = self.weights["step"]
                getattr(self, "step_" + self.random.choices(*zip(*names.items()))[0])()
        except Refused as refusal:
            try:
                self.abandon()
                if self.connection is not None and refusal.args[0] in ("55P03", "57014"):
                    self.look_for_remains()
            except Refused:
                pass
            if self.connection is None:
                time.sleep(0.05)

    def adopt_predecessor(self) -> None:
        """Put down what an earlier incarnation holds in durable mode."""
        row = self.call(
            "hold",
            "SELECT json_agg(json_build_array(lockid, id)) FROM tfstate_holders"
            " WHERE mode = 'durable' AND id LIKE %s",
            (f"{self.number}.%",),
        )
        self.left = [(lockid, identity) for lockid, identity in row[0] or []]

    def run(self) -> None:
        adopted = self.name.endswith(".0")
        while now() < self.config["until"]:
            if not adopted:
                try:
                    self.connect()
                    self.adopt_predecessor()
                    adopted = True
                except Refused:
                    time.sleep(0.1)
                continue
            self.step()
        self.log.write(do="end")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    psycopg2.extensions.set_wait_callback(wait_for_server)
    Client(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2]), int(sys.argv[3])).run()
