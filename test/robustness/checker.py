"""Checks from the logs of a round, and from the tables after it, that every promise was kept.

What a client knows is less than what was the case.  It knows that it holds a lock

    from    the end of the call that took it, even in an open transaction
    until   the start of what ends it: the unlock, the commit of the transaction that unlocks, a
            rollback, another client's force-unlock, the end of the lease.  Whatever lives in the
            session (session mode, an open transaction) is known only up to the start of the last
            statement that the session has answered.

So if two such intervals of one lockid overlap, the holdings did, too, and no delay between the
server and a log can produce a false violation.  A call of unknown outcome proves nothing, and
excuses what it may have done.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Iterator, Optional

from faults import FAILING_OVER
from log import read_log

QUEUED = 0.3  # seconds after which an undisturbed waiter must have been in the queue
HEAD_POLL = 1.0  # seconds after which a waiter checks the lock by itself
HAND_OVER = 0.7  # seconds that a hand-over may take; a lost wake-up takes a whole one
POOLED = ("session", "transaction")  # routes
ELSEWHERE = ("go", "rival")  # over another connection
INSIDE = ("savepoint", "release", "rollback to", "rollback", "commit", "prepare")  # in a transaction
UNDEFINED = "42704"  # a prepared transaction that does not exist
UNSUPPORTED = "0A000"  # preparing a transaction that waited for a lock of its own session
FULL = ("53100", "53200", "53300")  # disk, lock table, connections
EXPECTED = ("55P03", "55000", "55006", "57014", "40001", "40P01", *FULL, UNDEFINED)
TIMER_ERROR = 0.01
CLOCK_ERROR = 0.1  # seconds by which the server's clock may differ from ours
CREATION = "tfstate_pg/new workspace"
FORCE_DELAY = 15.0  # seconds in which a force-unlock of unknown outcome may still take effect


@dataclass
class Operation:
    client: str
    number: int
    do: str
    facts: dict[str, Any]
    start: float
    end: float = inf
    outcome: str = "unknown"
    code: str = ""
    row: Any = None
    server: Optional[int] = None  # the port of the server that answered, in a cluster


@dataclass
class Holding:
    """A lock that a client was given, committed or not."""

    lockid: str
    id: str
    mode: str
    fence: int
    lock: Operation
    until: float = inf  # known to be held from the end of lock to here
    alive_until: float = inf  # the session that took it lived at least until here
    seen_from: float = inf  # others could see it from here on
    ttl: Optional[float] = None
    lease_until: float = inf
    lease_over: float = inf  # it had certainly expired by then
    acknowledged: bool = False  # the client knows that it is committed
    freed: Optional[float] = None  # it had certainly ended by then
    again: bool = False  # the transaction had it before, and did not have to queue
    wait: Optional[float] = 0
    pooled: bool = False

    def end_at(self, moment: float) -> None:
        self.until = min(self.until, moment)

    def extend(self, renew: Operation) -> None:
        """An expired lease may have been held by another in between, which then rolled back."""
        self.ttl = renew.facts["ttl"] or self.ttl
        if renew.end < self.lease_until:
            self.lease_until = renew.start + self.ttl

    def perhaps_extend(self, renew: Operation) -> None:
        """The new lease can be shorter than the old one."""
        self.lease_until = min(self.lease_until, renew.start + (renew.facts["ttl"] or self.ttl))
        self.ttl = min(self.ttl, renew.facts["ttl"] or self.ttl)
        self.lease_over = inf

    def known_until(self) -> float:
        return min(self.until, self.lease_until)


@dataclass
class Release:
    """What ended a holding, or may have ended it."""

    id: str
    how: str
    start: float
    end: float
    sure: bool
    flushed: bool


@dataclass
class Transaction:
    """Everything taken or released is stored with the savepoint level to which it belongs."""

    savepoints: list[int] = field(default_factory=list)  # their names, from the first level on
    taken: list[tuple[int, Holding]] = field(default_factory=list)
    released: list[tuple[int, str]] = field(default_factory=list)
    forced: list[str] = field(default_factory=list)
    pinned: list[Any] = field(default_factory=list)  # IDs, or lockids and fences
    renewed: list[tuple[Holding, Operation]] = field(default_factory=list)
    writes: list[Operation] = field(default_factory=list)
    free_writes: list[Operation] = field(default_factory=list)

    def level(self) -> int:
        """Returns how many savepoints are open."""
        return len(self.savepoints)

    def level_of(self, savepoint: int) -> int:
        """Returns the level that begins with the newest savepoint of a name."""
        return self.level() - self.savepoints[::-1].index(savepoint)

    def keep_leases(self, moment: float) -> None:
        """Nothing that the transaction has taken or renewed ends before this."""
        taken = [holding for _, holding in self.taken]
        for holding in taken + [holding for holding, _ in self.renewed]:
            holding.lease_over = max(holding.lease_over, moment)


@dataclass
class Write:
    lockid: str
    fence: int
    commit: Operation
    flushed: bool


class Facts:
    """What all clients of a round know together."""

    def __init__(self) -> None:
        self.holdings: list[Holding] = []
        self.stock: list[Holding] = []
        self.releases: dict[str, list[Release]] = defaultdict(list)
        self.wild_forces: list[Operation] = []  # without an ID, of unknown outcome
        self.possible: dict[str, Operation] = {}  # IDs of locks of unknown outcome
        self.behind: list[tuple[str, int, Operation]] = []  # fences from a former primary
        self.not_held: list[Operation] = []  # unlocks that found no lock
        self.locks: list[tuple[Operation, bool]] = []  # calls, and whether through a pooler
        self.timed_out: list[Operation] = []
        self.unlisted: list[Operation] = []
        self.unexchanged: list[Operation] = []
        self.adopted: list[Operation] = []
        self.looks: list[Operation] = []
        self.passing: dict[str, Operation] = {}  # IDs of locks for one statement
        # of a transaction whose PREPARE was not seen to succeed nothing is known
        self.prepared: dict[str, Transaction] = defaultdict(Transaction)
        self.undone: list[Operation] = []  # prepared transactions that were rolled back
        self.renewals: list[Operation] = []
        self.wrong: list[Operation] = []  # releases of another holding than the named one
        self.writes: list[Write] = []
        self.free_writes: list[tuple[Operation, Operation]] = []  # without a fence, and the commit
        self.pinned: dict[Any, float] = {}  # when the row could be removed again
        self.passes: list[Operation] = []  # locks that one statement took and released
        self.rivals: list[Operation] = []
        self.remains: list[Operation] = []  # where something was left behind
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.unexpected: list[Operation] = []


class ClientReader:
    """Follows one client through its log."""

    def __init__(self, facts: Facts, faults: list[dict[str, Any]]):
        self.facts = facts
        self.lost = [fault for fault in faults if fault["lost"]]
        self.fails_over = any(fault.get("do") in FAILING_OVER for fault in faults)
        self.server: Optional[int] = None  # the port of the server that it is connected to
        self.adrift = False  # in a transaction that cannot commit
        self.by_id: dict[str, Holding] = {}
        self.on_connection: list[Holding] = []  # all locks that the session took
        self.transaction: Optional[Transaction] = None
        self.alive = 0.0
        self.route = ""
        self.flushes = True

    def read(self, path: Path) -> None:
        for operation in read_operations(path):
            operation.server = self.server
            if self.proves_nothing(operation):
                self.keep_fence(operation)
                operation.outcome, operation.code, operation.row = "unknown", "", None
                if self.adrift and self.transaction:
                    self.do_commit(operation)
            self.facts.counts[operation.do] += 1
            self.facts.counts[operation.outcome] += 1
            if operation.outcome == "failed":
                self.facts.errors[f"{operation.do} {operation.code}".strip()] += 1
            if operation.outcome == "failed" and not is_expected(operation):
                self.facts.unexpected.append(operation)
            if operation.do == "connect":
                self.lose_connection()
                self.route = operation.facts["route"]
                self.server = operation.row[0] if operation.row else None
                self.flushes = True
            elif operation.outcome != "unknown":
                self.alive = operation.start
            handler = getattr(self, "do_" + operation.do.replace(" ", "_"), None)
            if handler and not (self.adrift and operation.do in INSIDE):
                handler(operation)
            if operation.outcome == "failed" and self.transaction:
                self.abort(operation, self.transaction.level())
            if operation.outcome == "unknown" and operation.do not in ELSEWHERE:
                self.lose_connection()
        self.lose_connection()

    def proves_nothing(self, operation: Operation) -> bool:
        """Returns true if a former primary answered, without asking the others.

        It answers from what it knows, and session locks and open transactions work.  Only a durable
        lock has to wait for a standby.
        """
        if operation.do == "connect":
            self.adrift = False
        if operation.do == "connect" or self.adrift:
            return self.adrift
        if not any(
            fault["lost"] == self.server and fault["from"] < operation.end < fault["to"]
            for fault in self.lost
        ):
            return False
        if operation.do == "commit" and operation.outcome == "ok":
            return all(holding.mode != "durable" for _, holding in self.transaction.taken)
        self.adrift = operation.do == "begin" or self.transaction is not None
        if operation.do != "lock" or operation.outcome != "ok" or self.adrift:
            return True
        granted = len(operation.row) != 4 or operation.row[0]
        return not granted or operation.facts["mode"] != "durable"

    def keep_fence(self, operation: Operation) -> None:
        """It may have been used, whatever became of the lock."""
        if operation.do == "lock" and operation.outcome == "ok":
            tried = len(operation.row) == 4
            fence = operation.row[2 if tried else 1]
            if isinstance(fence, int) and (operation.row[0] or not tried):
                self.facts.behind.append((database(operation.facts["lockid"]), fence, operation))

    def lose_connection(self) -> None:
        self.end_transaction(inf)  # how long the server keeps it open is unknown
        for holding in self.on_connection:
            holding.alive_until = min(holding.alive_until, self.alive)
            if holding.mode != "durable" or not holding.acknowledged:
                holding.end_at(self.alive)
        self.on_connection = []

    def end_transaction(self, moment: float) -> None:
        """An open transaction keeps what it took and wants to change from others, expired or not."""
        if self.transaction:
            self.transaction.keep_leases(moment)
            for key in self.transaction.pinned:
                self.facts.pinned[key] = max(moment, self.facts.pinned.get(key, 0))
        self.transaction = None

    def do_set(self, operation: Operation) -> None:
        if operation.facts.get("level") and operation.outcome == "ok":
            self.flushes = operation.facts["level"] == "on"

    def do_discard(self, operation: Operation) -> None:
        for holding in self.on_connection:
            holding.alive_until = min(holding.alive_until, operation.start)
            if holding.mode != "durable":
                holding.end_at(operation.start)
        self.flushes = True

    def do_lock(self, operation: Operation) -> None:
        facts = operation.facts
        self.facts.locks.append((operation, self.route in POOLED))
        if operation.outcome == "unknown":
            self.facts.possible[facts["id"]] = operation
        if operation.outcome == "failed" and operation.code == "55P03":
            self.facts.timed_out.append(operation)
        if operation.outcome != "ok":
            return
        tried = len(operation.row) == 4
        if tried and not operation.row[0]:
            self.facts.timed_out.append(operation)
            return
        fence = operation.row[2 if tried else 1]
        if fence is None:  # the lock of the shim, which is looked up
            self.facts.unlisted.append(operation)
            self.facts.possible[facts["id"]] = operation
            return
        if isinstance(fence, list):
            fence, identity = fence
            if identity != facts["id"]:
                self.facts.adopted.append(operation)
                return
        holding = Holding(
            lockid=facts["lockid"],
            id=facts["id"],
            mode=facts["mode"],
            fence=fence,
            lock=operation,
            wait=facts["wait"],
            pooled=self.route in POOLED,
        )
        if facts["ttl"]:
            holding.ttl = facts["ttl"]
            holding.lease_until = operation.start + facts["ttl"]
            holding.lease_over = operation.end + facts["ttl"]
        if self.route == "transaction":
            holding.alive_until = 0
        self.facts.holdings.append(holding)
        self.by_id[holding.id] = holding
        self.on_connection.append(holding)
        if self.transaction:
            self.take_again(holding)
            self.transaction.taken.append((self.transaction.level(), holding))
        else:
            self.acknowledge(holding, operation)

    def take_again(self, holding: Holding) -> None:
        """A transaction may take what it has released, or what has expired, before it commits."""
        earlier = [self.by_id.get(identity) for _, identity in self.transaction.released]
        for other in earlier + [other for _, other in self.transaction.taken]:
            if other and other.lockid == holding.lockid:
                other.end_at(holding.lock.start)
                holding.again = True

    def acknowledge(self, holding: Holding, operation: Operation) -> None:
        holding.acknowledged = True
        holding.seen_from = min(holding.seen_from, operation.end)

    def do_exchange(self, operation: Operation) -> None:
        """The creation of a workspace exchanges the creation key for the lock of the workspace."""
        if operation.outcome == "unknown":
            self.facts.possible[operation.facts["id"]] = operation
        if operation.outcome != "ok":
            return
        if operation.row is None:
            self.facts.unexchanged.append(operation)
            return
        self.transaction.released.append((self.transaction.level(), operation.facts["creation"]))
        operation.row.insert(0, True)
        self.do_lock(operation)

    def do_roll_back(self, operation: Operation) -> None:
        if operation.outcome != "failed":
            self.facts.passing[operation.facts["id"]] = operation

    def do_pass(self, operation: Operation) -> None:
        self.facts.passes.append(operation)
        self.facts.locks.append((operation, self.route in POOLED))
        if operation.outcome == "failed" and operation.code == "55P03":
            self.facts.timed_out.append(operation)
        elif operation.outcome != "failed":
            self.facts.passing[operation.facts["id"]] = operation

    def do_pry(self, operation: Operation) -> None:
        if operation.outcome == "ok":
            self.facts.wrong.append(operation)

    def do_look(self, operation: Operation) -> None:
        if operation.outcome == "ok":
            self.facts.looks.append(operation)

    def do_go(self, operation: Operation) -> None:
        self.facts.possible[operation.facts["id"]] = operation

    def do_stock(self, operation: Operation) -> None:
        if operation.outcome == "ok" and operation.row[0]:
            facts = operation.facts
            holding = Holding(facts["lockid"], facts["id"], "stock", 0, operation)
            self.facts.stock.append(holding)
            self.by_id[holding.id] = holding
            self.on_connection.append(holding)

    def do_stock_unlock(self, operation: Operation) -> None:
        holding = self.by_id.get(operation.facts["id"])
        if holding:
            holding.end_at(operation.start)

    def do_renew(self, operation: Operation) -> None:
        holding = self.by_id.get(operation.facts["id"])
        if holding is None or operation.outcome == "failed":
            return
        if operation.outcome == "unknown":
            holding.perhaps_extend(operation)
            return
        self.facts.renewals.append(operation)
        ttl = operation.facts["ttl"] or holding.ttl
        holding.lease_over = max(holding.lease_over, operation.end + ttl)
        if self.transaction:
            self.transaction.renewed.append((holding, operation))
        else:
            holding.extend(operation)

    def add_release(self, identity: str, how: str, operation: Operation, flushed: bool) -> None:
        sure = operation.outcome == "ok"
        # COMMIT PREPARED wakes nobody
        end = operation.end + (HEAD_POLL if operation.do == "commit prepared" else 0)
        release = Release(identity, how, operation.start, end, sure, flushed)
        self.facts.releases[identity].append(release)

    def do_unlock(self, operation: Operation) -> None:
        if operation.outcome == "ok" and isinstance(operation.row[0], dict):
            if operation.row[0]["ID"] != operation.facts["id"]:
                self.facts.wrong.append(operation)
        if operation.code == "55000" or operation.row == [False]:
            self.facts.not_held.append(operation)
        elif self.transaction:
            if operation.outcome == "ok":
                self.transaction.released.append((self.transaction.level(), operation.facts["id"]))
                self.transaction.pinned.append(operation.facts["id"])
        elif operation.outcome != "failed":
            self.add_release(operation.facts["id"], "unlock", operation, self.flushes)

    def do_force(self, operation: Operation) -> None:
        if operation.outcome == "ok":
            if self.transaction:
                self.transaction.forced.append(operation.row[0])
                self.transaction.pinned.append(operation.row[0])
            else:
                self.add_release(operation.row[0], "force", operation, self.flushes)
            if operation.facts["id"] not in (None, operation.row[0]):
                self.facts.wrong.append(operation)
        elif operation.outcome == "failed" or self.transaction:
            return
        elif operation.facts["id"]:
            self.add_release(operation.facts["id"], "force", operation, self.flushes)
        else:
            self.facts.wild_forces.append(operation)

    def do_remains(self, operation: Operation) -> None:
        if operation.outcome == "ok" and operation.row[0] != 0:
            self.facts.remains.append(operation)

    do_ghosts = do_remains

    def do_begin(self, operation: Operation) -> None:
        if operation.outcome == "ok":
            self.transaction = Transaction()

    def do_savepoint(self, operation: Operation) -> None:
        if operation.outcome == "ok":
            self.transaction.savepoints.append(operation.facts["name"])

    def do_release(self, operation: Operation) -> None:
        if operation.outcome == "ok":
            transaction = self.transaction
            level = transaction.level_of(operation.facts["name"])
            del transaction.savepoints[level - 1 :]
            for entries in (transaction.taken, transaction.released):
                entries[:] = [(min(inner, level - 1), entry) for inner, entry in entries]

    def abort(self, operation: Operation, level: int) -> None:
        """Everything from a savepoint level on ends with the start of an operation."""
        transaction = self.transaction
        transaction.keep_leases(operation.end)
        for inner, holding in transaction.taken:
            if inner >= level:
                holding.end_at(operation.start)
                holding.freed = None if holding.again else operation.end
        transaction.taken = [entry for entry in transaction.taken if entry[0] < level]
        transaction.released = [entry for entry in transaction.released if entry[0] < level]

    def do_rollback_to(self, operation: Operation) -> None:
        """The savepoint still exists after this, with nothing in it."""
        if operation.outcome == "ok":
            level = self.transaction.level_of(operation.facts["name"])
            self.abort(operation, level)
            del self.transaction.savepoints[level:]

    def do_rollback(self, operation: Operation) -> None:
        if operation.outcome == "ok" and self.transaction:
            self.abort(operation, 0)
            self.end_transaction(operation.end)

    def do_write(self, operation: Operation) -> None:
        if operation.outcome == "ok":
            self.transaction.writes.append(operation)
            facts = operation.facts
            self.transaction.pinned.append((facts["lockid"], facts["fence"]))

    def do_free_write(self, operation: Operation) -> None:
        if operation.outcome == "ok":
            self.transaction.free_writes.append(operation)

    def do_rival(self, operation: Operation) -> None:
        self.facts.possible[operation.facts["id"]] = operation
        if operation.outcome == "ok":
            self.facts.rivals.append(operation)

    def do_commit(self, operation: Operation) -> None:
        transaction = self.transaction
        if operation.outcome == "failed":
            self.abort(operation, 0)
            self.end_transaction(operation.end)
            return
        self.commit_locks(transaction, operation, self.flushes)
        for holding, renew in transaction.renewed:
            if operation.outcome == "ok":
                holding.extend(renew)
            else:
                holding.perhaps_extend(renew)
        if operation.outcome == "ok":
            for write in transaction.writes:
                lockid, fence = write.facts["lockid"], write.facts["fence"]
                self.facts.writes.append(Write(lockid, fence, operation, self.flushes))
            for write in transaction.free_writes:
                self.facts.free_writes.append((write, operation))
            self.end_transaction(operation.end)

    def commit_locks(self, transaction: Transaction, operation: Operation, flushed: bool) -> None:
        for _, identity in transaction.released:
            self.add_release(identity, "unlock", operation, flushed)
        for identity in transaction.forced:
            self.add_release(identity, "force", operation, flushed)
        for _, holding in transaction.taken:
            if operation.outcome == "ok":
                self.acknowledge(holding, operation)
            else:
                self.facts.possible[holding.id] = holding.lock

    # A prepared transaction does not end with its session

    def do_prepare(self, operation: Operation) -> None:
        transaction = self.transaction
        if operation.outcome == "failed":
            self.abort(operation, 0)
        for _, holding in transaction.taken:
            holding.alive_until = min(holding.alive_until, operation.start)
            if operation.outcome == "ok":
                self.on_connection.remove(holding)
            else:
                self.facts.possible[holding.id] = holding.lock
        if operation.outcome == "ok":
            self.facts.prepared[operation.facts["gid"]] = transaction
        self.end_transaction(operation.end if operation.outcome == "failed" else inf)

    def do_commit_prepared(self, operation: Operation) -> None:
        """If it did not wait for the standby, the standby may still have it as prepared."""
        if self.fails_over and not self.flushes:
            operation.outcome = "unknown"
        if operation.outcome != "failed":
            self.commit_locks(self.facts.prepared[operation.facts["gid"]], operation, True)

    def do_rollback_prepared(self, operation: Operation) -> None:
        if operation.outcome != "failed":
            self.facts.undone.append(operation)


def read_operations(path: Path) -> Iterator[Operation]:
    """Returns the operations in the log of a client, the last one perhaps without an end."""
    operation = None
    for line in read_log(path):
        if "end" in line and operation:
            operation.end, operation.outcome = line["t"], line["end"]
            operation.code, operation.row = line["code"], line["row"]
            yield operation
            operation = None
        elif "n" in line:
            operation = Operation(path.name, line["n"], line["do"], line, line["t"])
    if operation:
        yield operation


class Checker:
    """Checks the facts of a round.  tables is what run.py read when everything was quiet."""

    def __init__(self, facts: Facts, faults: list[dict[str, Any]], tables: dict[str, Any]):
        self.facts = facts
        self.tables = tables
        self.violations: list[tuple[str, str]] = []
        self.disturbances = sorted(
            (fault["from"], fault["to"]) for fault in faults if fault["disturbs"]
        )
        self.crashed = any(fault["crash"] for fault in faults)
        self.clock_jumps = [(fault["from"], fault["to"]) for fault in faults if fault["clock"]]
        self.holders = {row["id"]: row for row in tables["holders"]}
        self.history = {row["id"]: row for row in tables["history"]}
        self.calls: dict[str, list[Operation]] = defaultdict(list)
        self.by_lockid: dict[str, list[Holding]] = defaultdict(list)
        for holding in facts.holdings:
            self.by_lockid[holding.lockid].append(holding)
        for holdings in self.by_lockid.values():
            holdings.sort(key=lambda holding: holding.fence)

    def violation(self, kind: str, text: str) -> None:
        self.violations.append((kind, text))

    def check(self) -> list[tuple[str, str]]:
        self.apply_releases()
        self.check_overlap()
        self.check_stock_overlap()
        self.check_refusals()
        self.check_holder_named()
        self.check_looks()
        self.check_adoptions()
        self.check_fences()
        self.check_fences_behind()
        self.check_not_held()
        self.check_durable()
        self.check_phantoms()
        self.check_history()
        self.check_writes()
        self.check_free_writes()
        self.check_renewals()
        self.check_patience()
        self.check_order()
        self.check_hand_over()
        self.check_waits_in_vain()
        for operation in self.facts.remains:
            self.violation("left behind", describe(operation))
        for operation in self.facts.unlisted:
            self.violation("lock lost", f"not shown as held: {describe(operation)}")
        for operation in self.facts.wrong:
            self.violation("wrong release", f"{operation.row} by {describe(operation)}")
        for operation in self.facts.unexpected:
            self.violation("unexpected error", f"{operation.code} of {describe(operation)}")
        for text in self.tables["problems"]:
            self.violation("not clean at the end", text)
        return self.violations

    def is_disturbed(self, start: float, end: float) -> bool:
        return any(a <= end and b >= start for a, b in self.disturbances)

    def apply_releases(self) -> None:
        """Ends holdings that another client's release ended, or may have ended."""
        for holding in self.facts.holdings:
            for release in self.facts.releases[holding.id]:
                holding.end_at(release.start)
                if self.is_lasting(release) or (release.sure and holding.mode == "session"):
                    holding.freed = min(release.end, holding.freed or inf)
            for force in self.facts.wild_forces:
                if matches(force, holding):
                    holding.end_at(force.start)
            for start, end in self.clock_jumps:
                if end > holding.lock.start:
                    holding.lease_until = min(holding.lease_until, start)
            pinned = self.facts.pinned
            over = max(
                holding.lease_over,
                pinned.get(holding.id, 0),
                pinned.get((holding.lockid, holding.fence), 0),
            )
            if over < inf and not self.clock_jumps:
                holding.freed = min(over, holding.freed or inf)
        for undo in self.facts.undone:
            for _, holding in self.facts.prepared[undo.facts["gid"]].taken:
                holding.end_at(undo.start)
                if undo.outcome == "ok":
                    holding.freed = min(undo.end, holding.freed or inf)

    def check_overlap(self) -> None:
        for holdings in self.by_lockid.values():
            last: Optional[Holding] = None
            for holding in sorted(holdings, key=lambda holding: holding.lock.end):
                if last and overlap(last, holding):
                    self.violation("overlap", f"{tell(last)} and {tell(holding)}")
                if last is None or holding.known_until() > last.known_until():
                    last = holding

    def check_stock_overlap(self) -> None:
        """A Terraform without tfstate keeps out, and is kept out by, live sessions."""
        for stock in self.facts.stock:
            for holding in self.by_lockid[stock.lockid]:
                if holding.lock.client == stock.lock.client:
                    continue  # a session does not keep itself out
                until = min(holding.known_until(), holding.alive_until)
                if max(stock.lock.end, holding.lock.end) < min(stock.until, until):
                    self.violation("overlap", f"{tell(holding)} and {tell(stock)}, without tfstate")

    def over_at(self, holding: Holding) -> float:
        """Returns when it can no longer be in the way of others."""
        releases = self.facts.releases[holding.id]
        if holding.freed is not None:
            return holding.freed
        row = self.history.get(holding.id)
        if row and not self.clock_jumps:
            recorded = row["released_at"] - self.tables["clock"] + CLOCK_ERROR
            return max([recorded] + [release.start + FORCE_DELAY for release in releases])
        if holding.acknowledged or holding.until == inf or holding.id in self.holders:
            return inf
        return holding.until + FORCE_DELAY

    def occupations(self, lockid: str) -> list[tuple[float, float, Optional[Operation]]]:
        """Returns the times in which a try could fail, including that of a call that may have."""
        times: list[tuple[float, float, Optional[Operation]]] = []
        newer = inf  # when the next holding shows that this one was over
        for holding in reversed(self.by_lockid[lockid]):
            times.append((holding.lock.start, min(newer, self.over_at(holding)), None))
            if holding.acknowledged and not holding.again:  # else a lease can be renewed after it
                newer = holding.lock.end
        for call in self.calls[lockid]:
            row = self.history.get(call.facts["id"])
            if call.outcome != "unknown":
                end = call.end
            elif row:
                end = row["released_at"] - self.tables["clock"] + CLOCK_ERROR
            elif call.facts["id"] in self.holders or call.facts["mode"] == "session":
                end = inf
            else:
                end = call.start + FORCE_DELAY
            times.append((call.start, max(end, call.end), call))
        return sorted(times, key=lambda time: time[0])

    def check_refusals(self) -> None:
        """A try fails only if the lock is held, or another try is taking it.

        Not after a crash, which can restore a durable lock whose release was not flushed.
        """
        if self.clock_jumps or self.crashed:
            return
        for call, _ in self.facts.locks:
            self.calls[call.facts["lockid"]].append(call)
        for call in self.facts.possible.values():
            if call.do == "go" or call.outcome == "ok":
                self.calls[call.facts["lockid"]].append(call)
        refused: dict[str, list[Operation]] = defaultdict(list)
        for operation in self.facts.timed_out:
            lockid = operation.facts["lockid"]
            if "/w" not in lockid and CREATION not in lockid:  # others use these, too
                refused[lockid].append(operation)
        for lockid, operations in refused.items():
            self.check_refusals_of(self.occupations(lockid), operations)

    def check_refusals_of(
        self,
        times: list[tuple[float, float, Optional[Operation]]],
        operations: list[Operation],
    ) -> None:
        starts = [start for start, _, _ in times]
        last: list[tuple[float, float]] = []  # the latest ends up to here, of two different calls
        owners: list[tuple[Optional[Operation], Optional[Operation]]] = []
        for _, end, owner in times:
            (first, second), (one, two) = (last[-1], owners[-1]) if last else ((0, 0), (None, None))
            if end >= first:
                first, second, one, two = end, first, owner, one
            elif end > second:
                second, two = end, owner
            last.append((first, second))
            owners.append((one, two))
        for operation in operations:
            before = bisect_right(starts, operation.end) - 1
            end = last[before][1 if owners[before][0] is operation else 0]
            if end < operation.start:
                self.violation("refused for nothing", describe(operation))

    def check_holder_named(self) -> None:
        """A try that fails does not name a holder that has released the lock."""
        known = {holding.id: holding for holding in self.facts.holdings}
        for refusal in self.facts.timed_out:
            named = refusal.row[1] if refusal.row else None
            if named in known and self.had_ended(known[named], refusal.start):
                self.violation("wrong holder", f"{tell(known[named])}, {describe(refusal)}")

    def check_looks(self) -> None:
        """The list of holders has all certain holders, and only possible ones."""
        known = {holding.id: holding for holding in self.facts.holdings}
        ends = {
            lockid: [holding.lock.end for holding in holdings]
            for lockid, holdings in self.by_lockid.items()
        }
        for look in self.facts.looks:
            shown = [f"{look.facts['database']}:{row[0]}" for row in look.row[0]]
            for lockid, (_, identity, fence) in zip(shown, look.row[0]):
                holding = known.get(identity)
                if holding and (holding.lockid, holding.fence) != (lockid, fence):
                    self.violation("list", f"{tell(holding)} is shown with {fence}")
                if holding and self.had_ended(holding, look.start):
                    self.violation("list", f"{tell(holding)} is still in {describe(look)}")
            for lockid in self.by_lockid:
                last = bisect_right(ends[lockid], look.start) - 1
                if last < 0 or lockid in shown or database(lockid) != look.facts["database"]:
                    continue
                holding = self.by_lockid[lockid][last]
                if holding.ttl:
                    continue  # it is shown as expired as long as its renewal is not committed
                if holding.seen_from < look.start and holding.known_until() > look.end:
                    self.violation("list", f"{tell(holding)} is not in {describe(look)}")

    def check_adoptions(self) -> None:
        """A run that reconnects gets its own lock again, with its fence."""
        known = {holding.id: holding for holding in self.facts.holdings}
        for adoption in self.facts.adopted:
            fence, identity = adoption.row[1]
            holding = known.get(identity)
            if holding is None:
                continue  # the call that took it was not seen to end
            if self.had_ended(holding, adoption.start) or holding.fence != fence:
                self.violation("adoption", f"{tell(holding)} by {describe(adoption)}")
        for rival in self.facts.rivals:
            holding = known.get(rival.facts["lock"])
            if self.is_disturbed(rival.start, rival.end):
                continue  # the session that has the lock can be gone before its client knows
            if holding and not self.may_have_ended(holding, rival.end):
                self.violation("adoption", f"{tell(holding)} while it lives, {describe(rival)}")
        for exchange in self.facts.unexchanged:
            holding = known.get(exchange.facts["creation"])
            if holding and not self.may_have_ended(holding, exchange.end):
                self.violation("lock lost", f"{tell(holding)}, {describe(exchange)}")

    def check_fences(self) -> None:
        """No fence is given out twice, and they grow in the order in which clients saw them."""
        seen: dict[tuple[str, int], Holding] = {}
        for holding in self.facts.holdings:
            number = (database(holding.lockid), holding.fence)
            if number in seen:
                self.violation("fence given twice", f"{tell(seen[number])} and {tell(holding)}")
            seen[number] = holding
        for holdings in self.by_lockid.values():
            ended = sorted(holdings, key=lambda holding: holding.lock.end)
            certain = [holding for holding in ended if holding.known_until() > holding.lock.end]
            for before, after in zip(certain, certain[1:]):
                if before.fence > after.fence:
                    self.violation("fence", f"{tell(before)} and {tell(after)}")
            ends = [holding.lock.end for holding in ended]
            greatest: list[Holding] = []
            for holding in ended:
                greatest.append(max(greatest[-1:] + [holding], key=lambda h: h.fence))
            for holding in holdings:
                before = bisect_right(ends, holding.lock.start)
                if before and greatest[before - 1].fence > holding.fence:
                    self.violation("fence", f"{tell(greatest[before - 1])} and {tell(holding)}")

    def check_fences_behind(self) -> None:
        """A primary that is cut off gives smaller fences than the one that has replaced it."""
        for name, fence, lock in self.facts.behind:
            for holding in self.facts.holdings:
                if database(holding.lockid) != name or holding.fence > fence:
                    continue
                text = f"{fence} by {describe(lock)}, {tell(holding)}"
                if holding.fence == fence:
                    self.violation("fence given twice", text)
                elif holding.lock.server != lock.server and holding.lock.start > lock.end:
                    self.violation("fence", text)

    def may_have_ended(self, holding: Holding, before: float = inf) -> bool:
        """Returns true if anything that a client did or saw could have ended it before a time."""
        return (
            any(release.start < before for release in self.facts.releases[holding.id])
            or any(matches(force, holding) for force in self.facts.wild_forces)
            or holding.lease_until < before
        )

    def check_not_held(self) -> None:
        """An unlock that finds no lock, although none was released."""
        known = {holding.id: holding for holding in self.facts.holdings if holding.acknowledged}
        for unlock in self.facts.not_held:
            holding = known.get(unlock.facts["id"])
            if holding is None or self.may_have_ended(holding, unlock.end):
                continue
            if holding.mode == "durable" or holding.until >= unlock.start:
                self.violation("lock lost", f"{tell(holding)}, {describe(unlock)}")

    def check_durable(self) -> None:
        """What was acknowledged is in the tables."""
        for holding in self.facts.holdings:
            if not holding.acknowledged:
                continue
            held, ended = self.holders.get(holding.id), self.history.get(holding.id)
            releases = self.facts.releases[holding.id]
            if held and ended:
                self.violation("table", f"{tell(holding)} is held and in history")
            for row in (held, ended):
                if row and (row["fence"], row["lockid"]) != (holding.fence, holding.lockid):
                    self.violation("table", f"{tell(holding)} has fence {row['fence']} there")
            if holding.mode == "durable" and not held and not ended:
                self.violation("lock lost", f"{tell(holding)} is in no table")
            if ended and not self.is_explained(holding, ended["how"]):
                self.violation("lock lost", f"{tell(holding)} ended by {ended['how']}")
            if any(map(self.is_lasting, releases)) and not ended:
                self.violation("unlock lost", tell(holding))
        for call in self.facts.passes:
            if call.outcome == "ok" and not self.crashed and call.facts["id"] not in self.history:
                self.violation("unlock lost", describe(call))

    def is_explained(self, holding: Holding, how: str) -> bool:
        """Returns true if a client has done what the history says."""
        if how == "expired":
            return holding.lease_until < inf
        if how == "reclaimed":
            return holding.mode == "session"
        return any(release.how == how for release in self.facts.releases[holding.id]) or (
            how == "force" and any(matches(force, holding) for force in self.facts.wild_forces)
        )

    def check_phantoms(self) -> None:
        """Nothing in the tables was rolled back or refused."""
        may = set(self.facts.possible) | set(self.facts.passing)
        may.update(holding.id for holding in self.facts.holdings if holding.acknowledged)
        for table in ("holders", "history"):
            for row in self.tables[table]:
                if row["id"] not in may:
                    self.violation("phantom", f"{row['id']} of {row['lockid']} in {table}")

    def check_history(self) -> None:
        """By the server's own clock, each holding ended before the next one began."""
        by_lockid = defaultdict(list)
        for row in self.tables["history"] + self.tables["holders"]:
            by_lockid[row["lockid"]].append(row)
        for identity, count in Counter(row["id"] for row in self.tables["history"]).items():
            if count > 1:
                self.violation("table", f"{identity} is in history {count} times")
        for lockid, rows in by_lockid.items():
            rows.sort(key=lambda row: row["fence"])
            for row, after in zip(rows, rows[1:]):
                if row["fence"] == after["fence"]:
                    self.violation("fence", f"{lockid}: {row['fence']} twice in history")
                elif row.get("released_at") is None:
                    self.violation(
                        "table", f"{lockid}: {row['id']} is held, {after['id']} came later"
                    )
                elif row["how"] == "reclaimed" or self.clock_jumps:
                    continue  # when another session noticed that the session was gone, or it is not known when
                elif row["released_at"] > after["created"]:
                    self.violation("overlap", f"{lockid}: {row['id']} and {after['id']} in history")

    def is_lasting(self, release: Release) -> bool:
        """A crash can lose a release that did not wait for the disk."""
        return release.sure and (release.flushed or not self.crashed)

    def had_ended(self, holding: Holding, moment: float) -> bool:
        """Returns true if a client knew, at this time, that the holding was over.

        The commit of a durable lock flushes what was released before it; one in session mode can be
        followed by a crash that restores an earlier durable lock.  If the clock is set back, an
        expired lease is valid again until the transaction that takes it over commits.
        """
        may_revive = bool(self.clock_jumps) and holding.ttl is not None
        return any(
            self.is_lasting(release) and release.end < moment
            for release in self.facts.releases[holding.id]
        ) or any(
            newer.fence > holding.fence
            and newer.acknowledged
            and (newer.mode == "durable" or not self.crashed)
            and (newer.seen_from if newer.again or may_revive else newer.lock.end) < moment
            for newer in self.by_lockid[holding.lockid]
        )

    def check_writes(self) -> None:
        """No state was written under a fence that was no longer the newest one."""
        holdings = {(database(h.lockid), h.fence): h for h in self.facts.holdings}
        versions = Counter((row["lockid"], row["fence"]) for row in self.tables["versions"])
        pruned = {row["lockid"] for row in self.tables["versions"]} - {
            row["lockid"] for row in self.tables["versions"] if row["number"] == 1
        }
        for write in self.facts.writes:
            if write.flushed or not self.crashed:
                versions[write.lockid, write.fence] -= 1
            text = f"{write.lockid} under fence {write.fence}, {describe(write.commit)}"
            if self.had_ended(holdings[database(write.lockid), write.fence], write.commit.start):
                self.violation("stale write", text)
            if versions[write.lockid, write.fence] < 0 and write.lockid not in pruned:
                self.violation("version lost", text)
        newest: dict[str, int] = {}
        for row in self.tables["versions"]:
            if row["fence"] and row["fence"] < newest.get(row["lockid"], 0):
                self.violation("stale write", f"{row['lockid']}, version {row['number']}")
            newest[row["lockid"]] = row["fence"] or 0

    def check_free_writes(self) -> None:
        """A client that shows no fence does not write while another one has the lock."""
        for write, commit in self.facts.free_writes:
            for holding in self.by_lockid[write.facts["lockid"]]:
                start = max(holding.lock.end, write.end)
                end = min(holding.known_until(), commit.start)
                if start < end and holding.lock.client != write.client:
                    self.violation("write against the lock", f"{tell(holding)}, {describe(write)}")

    def check_renewals(self) -> None:
        """No lease was renewed after it had been released or taken over."""
        holdings = {holding.id: holding for holding in self.facts.holdings}
        for renew in self.facts.renewals:
            holding = holdings[renew.facts["id"]]
            if self.had_ended(holding, renew.start):
                self.violation("stale renewal", f"{tell(holding)}, {describe(renew)}")

    def check_patience(self) -> None:
        """A try does not wait, and a wait is neither longer nor shorter than it should be."""
        timed_out = {id(operation) for operation in self.facts.timed_out}
        for lock, pooled in self.facts.locks:
            wait = lock.facts["wait"]
            if pooled or lock.outcome == "unknown":
                continue
            if id(lock) in timed_out and self.gave_up_early(lock):
                self.violation("waited too little", describe(lock))
            if wait is None or self.clock_jumps:
                continue  # the server's timers go by the clock
            too_long = lock.start + wait + HAND_OVER
            if lock.end > too_long and not self.is_disturbed(lock.start, lock.end):
                self.violation("waited too long", describe(lock))

    def gave_up_early(self, lock: Operation) -> bool:
        """Returns true if a wait ended early without the lock, although it was not for itself."""
        wait = inf if lock.facts["wait"] is None else lock.facts["wait"]
        return (
            lock.end < lock.start + wait - TIMER_ERROR
            and not self.clock_jumps
            and not any(
                holding.lock.client == lock.client and holding.lock.start < lock.start < self.over_at(holding)
                for holding in self.by_lockid[lock.facts["lockid"]]
            )
        )

    def check_order(self) -> None:
        """Waiters are served in the order in which they came."""
        for holdings in self.by_lockid.values():
            queued_for = [holding for holding in holdings if not holding.again]
            if not queued_for:
                continue
            by_start = sorted(queued_for, key=lambda holding: holding.lock.start)
            starts = [holding.lock.start for holding in by_start]
            first = [by_start[-1]]  # of those from here on, by fence
            for holding in reversed(by_start[:-1]):
                first.append(min(first[-1], holding, key=lambda h: h.fence))
            first.reverse()
            for holding in by_start:
                queued = holding.lock.start + QUEUED
                later = bisect_right(starts, queued)
                if later == len(starts) or first[later].fence > holding.fence:
                    continue
                if self.waits_unhindered(holding.lock, queued) and not holding.pooled:
                    self.violation("order", f"{tell(first[later])} before {tell(holding)}")

    def waits_unhindered(self, lock: Operation, until: float) -> bool:
        wait = lock.facts["wait"]
        return (wait is None or wait >= 1) and not self.is_disturbed(lock.start, until)

    def is_uncertain(self, lockid: str, start: float, end: float) -> bool:
        """Returns true if there could be a holding of the lockid that no client knows of."""
        return any(
            operation.facts["lockid"] == lockid and start - FORCE_DELAY < operation.start < end
            for operation in self.facts.possible.values()
        )

    def free_from(self, holdings: list[Holding]) -> Iterator[tuple[Holding, float]]:
        """Returns each holding, and since when the lock was certainly free, up to the next one.

        A holding that is rolled back leaves an expired lease before it unchanged: it can be renewed.
        A crash that ends one in session mode can restore a durable lock before it.
        """
        free = 0.0
        for holding in holdings:
            freed = inf if holding.freed is None else holding.freed
            shows = holding.acknowledged and (holding.mode == "durable" or not self.crashed)
            free = freed if shows else max(free, freed)
            yield holding, free

    def check_hand_over(self) -> None:
        """A waiter gets the lock soon after it is free."""
        for lockid, holdings in self.by_lockid.items():
            for (before, free), after in zip(self.free_from(holdings), holdings[1:]):
                start = max(free, after.lock.start)
                late = after.lock.end - start
                if late < HAND_OVER or after.wait == 0 or after.pooled:
                    continue  # in time, or not in the queue
                if self.is_disturbed(start, after.lock.end):
                    continue
                if not self.is_uncertain(lockid, before.lock.start, after.lock.end):
                    self.violation(
                        "slow hand-over", f"{late:.2f} s: {tell(before)} to {tell(after)}"
                    )

    def check_waits_in_vain(self) -> None:
        """No waiter gave up while the lock was free."""
        for wait in self.facts.timed_out:
            lockid = wait.facts["lockid"]
            if wait.facts["wait"] is None or wait.facts["wait"] < 1:
                continue
            holdings = self.by_lockid[lockid]
            for (before, free), after in zip(self.free_from(holdings), holdings[1:] + [None]):
                start = max(free, wait.start)
                end = min(after.lock.start if after else inf, wait.end)
                if end - start < HAND_OVER or self.is_disturbed(start, end):
                    continue
                if not self.is_uncertain(lockid, before.lock.start, end):
                    self.violation("waited in vain", f"{describe(wait)}, free after {tell(before)}")


