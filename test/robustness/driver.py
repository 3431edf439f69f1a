"""One client: takes and releases locks at random, and logs what it does.

    driver.py CONFIG NUMBER INCARNATION

A client that is killed is started again under its number with the next incarnation, and can
then release what its predecessor has left in durable mode.  IDs of locks begin with "NUMBER."
and are chosen by the client, so the tables can tell what became of a call whose end it did not
see.
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
from workspaces import FATAL, STATES, Refused, WorkspaceSteps

PATIENCE = 12.0  # seconds after which a silent server is given up


class NoAnswer(psycopg2.OperationalError):
    """The server did not answer in time."""


def wait_for_server(connection) -> None:
    """What psycopg2 does while it waits, with a limit."""
    deadline = now() + PATIENCE
    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        reading = state == psycopg2.extensions.POLL_READ
        files = ([connection], []) if reading else ([], [connection])
        if not any(select.select(*files, [], max(0, deadline - now()))):
            raise NoAnswer("no answer")


class Client(WorkspaceSteps):
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
        self.database = config["databases"][number % len(config["databases"])]
        self.held: list[dict[str, Any]] = []  # on this connection
        self.left: list[tuple[str, str]] = []  # durable locks, to be released later
        self.prepared: list[tuple[str, str]] = []  # prepared transactions, and how they are to end
        self.may_have_shares = False  # of built-in locks that belong to durable ones
        self.fences: dict[str, int] = {}  # the last fence of each workspace
        self.weights = config["weights"]

    # Talking to the server

    def call(self, do: str, sql: str = "", arguments: tuple = (), **facts: Any) -> Any:
        """Runs a statement, with its log.  Returns its first row, if any."""
        if self.connection is None and do != "connect":
            raise Refused("")
        self.counter += 1
        self.log_start(do, facts)
        row, outcome, code = None, "ok", ""
        try:
            if do == "connect":
                self.open_connection()
                row = [self.connection.info.port]  # of the server that was found
            else:
                row = self.fetch(sql, arguments)
        except psycopg2.Error as error:
            code = error.pgcode or ""
            lost = self.connection is None or self.connection.closed
            outcome = "unknown" if lost or not code or code.startswith(FATAL) else "failed"
        if do in ("commit", "release", "prepare") and outcome == "ok" and not sql.startswith(self.status):
            outcome = "failed"
        self.log.write(n=self.counter, end=outcome, code=code, row=row)
        if outcome == "unknown":
            self.drop_connection()
        if outcome != "ok":
            raise Refused(code)
        return row

    def log_start(self, do: str, facts: dict[str, Any]) -> None:
        """A lockid is logged with its database, because databases are independent."""
        if "lockid" in facts:
            facts = {**facts, "lockid": f"{self.database}:{facts['lockid']}"}
        self.log.write(n=self.counter, do=do, **facts)

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
            "dbname": self.database,
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
        self.may_have_shares = False
        self.route = self.random.choices(*zip(*self.weights["route"].items()))[0]
        self.call("connect", route=self.route)
        self.choose_flush()

    def choose_flush(self) -> None:
        if self.route != "transaction":
            level = "on" if self.chance("flush") else "off"
            self.call("set", f"SET synchronous_commit = {level}", level=level)

    def chance(self, name: str) -> bool:
        return self.random.random() < self.weights.get(name, 0)

    # Operations on locks

    def choose_lockid(self) -> str:
        if self.chance("workspace"):
            return f"{STATES}/{self.choose_workspace()}"
        return f"key/{self.random.randrange(self.config['keys'])}"

    def choose_wait(self) -> tuple[Optional[str], Optional[float]]:
        if self.held:
            return self.random.choice([("0", 0), ("0", 0), ("10ms", 0.01), ("400ms", 0.4)])
        return self.random.choice(
            [("0", 0), ("20ms", 0.02), ("200ms", 0.2), ("1s", 1), ("4s", 4), (None, None)]
        )

    def lock(self) -> Optional[dict[str, Any]]:
        """Asks for any lock.  Returns it, or None if another session has it."""
        mode = self.choose_mode()
        wait, seconds = self.choose_wait()
        leased = mode == "durable" and self.chance("lease")
        ttl = self.random.choice([0.3, 2, 20]) if leased else None
        how = self.random.choice(["lock", "try_lock", "wait_lock"])
        if how == "wait_lock" and (self.in_transaction or self.route == "transaction"):
            how = "lock"
        return self.ask(self.choose_lockid(), mode, wait, seconds, ttl, how)

    def choose_mode(self) -> str:
        return "session" if self.route != "transaction" and self.chance("session") else "durable"

    def new_identity(self) -> str:
        self.counter += 1
        return f"{self.name}.{self.counter}"

    def ask(
        self,
        lockid: str,
        mode: str,
        wait: Optional[str],
        seconds: Optional[float],
        ttl: Optional[float],
        how: str,
    ) -> Optional[dict[str, Any]]:
        identity = self.new_identity()
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
        self.may_have_shares |= mode == "durable" and lockid.startswith(STATES)
        if lockid.startswith(STATES):
            self.fences[lockid] = lock["fence"]
        return lock

    def look_for_remains(self) -> None:
        """Checks what a failed wait has left in the lock table."""
        if self.held or self.left or self.in_transaction or self.route == "transaction":
            return
        self.call(
            "remains",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            " AND pid = pg_backend_pid() AND objsubid <> x'7467'::int AND (objsubid <> 1 OR NOT %s)",
            (self.may_have_shares,),
        )

    def hold(self, lock: dict[str, Any]) -> None:
        """Holds a lock for a moment: sleeps, looks, renews, writes."""
        for _ in range(self.random.randrange(3)):
            time.sleep(self.random.choice([0, 0.001, 0.005, 0.02]))
            self.call("hold", "SELECT 1")
        if lock["ttl"] and self.chance("renew"):
            self.renew(lock)
        if lock["lockid"].startswith(STATES) and self.chance("write"):
            self.write(lock["lockid"], lock["fence"])

    def renew(self, lock: dict[str, Any]) -> None:
        """Renews a lease, perhaps late, and perhaps in a transaction that takes its time."""
        slow = not self.in_transaction and self.random.random() < 0.5
        if lock["ttl"] < 1 and self.random.random() < 0.5:
            time.sleep(lock["ttl"] * 0.95)
        if slow:
            self.begin("READ COMMITTED")
        ttl = self.random.choice([None, 0.3, 2])
        self.call(
            "renew",
            "SELECT tfstate_renew(%s, %s, %s::interval)",
            (lock["lockid"], lock["id"], ttl and f"{ttl}s"),
            lockid=lock["lockid"],
            id=lock["id"],
            ttl=ttl,
        )
        if slow:
            time.sleep(self.random.choice([0, 0.02, 0.1, 1.2]))
            self.finish("commit")

    def unlock(self, lockid: str, identity: str) -> None:
        self.call(
            "unlock",
            "SELECT tfstate_unlock(%s, %s)",
            (lockid, identity),
            lockid=lockid,
            id=identity,
        )

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
        """Ends a transaction after an error."""
        if self.connection is not None and self.in_transaction:
            self.finish("rollback")

    # The steps, chosen at random

    def step_lock(self) -> None:
        lock = self.lock()
        if lock is None:
            return
        self.hold(lock)
        if self.chance("keep"):
            return
        if lock["ttl"] and lock["ttl"] < 1 and self.random.random() < 0.3:
            self.held.remove(lock)  # and let it expire
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
        """Locks and unlocks in a transaction with savepoints, and ends it in some way."""
        before = list(self.held)
        level = self.random.choice(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
        self.begin(level)
        try:
            for _ in range(self.random.choice([1, 1, 1, 2, 3])):
                self.transaction_part(0)
            if level == "SERIALIZABLE":
                self.skew()
            time.sleep(self.random.choice([0, 0.002, 0.01]))
            how = "rollback" if self.chance("rollback") else "commit"
            if how == "rollback":
                self.held = list(before)
            self.finish(how)
        except Refused:
            self.undo(before)
            raise

    def undo(self, before: list[dict[str, Any]]) -> None:
        """A transaction failed: what was held before it is still held, if the session lives."""
        if self.connection is not None:
            self.held = before
        else:
            durable = [(lock["lockid"], lock["id"]) for lock in before if lock["mode"] == "durable"]
            self.left += [entry for entry in durable if entry not in self.left]

    def transaction_part(self, depth: int) -> None:
        """Takes a lock, or releases one, or does so in a savepoint."""
        if depth < 3 and self.chance("savepoint"):
            self.transaction_savepoint(depth + 1)
        elif self.held and self.random.random() < 0.4:
            lock = self.random.choice(self.held)
            self.unlock(lock["lockid"], lock["id"])
            self.held.remove(lock)
        else:
            self.lock()

    def transaction_savepoint(self, depth: int) -> None:
        before = list(self.held)
        self.call("savepoint", f"SAVEPOINT s{depth}", name=depth)
        undone = self.random.random() < 0.5
        try:
            for _ in range(self.random.choice([1, 1, 2])):
                self.transaction_part(depth)
        except Refused:
            if self.connection is None:
                raise
            undone = True
        if undone:
            self.call("rollback to", f"ROLLBACK TO s{depth}", name=depth)
            self.held = before
        else:
            self.call("release", f"RELEASE s{depth}", name=depth)

    def step_prepared(self) -> None:
        """Takes or releases a durable lock in a prepared transaction, which outlives a session."""
        if self.route == "transaction":
            return
        before = list(self.held)
        durable = [lock for lock in self.held if lock["mode"] == "durable"]
        self.begin("READ COMMITTED")
        gid = self.new_identity()
        try:
            if durable and self.random.random() < 0.6:
                self.unlock(durable[0]["lockid"], durable[0]["id"])
                self.held.remove(durable[0])
            else:
                self.ask(self.choose_lockid(), "durable", *self.choose_wait(), None, "lock")
            self.prepared.append((gid, "rollback"))
            self.call("prepare", f"PREPARE TRANSACTION '{gid}'", gid=gid)
        except Refused:
            self.undo(before)
            raise
        self.in_transaction = False
        taken = [lock for lock in self.held if lock not in before]
        self.held = [lock for lock in before if lock in self.held]
        if not self.chance("rollback"):
            self.prepared[-1] = (gid, "commit")
            self.left += [(lock["lockid"], lock["id"]) for lock in taken]
        time.sleep(self.random.choice([0, 0.01, 0.1]))
        if self.random.random() < 0.3:
            self.connect()
        self.finish_prepared()

    def finish_prepared(self) -> None:
        """Ends a prepared transaction, trying again if the outcome is unknown."""
        gid, how = self.prepared[0]
        try:
            self.call(f"{how} prepared", f"{how.upper()} PREPARED '{gid}'", gid=gid)
        except Refused as refusal:
            if refusal.args[0] != "42704":
                raise
        self.prepared.pop(0)

    def skew(self) -> None:
        """Reads what others write, and writes what they read, so that some commits fail."""
        self.call("hold", "SELECT sum(value) FROM skew")
        self.call(
            "hold",
            "UPDATE skew SET value = value + 1 WHERE id = %s RETURNING value",
            (self.random.randrange(8),),
        )

    def step_force(self) -> None:
        """Releases any client's lock, with its ID or without."""
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
        slow = mode == "durable" and self.random.random() < 0.5
        if slow:
            self.begin("READ COMMITTED")
        self.call(
            "force",
            "SELECT tfstate_force_unlock(%s, %s, 'test', %s) ->> 'ID'",
            (lockid, shown, mode == "session"),
            lockid=lockid,
            id=shown,
        )
        if slow:
            time.sleep(self.random.choice([0, 0.005, 0.05]))
            self.finish("rollback" if self.chance("rollback") else "commit")

    def step_pry(self) -> None:
        """Tries to end or renew another client's lock under a wrong ID."""
        lockid = self.choose_lockid()
        function = self.random.choice(["unlock", "renew", "force_unlock"])
        identity = self.new_identity()
        self.call(
            "pry",
            f"SELECT tfstate_{function}(%s, %s)",
            (lockid, identity),
            lockid=lockid,
            id=identity,
        )

    def step_look(self) -> None:
        """Reads the list of all holders, or of all waiters."""
        if self.random.random() < 0.5:
            self.call(
                "look",
                "SELECT coalesce(json_agg(json_build_array(lockid, id, fence)), '[]')"
                " FROM tfstate_holders",
                database=self.database,
            )
            return
        self.call(
            "ghosts",
            "SELECT count(*) FROM (SELECT position, row_number() OVER"
            " (PARTITION BY lockid ORDER BY position) AS n FROM tfstate_waiters"
            " WHERE lockid IS NOT NULL) w WHERE n <> position",
            id="position",
        )

    def step_burst(self) -> None:
        """Takes and releases locks that few other clients want."""
        for _ in range(self.random.randrange(10, 60)):
            lockid = f"busy/{self.random.randrange(64)}"
            if self.random.random() < 0.1:
                self.pass_through(lockid)
                continue
            how = "lock" if self.random.random() < 0.5 else "try_lock"
            lock = self.ask(lockid, self.choose_mode(), "0", 0, None, how)
            if lock:
                self.release(lock)

    def pass_through(self, lockid: str) -> None:
        """Takes and releases a lock in one statement."""
        identity = self.new_identity()
        mode = self.choose_mode()
        self.call(
            "pass",
            "SELECT tfstate_unlock(%s, l.id) FROM tfstate_lock(%s, %s, %s) l",
            (lockid, lockid, json.dumps({"ID": identity}), mode),
            lockid=lockid,
            id=identity,
            mode=mode,
            wait=0,
        )

    def step_discard(self) -> None:
        """DISCARD ALL ends the session locks for good."""
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
        """A waiter whose client has gone is not given the lock."""
        if self.route != "direct" or self.held:
            return
        lockid = f"own/{self.number}"
        identity = self.new_identity()
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
        """Asks for a lock on another connection, and closes that when it waits.

        Returns the ID of the lock, or None if it was not seen to wait.
        """
        identity = self.new_identity()
        waits = False
        other = None
        self.log_start("go", {"id": identity, "wait": 8, **facts})
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

    def step_connect(self) -> None:
        self.connect()

    def step(self) -> None:
        try:
            if self.connection is None:
                self.connect()
            if self.prepared:
                self.finish_prepared()
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
        """Notes what an earlier incarnation holds in durable mode."""
        row = self.call(
            "hold",
            "SELECT json_agg(json_build_array(lockid, id)) FROM tfstate_holders"
            " WHERE mode = 'durable' AND id LIKE %s",
            (f"{self.number}.%",),
        )
        self.left = [(lockid, identity) for lockid, identity in row[0] or []]
        row = self.call(
            "hold",
            "SELECT json_agg(gid) FROM pg_prepared_xacts"
            " WHERE database = current_database() AND gid LIKE %s",
            (f"{self.number}.%",),
        )
        self.prepared = [(gid, "rollback") for gid in row[0] or []]

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
