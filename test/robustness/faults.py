"""What is done to the server, to the network and to clients while they lock."""

import random
import signal
import threading
from collections import Counter
from math import inf
from pathlib import Path
from typing import Any, Callable, Optional

import psycopg2

from patroni import Cluster
from log import Log, now
from proxy import Proxy
from server import Pooler, Server, send

# How long after its end a fault may still delay others, in seconds.
AFTERMATH = 0.5

# Another member of the cluster becomes the primary.
FAILING_OVER = (
    "switch over",
    "kill primary",
    "kill postgres",
    "isolate primary",
    "pause primary",
)

# The old primary lives on for a while, with its clients.
LEAVING_BEHIND = ("isolate primary", "pause primary")

# These slow down other clients.
DISTURBING = (
    *FAILING_OVER,
    "stop client",
    "stop backend",
    "kill backend",
    "kill postmaster",
    "immediate shutdown",
    "stall network",
    "disk full, WAL",
    "disk full, data",
    "lock table full",
    "rewrite table",
    "clock jump",
    "kill pooler",
)

# The server may have restarted, and lost what was not flushed.
CRASHING = (
    *FAILING_OVER,
    "kill backend",
    "kill postmaster",
    "immediate shutdown",
    "disk full, WAL",
    "disk full, data",
)