def is_expected(operation: Operation) -> bool:
    return operation.code.startswith(EXPECTED) or (
        operation.do == "prepare" and operation.code == UNSUPPORTED
    )


def database(lockid: str) -> str:
    return lockid.partition(":")[0]


def overlap(first: Holding, second: Holding) -> bool:
    """Returns true if the second, acknowledged later, was given while the first was held."""
    if second.lock.end >= first.known_until():
        return False
    return second.known_until() > second.lock.end or second.lock.start > first.lock.end


def matches(force: Operation, holding: Holding) -> bool:
    """Returns true if a force-unlock without an ID, of unknown outcome, could have ended it.

    One in session mode may have lived on after its client was last heard of.
    """
    return (
        force.facts["lockid"] == holding.lockid
        and holding.lock.start < force.start + FORCE_DELAY
        and (holding.freed is None or holding.freed >= force.start)
    )


def tell(holding: Holding) -> str:
    return (
        f"{holding.lockid} ID {holding.id} ({holding.mode}, fence {holding.fence},"
        f" {holding.lock.start:.6f} to {holding.lock.end:.6f}, known until {holding.known_until():.6f})"
    )


def describe(operation: Operation) -> str:
    return (
        f"{operation.client} operation {operation.number}: {operation.do}"
        f" {operation.facts.get('lockid', '')} ID {operation.facts.get('id')},"
        f" {operation.start:.6f} to {operation.end:.6f}"
    )


def read_faults(path: Path) -> list[dict[str, Any]]:
    """The faults of a round, with the times in which they disturb."""
    faults: dict[int, dict[str, Any]] = {}
    for line in read_log(path):
        if "end" in line:
            faults[line["n"]]["to"] = line["t"] + line["end"]
        else:
            faults[line["n"]] = {**line, "from": line["t"], "to": inf}
    return list(faults.values())


def read_facts(directory: Path, faults: list[dict[str, Any]]) -> Facts:
    facts = Facts()
    for path in sorted(directory.glob("client.*")):
        ClientReader(facts, faults).read(path)
    return facts
