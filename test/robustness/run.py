"""Runs rounds of clients and faults, checks each, and prints a table.

    run.py --directory DIR --bindir DIR [--minutes N] [--seed N] [--rounds NAME,...]
           [--first] [--keep DIR] [--wal-disk DIR] [--data-disk DIR] [--faketime LIBRARY]

DIR holds the data directory of a server that is not running, and PGHOST and PGPORT say where it
listens when it is.  The exit status is 1 if a promise was broken.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Iterator, Optional

import psycopg2

from checker import Checker, Facts, read_facts, read_faults
from patroni import Cluster
from faults import Faults
from log import Log, now
from proxy import Proxy
from server import Pooler, Server

WORKSPACES = 3

# Rounds that take minutes need a run of so many minutes.
LONG = 10

# The databases, how many of four clients work in each, and how many versions of a state are kept.
DATABASES = {"robust": None, "robust2": 20}
SHARES = ["robust", "robust", "robust", "robust2"]

# What clients do, unless a round says otherwise: weights and probabilities.
DEFAULTS: dict[str, Any] = {
    "seconds": 12,
    "clients": 12,
    "keys": 3,
    "route": {"direct": 5, "proxy": 2, "session": 1, "transaction": 2},
    "step": {
        "lock": 60,
        "transaction": 20,
        "force": 5,
        "stale_write": 4,
        "free_write": 2,
        "prepared": 4,
        "burst": 12,
        "pry": 2,
        "look": 6,
        "discard": 1,
        "abandon": 2,
        "shim": 8,
        "stock": 4,
        "create": 3,
        "roll_back": 3,
        "connect": 0.3,
    },
    "flush": 0.5,  # synchronous_commit = on
    "session": 0.5,
    "lease": 0.2,
    "renew": 0.5,
    "workspace": 0.3,
    "write": 0.4,
    "keep": 0.04,
    "leave": 0.03,
    "rollback": 0.3,
    "savepoint": 0.4,
    "faults": {},  # weights
    "pause": 0.5,  # average seconds between faults
    "crash": False,  # the round ends in a crash
    "cluster": "",  # of servers: synchronous or asynchronous
    "lossy": False,  # what is lost is counted, and is not a violation
    "long": False,  # only in runs of LONG minutes and more
    "every": 1,  # in each turn, in each second one, ...
}

FAILOVER: dict[str, Any] = {
    "seconds": 120,
    "route": {"first": 1, "second": 1, "third": 1},
    "faults": {
        "switch over": 3,
        "kill primary": 2,
        "kill postgres": 3,
        "isolate primary": 2,
        "pause primary": 2,
    },
    "pause": 3,
    "every": 2,
}

ROUNDS: dict[str, dict[str, Any]] = {
    "calm": {"route": {"direct": 1}, "lease": 0.05},
    "leases": {"route": {"direct": 1}, "lease": 0.8, "session": 0.2, "renew": 0.8},
    "interrupts": {"faults": {"cancel": 3, "terminate": 1, "rewrite table": 1}, "pause": 0.1},
    "crashes": {
        "faults": {"kill backend": 2, "kill postmaster": 3, "immediate shutdown": 2},
        "flush": 0.15,
        "pause": 1,
        "crash": True,
    },
    "processes": {
        "faults": {"kill client": 3, "stop client": 3, "stop backend": 3, "terminate": 1},
        "pause": 0.15,
    },
    "network": {
        "faults": {"stall network": 2, "cut network": 2, "vanish": 2, "kill pooler": 2},
        "route": {"proxy": 6, "session": 2, "transaction": 2},
        "pause": 0.1,
    },
    "session crashes": {
        "faults": {"kill postmaster": 1},
        "route": {"direct": 1},
        "flush": 0,
        "session": 1,
        "workspace": 0,
        "step": {"lock": 60, "transaction": 20, "discard": 2, "burst": 4},
        "pause": 0.5,
        "crash": True,
    },
    "disk": {"faults": {"disk full, WAL": 1, "disk full, data": 1, "kill client": 1}, "pause": 1},
    "many": {
        "keys": 300,
        "keep": 0.3,
        "leave": 0.3,
        "faults": {"lock table full": 3, "cancel": 2, "rewrite table": 2},
    },
    "old snapshot": {"faults": {"old snapshot": 1, "cancel": 4}, "seconds": 150, "long": True, "every": 4},
    "clock": {"lease": 0.8, "session": 0.2, "faults": {"clock jump": 3, "kill client": 1}},
    "failover": {**FAILOVER, "cluster": "synchronous"},
    "failover async": {
        **FAILOVER,
        "cluster": "asynchronous",
        "lossy": True,
        "long": True,
        "every": 4,
    },
}


# What is read when everything is quiet.
TIMES = "extract(epoch FROM created) AS created"
TABLES = {
    # with leases that have expired
    "holders": f"SELECT lockid, id, fence, 'durable' AS mode, {TIMES} FROM tfstate_internal.durable_lock"
    f" UNION ALL SELECT lockid, id, fence, 'session', {TIMES} FROM tfstate_internal.session_locks()"
    " WHERE expires_at IS NULL OR expires_at > clock_timestamp()",
    "history": f"SELECT lockid, id, fence, mode, how, {TIMES},"
    " extract(epoch FROM released_at) AS released_at FROM tfstate_internal.released_lock",
    "versions": "SELECT workspace AS lockid, number, fence FROM tfstate_versions ORDER BY 1, 2",
}


class Round:
    """Fresh databases, one set of clients, one kind of fault."""

    def __init__(self, run: "Run", name: str, number: int):
        self.run = run
        self.kind = {**DEFAULTS, **ROUNDS[name]}
        self.name = name
        self.seed = f"{run.seed}/{number}"
        self.log = run.directory / "round"
        self.processes: dict[int, subprocess.Popen] = {}
        self.incarnations: Counter[int] = Counter()
        self.problems: list[str] = []
        self.server = run.find_server(self.kind["cluster"])
        shutil.rmtree(self.log, ignore_errors=True)
        self.log.mkdir()
        self.faults = Faults(
            self.seed,
            Log(self.log / "faults"),
            self.server,
            run.proxy,
            run.poolers,
            lambda: [process.pid for process in self.processes.values()],
            run.disks,
            run.clock,
        )

    def configure(self) -> None:
        routes = {"direct": {"host": os.environ["PGHOST"], "port": os.environ["PGPORT"]}}
        routes["proxy"] = {"host": "127.0.0.1", "port": self.run.proxy.port, "sslmode": "disable"}
        for mode, pooler in self.run.poolers.items():
            routes[mode] = {"host": "127.0.0.1", "port": pooler.port}
        if isinstance(self.server, Cluster):
            for first, route in enumerate(("first", "second", "third")):
                routes[route] = self.server.route(first)
        config = {
            "seed": self.seed,
            "log": str(self.log),
            "routes": routes,
            "keys": self.kind["keys"],
            "workspaces": WORKSPACES,
            "databases": SHARES,
            "weights": self.kind,
            "until": now() + self.kind["seconds"],
        }
        self.until = config["until"]
        (self.log / "config").write_text(json.dumps(config))

    def start_client(self, number: int) -> None:
        program = Path(__file__).with_name("driver.py")
        incarnation = self.incarnations[number]
        self.incarnations[number] += 1
        with open(self.log / "errors", "a") as errors:
            self.processes[number] = subprocess.Popen(
                [sys.executable, program, self.log / "config", str(number), str(incarnation)],
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )

    def replace_the_dead(self) -> None:
        for number, process in list(self.processes.items()):
            if process.poll() is not None and now() < self.until - 0.5:
                if process.returncode != -9:
                    self.problems.append(f"client {number} ended with status {process.returncode}")
                self.start_client(number)

    def make_trouble(self) -> None:
        weights = self.kind["faults"]
        chance = self.faults.random
        next_fault = now() + self.kind["pause"]
        while now() < self.until:
            time.sleep(0.02)
            self.faults.tick()
            self.replace_the_dead()
            if weights and now() >= next_fault:
                self.faults.inject(chance.choices(*zip(*weights.items()))[0])
                next_fault = now() + chance.expovariate(1 / self.kind["pause"])

    def end_clients(self) -> None:
        """Ends every client; those that still wait are interrupted."""
        self.faults.tick(everything=True)
        if self.kind["crash"]:
            for process in self.processes.values():
                process.kill()
            self.faults.inject("kill postmaster")
        self.server.ensure_up()
        give_up = now() + 20
        number = self.faults.begin("end")
        while any(process.poll() is None for process in self.processes.values()):
            self.server.sql(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'robust'"
            )
            time.sleep(0.1)
            if now() > give_up:
                self.problems.append("a client did not come to its end")
                break
        self.faults.end(number)
        self.kill_clients()

    def kill_clients(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def wait_for_quiet(self) -> None:
        """Checks that no session is left, nor anything of one in the lock table."""
        for pooler in self.run.poolers.values():
            pooler.stop()
        self.run.proxy.cut()
        give_up = now() + 10
        while now() < give_up:
            sessions = self.server.sql(
                "SELECT pid, state, query FROM pg_stat_activity WHERE usename = 'robust'"
            )
            locks = self.server.sql(
                "SELECT pid, classid, objid, objsubid FROM pg_locks"
                " WHERE locktype = 'advisory' AND pid IS NOT NULL"
            )
            if not sessions and not locks:
                return
            time.sleep(0.1)
        self.problems += [f"left in pg_stat_activity: {row}" for row in sessions]
        self.problems += [f"left in pg_locks: {row}" for row in locks]

    def end_prepared(self) -> None:
        """Rolls back the prepared transactions that are left."""
        for gid, database in self.server.sql("SELECT gid, database FROM pg_prepared_xacts"):
            self.server.sql(f"ROLLBACK PREPARED '{gid}'", database=database)

    def read_tables(self) -> dict[str, Any]:
        tables: dict[str, Any] = {"clock": time.time() - now(), "problems": self.problems}
        for name in ("holders", "history", "versions"):
            tables[name] = [
                {**row, "lockid": f"{database}:{row['lockid']}"}
                for database in DATABASES
                for row in self.rows(database, TABLES[name])
            ]
        return tables

    def rows(self, database: str, query: str) -> list[dict[str, Any]]:
        sql = f"SELECT to_json(q) FROM ({query}) q"
        return [row[0] for row in self.server.sql(sql, database=database)]

    def probe(self, tables: dict[str, Any]) -> None:
        """Checks that each held lock can be released by force, and then taken, at once."""
        for row in tables["holders"]:
            if row["mode"] == "session":
                self.problems.append(f"{row['lockid']} is shown as held by a session that is gone")
        lockids = {row["lockid"]: "" for row in tables["history"]}
        lockids.update({row["lockid"]: row["id"] for row in tables["holders"]})
        for database in DATABASES:
            connection = self.server.connect(database)
            for lockid, identity in lockids.items():
                if lockid.startswith(database + ":"):
                    self.probe_lock(connection, lockid.partition(":")[2], identity)
            connection.close()
            for row in self.server.sql(
                "SELECT * FROM tfstate_verify(versions => true)", database=database
            ):
                self.problems.append(f"tfstate_verify: {row}")

    def probe_lock(self, connection: Any, lockid: str, identity: str) -> None:
        start = now()
        try:
            cursor = connection.cursor()
            if identity:
                cursor.execute("SELECT tfstate_force_unlock(%s, %s)", (lockid, identity))
            cursor.execute("SELECT * FROM tfstate_lock(%s)", (lockid,))
            cursor.execute("SELECT tfstate_unlock(%s)", (lockid,))
        except psycopg2.Error as error:
            self.problems.append(f"{lockid} cannot be taken: {error}")
        if now() - start > 1:
            self.problems.append(f"{lockid} was taken after {now() - start:.1f} s only")

    def count_versions(self, tables: dict[str, Any]) -> None:
        """Checks that pruning leaves as many versions as are to be kept, without a gap."""
        numbers: dict[str, list[int]] = {}
        for row in tables["versions"]:
            numbers.setdefault(row["lockid"], []).append(row["number"])
        for lockid, known in numbers.items():
            keep = DATABASES[lockid.partition(":")[0]] or max(known)
            if len(known) < min(keep, max(known)) or len(known) != max(known) - min(known) + 1:
                self.problems.append(f"of {lockid} there are the versions {known}")

    def judge(self) -> tuple[Facts, list[tuple[str, str]]]:
        self.problems += self.server.complaints()
        self.problems += (self.log / "errors").read_text().splitlines()[-5:]
        self.end_prepared()
        tables = self.read_tables()
        self.count_versions(tables)
        self.probe(tables)
        faults = read_faults(self.log / "faults") + self.run.stalls
        facts = read_facts(self.log, faults)
        return facts, Checker(facts, faults, tables).check()

    def play_or_give_up(self) -> tuple[Facts, list[tuple[str, str]]]:
        """If the server does not come back, the round is over, and nothing more is known."""
        try:
            return self.play()
        except RuntimeError as error:
            self.server.complaints()
            return Facts(), [("server does not come back", str(error))]
        finally:
            self.kill_clients()

    def play(self) -> tuple[Facts, list[tuple[str, str]]]:
        server = self.server
        server.environment = self.run.faketime() if self.name == "clock" else {}
        server.stop()
        server.log.unlink(missing_ok=True)
        server.ensure_up()
        for database, versions in DATABASES.items():
            server.make_database(database, WORKSPACES, versions)
        for pooler in self.run.poolers.values():
            pooler.start()
        self.configure()
        for number in range(self.kind["clients"]):
            self.start_client(number)
        self.make_trouble()
        self.end_clients()
        self.wait_for_quiet()
        return self.judge()


class Run:
    """All rounds, with what they share."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.directory = options.directory
        self.seed = options.seed
        self.server = Server(options.bindir, self.directory / "data")
        self.proxy = Proxy(f"{os.environ['PGHOST']}/.s.PGSQL.{os.environ['PGPORT']}")
        self.proxy.start()
        self.poolers = {
            mode: Pooler(self.directory / f"pooler-{mode}", mode)
            for mode in ("session", "transaction")
        }
        self.disks = {"wal": options.wal_disk, "data": options.data_disk}
        self.clock = self.directory / "clock"
        self.stalls: list[dict[str, Any]] = []
        self.operations: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()  # if the cluster does not promise more
        self.cluster: Optional[Cluster] = None
        threading.Thread(target=self.watch_for_stalls, daemon=True).start()

    def watch_for_stalls(self) -> None:
        """Notes when the machine was too busy for anything to be on time."""
        last = now()
        while True:
            time.sleep(0.02)
            if now() - last > 0.15:
                stall = {"from": last, "to": now() + 0.2, "disturbs": True}
                self.stalls.append({**stall, "crash": False, "clock": False, "lost": None})
            last = now()

    def find_server(self, cluster: str) -> Server:
        """Starts the server of a round, after that of the round before has ended."""
        self.server.stop()
        if self.cluster:
            self.cluster.stop()
        self.cluster = None
        if cluster:
            directory = self.directory / "cluster"
            self.cluster = Cluster(self.options.bindir, directory, cluster == "synchronous")
        return self.cluster or self.server

    def faketime(self) -> dict[str, str]:
        self.clock.write_text("+0\n")
        return {
            "LD_PRELOAD": self.options.faketime,
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def rounds(self) -> list[str]:
        names = self.options.rounds.split(",") if self.options.rounds else list(ROUNDS)
        skipped = {}
        if not (self.disks["wal"] and self.disks["data"]):
            skipped["disk"] = "needs root, for file systems of its own"
        if not self.options.faketime:
            skipped["clock"] = "needs libfaketime"
        for name in set(names) & set(skipped):
            print(f'skipped: round "{name}" {skipped[name]}')
        if not self.options.rounds and self.options.minutes < LONG:
            names = [name for name in names if not ROUNDS[name].get("long")]
        return [name for name in names if name not in skipped]

    def turns(self) -> Iterator[str]:
        """Plays one round of each kind, and goes on until the time is over."""
        end = now() + self.options.minutes * 60
        names = self.rounds()
        for turn in itertools.count():
            for name in names:
                if turn and now() > end:
                    return
                if turn % ROUNDS[name].get("every", 1) == 0:
                    yield name

    def play(self) -> None:
        for number, name in enumerate(self.turns()):
            start = now()
            game = Round(self, name, number)
            facts, violations = game.play_or_give_up()
            self.stalls = []
            if game.kind["lossy"]:
                self.losses.update(kind for kind, _ in violations)
                violations = []
            self.add_up(game, facts, violations)
            print(
                f"round {number} ({name}): {now() - start:.0f} s, {facts.counts['lock']} lock calls,"
                f" {game.faults.counts.total()} faults, {len(violations)} violations",
                flush=True,
            )
            for kind, text in violations[:20]:
                print(f"  {kind}: {text}", flush=True)
            if violations and self.options.keep:
                kept = self.options.keep / f"round.{self.seed}.{number}"
                shutil.copytree(self.directory / "round", kept)
                shutil.copy(game.server.log, kept)
            if violations and self.options.first:
                break

    def add_up(self, game: Round, facts: Facts, violations: list[tuple[str, str]]) -> None:
        pairs = sum(1 for releases in facts.releases.values() if any(r.sure for r in releases))
        self.operations.update(facts.counts)
        self.operations["locks taken and released"] += pairs
        self.errors.update(facts.errors)
        self.faults.update(game.faults.counts)
        self.points.update(game.faults.points)
        if self.cluster:
            self.faults["failovers in all"] += self.cluster.failovers
            self.faults["old primaries rewound"] += self.cluster.rewinds()
            self.faults["stuck members restarted"] += self.cluster.restarts
        self.violations.update(kind for kind, _ in violations)

    def print_table(self) -> None:
        for heading, counter in (
            ("operations", self.operations),
            ("errors", self.errors),
            ("faults", self.faults),
            ("cancelled or terminated at", self.points),
            ("lost by asynchronous standbys", self.losses),
            ("violations", self.violations),
        ):
            print(f"\n{heading}")
            for name, count in sorted(counter.items()):
                print(f"  {name:28} {count:>9}")
            if not counter:
                print(f"  {'none':28} {0:>9}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--bindir", required=True)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--rounds", default="")
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--wal-disk", type=Path)
    parser.add_argument("--data-disk", type=Path)
    parser.add_argument("--faketime", default="")
    return parser.parse_args()


def main() -> None:
    run = Run(parse_arguments())
    print(f"seed {run.seed}", flush=True)
    try:
        run.play()
    finally:
        for pooler in run.poolers.values():
            pooler.stop()
        run.find_server("")
    run.print_table()
    print(f"\n{run.violations.total()} violations (seed {run.seed})")
    sys.exit(1 if run.violations else 0)


if __name__ == "__main__":
    main()