class Faults:
    def __init__(
        self,
        seed: str,
        log: Log,
        server: Server,
        proxy: Proxy,
        poolers: dict[str, Pooler],
        clients: Callable[[], list[int]],
        disks: dict[str, Path],
        clock: Optional[Path],
    ):
        self.random = random.Random(seed)
        self.log = log
        self.server = server
        self.proxy = proxy
        self.poolers = poolers
        self.clients = clients
        self.disks = disks
        self.clock = clock
        self.number = 0
        self.counts: Counter[str] = Counter()
        self.points: Counter[str] = Counter()  # where backends were interrupted
        self.point = ""
        self.later: list[tuple[float, Callable[[], None]]] = []

    # Accounts

    def begin(self, name: str) -> int:
        self.number += 1
        self.log.write(
            n=self.number,
            do=name,
            disturbs=name in DISTURBING,
            crash=name in CRASHING,
            clock=name == "clock jump",
            lost=self.server.primary().port if name in LEAVING_BEHIND else None,
        )
        return self.number

    def end(self, number: int, done: Any = True) -> None:
        self.log.write(n=number, end=AFTERMATH if done else 0)

    def inject(self, name: str) -> None:
        """Does a fault of this name.  It counts if it had a target."""
        number = self.begin(name)
        done = None
        try:
            done = getattr(self, name.replace(",", "").replace(" ", "_"))(number)
        except psycopg2.Error:
            pass  # the server is down, or full because of us
        if done:
            self.counts[name] += 1
        if done != "later":
            self.end(number, done)

    def after(self, seconds: float, what: Callable[[], None]) -> str:
        self.later.append((now() + seconds, what))
        return "later"

    def tick(self, everything: bool = False) -> None:
        """Undoes what has lasted long enough."""
        for entry in list(self.later):
            if everything or entry[0] <= now():
                self.later.remove(entry)
                entry[1]()

    # Clients and backends

    def pause(self, number: int, pid: int) -> str:
        """Also used outside tick(): the next fault may need what a stopped backend has locked."""
        seconds = self.random.choice([0.05, 0.3, 1, 2.5])
        timer = threading.Timer(seconds, send, (pid, signal.SIGCONT))
        timer.daemon = True
        send(pid, signal.SIGSTOP)
        timer.start()

        def resume() -> None:
            send(pid, signal.SIGCONT)
            self.end(number)

        return self.after(seconds, resume)

    def kill_client(self, number: int) -> bool:
        return send(self.random.choice(self.clients()), signal.SIGKILL)

    def stop_client(self, number: int) -> str:
        return self.pause(number, self.random.choice(self.clients()))

    def choose_backend(self) -> int:
        """Returns a backend at a wait point, with the same probability for each point."""
        rows = self.server.sql(
            "SELECT coalesce(wait_event, state, 'starting'), array_agg(pid) FROM pg_stat_activity"
            " WHERE usename = 'robust' GROUP BY 1 ORDER BY 1"
        )
        point, pids = self.random.choice(rows) if rows else ("", [])
        self.point = point
        return self.random.choice(pids) if pids else 0

    def kill_backend(self, number: int) -> bool:
        pid = self.choose_backend()
        done = pid != 0 and send(pid, signal.SIGKILL)
        self.server.ensure_up()
        return done

    def stop_backend(self, number: int) -> Any:
        pid = self.choose_backend()
        return self.pause(number, pid) if pid else None

    def signal_backend(self, function: str) -> bool:
        pid = self.choose_backend()
        done = pid != 0 and self.server.sql(f"SELECT {function}(%s)", pid)[0][0]
        if done:
            self.points[self.point] += 1
        return done

    def cancel(self, number: int) -> bool:
        return self.signal_backend("pg_cancel_backend")

    def terminate(self, number: int) -> bool:
        return self.signal_backend("pg_terminate_backend")

    # The server

    def kill_postmaster(self, number: int) -> bool:
        self.server.kill()
        self.server.ensure_up()
        return True

    def immediate_shutdown(self, number: int) -> bool:
        self.server.stop()
        self.server.ensure_up()
        return True

    # The cluster

    def fail_over(self, how: Callable[[Cluster], bool]) -> bool:
        done = how(self.server)
        self.server.ensure_up()
        return done

    def switch_over(self, number: int) -> bool:
        return self.fail_over(Cluster.switch_over)

    def kill_primary(self, number: int) -> bool:
        return self.fail_over(Cluster.kill_primary)

    def kill_postgres(self, number: int) -> bool:
        return self.fail_over(Cluster.kill_postgres)

    def isolate_primary(self, number: int) -> bool:
        return self.fail_over(Cluster.isolate_primary)

    def pause_primary(self, number: int) -> bool:
        return self.fail_over(Cluster.pause_primary)

    # The server's resources

    def lock_table_full(self, number: int) -> str:
        connection = self.server.connect("robust")
        try:
            connection.cursor().execute(
                "SELECT count(pg_advisory_lock(4711, i)) FROM generate_series(1, 100000) i"
            )
        except psycopg2.errors.OutOfMemory:
            pass

        def close() -> None:
            connection.close()
            self.end(number)

        return self.after(self.random.uniform(0.05, 0.5), close)

    def old_snapshot(self, number: int) -> Optional[str]:
        """Opens a transaction until the end of the round."""
        if self.later:
            return None
        connection = self.server.connect("robust")
        connection.cursor().execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class")

        def close() -> None:
            connection.close()
            self.end(number)

        return self.after(inf, close)

    def rewrite_table(self, number: int) -> bool:
        """Moves the rows of a lock table, between the lookups and changes of those waiting for it."""
        table = "tfstate_internal.durable_lock"
        connections = [self.server.connect("robust") for _ in range(2)]
        try:
            first, second = [connection.cursor() for connection in connections]
            for cursor in (first, second):
                cursor.execute("SET lock_timeout = '300 ms'")
            first.execute(f"BEGIN; LOCK TABLE {table} IN SHARE MODE")
            threading.Timer(0.05, lambda: first.execute("COMMIT")).start()
            second.execute(f"VACUUM FULL {table}")
        finally:
            for connection in connections:
                connection.close()
        return True

    def disk_full(self, number: int, disk: Path) -> Optional[str]:
        if self.later:
            return None  # the other disk is full
        ballast = disk / "ballast"
        try:
            with open(ballast, "wb", buffering=0) as file:
                for size in (1 << 20, 1 << 12):
                    try:
                        while True:
                            file.write(bytes(size))
                    except OSError:
                        pass
        except OSError:
            pass

        def make_room() -> None:
            ballast.unlink(missing_ok=True)
            self.server.ensure_up()
            self.end(number)

        return self.after(self.random.uniform(0.3, 3), make_room)

    def disk_full_WAL(self, number: int) -> Optional[str]:
        return self.disk_full(number, self.disks["wal"])

    def disk_full_data(self, number: int) -> Optional[str]:
        return self.disk_full(number, self.disks["data"])

    def clock_jump(self, number: int) -> bool:
        new = self.clock.with_suffix(".new")
        new.write_text(f"{self.random.choice([-30, -3, 0, 1, 5, 30]):+d}\n")
        new.rename(self.clock)
        return True

    # The network and the pooler

    def stall_network(self, number: int) -> str:
        seconds = self.random.choice([0.1, 0.5, 2])
        self.proxy.stall(seconds)
        return self.after(seconds, lambda: self.end(number))

    def cut_network(self, number: int) -> bool:
        self.proxy.cut()
        return True

    def vanish(self, number: int) -> bool:
        self.proxy.vanish(self.random.choice([0.2, 1, 4]))
        return True

    def kill_pooler(self, number: int) -> bool:
        pooler = self.random.choice(list(self.poolers.values()))
        pooler.stop()
        pooler.start()
        return True
