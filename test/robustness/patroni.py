"""PostgreSQL under Patroni and etcd, which can fail over."""

import json
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, Optional

import psycopg2

from log import now
from proxy import Proxy
from server import START_SECONDS, Server, children, free_port, send

# The shortest lease that Patroni allows, in seconds.
TTL = 20
LOOP_WAIT = 1
RETRY_TIMEOUT = 3

# After so many seconds a member that does not follow the primary is rebuilt.
STUCK_SECONDS = 30

# The seconds that a failover may take: the lease of the old primary, and the work of Patroni.
FAILOVER_SECONDS = TTL + 40

PARAMETERS = {
    "max_connections": 60,
    "max_locks_per_transaction": 16,
    "max_prepared_transactions": 10,
    "max_wal_senders": 10,
    "wal_log_hints": "on",
    "wal_keep_size": "256MB",
    "max_wal_size": "512MB",
    "deadlock_timeout": "200ms",
    "tfstate.history": "all",
    "tfstate.history_count": -1,
    "tfstate.history_age": -1,
}


class Member:
    """One PostgreSQL with its Patroni.  Others reach both, and it reaches etcd, through proxies."""

    def __init__(self, name: str, directory: Path, bindir: Path, etcd_port: int, synchronous: bool):
        self.name = name
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        self.api_port = free_port()
        self.proxies = [
            Proxy(("127.0.0.1", port)) for port in (self.port, self.api_port, etcd_port)
        ]
        self.process: Optional[subprocess.Popen] = None
        for proxy in self.proxies:
            proxy.start()
        directory.mkdir(parents=True)
        (directory / "patroni.json").write_text(json.dumps(self.configuration(bindir, synchronous)))

    def configuration(self, bindir: Path, synchronous: bool) -> dict[str, Any]:
        here = "127.0.0.1"
        seen_port, seen_api_port, etcd_port = (proxy.port for proxy in self.proxies)
        return {
            "scope": "tfstate",
            "name": self.name,
            "restapi": {
                "listen": f"{here}:{self.api_port}",
                "connect_address": f"{here}:{seen_api_port}",
            },
            "etcd3": {"hosts": [f"{here}:{etcd_port}"], "use_proxies": True},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL,
                    "loop_wait": LOOP_WAIT,
                    "retry_timeout": RETRY_TIMEOUT,
                    "maximum_lag_on_failover": 1 << 30,
                    "primary_start_timeout": 0,
                    "synchronous_mode": synchronous,
                    "postgresql": {"use_pg_rewind": True, "parameters": PARAMETERS},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"{here}:{self.port}",
                "connect_address": f"{here}:{seen_port}",
                "data_dir": str(self.data),
                "bin_dir": str(bindir),
                "pgpass": str(self.directory / "pgpass"),
                "authentication": {
                    user: {"username": "postgres"} for user in ("superuser", "replication", "rewind")
                },
                "basebackup": [{"checkpoint": "fast"}, "no-sync"],
                "parameters": {"unix_socket_directories": ""},
                "pg_hba": [
                    "host all all 127.0.0.1/32 trust",
                    "host replication all 127.0.0.1/32 trust",
                ],
            },
        }

    def start(self) -> None:
        """Starts Patroni, which starts PostgreSQL."""
        with open(self.directory / "patroni.log", "a") as log:
            self.process = subprocess.Popen(
                ["patroni", self.directory / "patroni.json"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def postmaster(self) -> int:
        """Returns its process ID, or 0 if there is none."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return 0
        return pid if send(pid, 0) else 0

    def processes(self) -> list[int]:
        """Returns Patroni, PostgreSQL and everything that they have started."""
        found = [self.process.pid] if self.is_running() else []
        postmaster = self.postmaster()
        if postmaster:
            found += [postmaster, *children(postmaster)]
        return found

    def signal(self, number: int) -> None:
        for pid in self.processes():
            send(pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def end(self) -> None:
        self.kill()
        for proxy in self.proxies:
            proxy.closed = True

    def stall(self, seconds: float) -> None:
        """Cuts all connections with the other members and etcd."""
        for proxy in self.proxies:
            proxy.stall(seconds)

    def ask(self, path: str, body: Optional[dict[str, Any]] = None, seconds: float = 1) -> bool:
        """Sends a request to its Patroni.  Returns true if it succeeds."""
        url = f"http://127.0.0.1:{self.api_port}/{path}"
        try:
            with urllib.request.urlopen(
                url, data=json.dumps(body).encode() if body else None, timeout=seconds
            ):
                return True
        except OSError:
            return False

    def says_primary(self) -> bool:
        return self.ask("primary")


class Cluster(Server):
    """Three members and etcd on one machine, used like one server: the current primary."""

    def __init__(self, bindir: str, directory: Path, synchronous: bool):
        super().__init__(bindir, directory / "data")
        self.directory = directory
        self.synchronous = synchronous
        self.etcd: Optional[subprocess.Popen] = None
        self.etcd_ports = (free_port(), free_port())
        self.members: list[Member] = []
        self.failovers = 0
        self.restarts = 0
        self.leader: Optional[Member] = None

    # Used as a server

    def connect(self, database: str = "postgres") -> Any:
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self.primary().port,
            user="postgres",
            dbname=database,
            application_name="faults",
        )
        connection.autocommit = True
        return connection

    def route(self, first: int = 0) -> dict[str, Any]:
        """Returns how a client finds the primary: it asks one member after the other."""
        ports = [str(member.port) for member in self.members[first:] + self.members[:first]]
        return {
            "host": ",".join(["127.0.0.1"] * len(ports)),
            "port": ",".join(ports),
            "target_session_attrs": "read-write",
        }

    def pid(self) -> int:
        return self.leader.postmaster() if self.leader else 0

    def complaints(self) -> list[str]:
        self.log.write_text("".join(self.logs()))
        return super().complaints()

    def logs(self) -> list[str]:
        return [(member.directory / "patroni.log").read_text() for member in self.members]

    def ensure_up(self) -> None:
        """Waits for a primary that all others follow."""
        if not self.etcd:
            self.start()
        give_up = now() + START_SECONDS + FAILOVER_SECONDS
        stuck = now() + STUCK_SECONDS
        while not self.is_complete():
            if now() > give_up:
                raise RuntimeError(f"the cluster does not start, see {self.directory}")
            if now() > stuck:
                self.restart_the_stuck()
                stuck = now() + STUCK_SECONDS
            for member in self.members:
                if not member.is_running():
                    member.start()
            time.sleep(0.2)

    def restart_the_stuck(self) -> None:
        """Patroni 3.0 can rewind a server while it starts it, and then does nothing more."""
        leaders = self.leaders()
        if len(leaders) != 1:
            return
        try:
            following = self.sql("SELECT application_name FROM pg_stat_replication")
        except psycopg2.Error:
            return
        for member in self.members:
            if member not in leaders and (member.name,) not in following:
                member.kill()
                self.restarts += 1

    def is_complete(self) -> bool:
        """Returns true if all follow one primary, and Patroni knows the synchronous standby."""
        leaders = self.leaders()
        if len(leaders) != 1:
            return False
        if leaders[0] is not self.leader:
            self.failovers += self.leader is not None
            self.leader = leaders[0]
        try:
            standbys = self.sql(
                "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
            )[0]
        except psycopg2.Error:
            return False
        return standbys == (len(self.members) - 1,) and (
            not self.synchronous or any(member.ask("sync") for member in self.members)
        )

    def leaders(self) -> list[Member]:
        """Returns the members that claim to be the primary: two for a while, if one is cut off."""
        return [member for member in self.members if member.says_primary()]

    def start(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        client, peer = (f"http://127.0.0.1:{port}" for port in self.etcd_ports)
        with open(self.directory / "etcd.log", "w") as log:
            self.etcd = subprocess.Popen(
                ["etcd", "--data-dir", self.directory / "etcd", "--unsafe-no-fsync"]
                + ["--listen-client-urls", client, "--advertise-client-urls", client]
                + ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
                + ["--initial-cluster", f"default={peer}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.members = [
            Member(f"m{n}", self.directory / f"m{n}", self.bindir, self.etcd_ports[0], self.synchronous)
            for n in (1, 2, 3)
        ]
        self.leader = None

    def stop(self) -> None:
        for member in self.members:
            member.end()
        if self.etcd:
            self.etcd.kill()
            self.etcd.wait()
        self.etcd = None
        self.members = []

    # Failing over

    def rewinds(self) -> int:
        """Returns how often a member came back by pg_rewind."""
        return "".join(self.logs()).count("pg_rewind exit code=0")

    def primary(self) -> Member:
        """Returns the primary that was seen last."""
        assert self.leader
        return self.leader

    def wait_for_another(self, old: Member) -> bool:
        """Waits until another member is the primary.  Returns true if that happened."""
        give_up = now() + FAILOVER_SECONDS
        while now() < give_up:
            if any(leader is not old for leader in self.leaders()):
                return True
            time.sleep(0.1)
        return False

    def switch_over(self) -> bool:
        old = self.primary()
        asked = old.ask("switchover", {"leader": old.name}, FAILOVER_SECONDS)
        return asked and self.wait_for_another(old)

    def kill_primary(self) -> bool:
        old = self.primary()
        old.kill()
        return self.wait_for_another(old)

    def kill_postgres(self) -> bool:
        """Patroni lives on, and gives up the lease."""
        old = self.primary()
        postmaster = old.postmaster()
        if not postmaster:
            return False
        for pid in [postmaster, *children(postmaster)]:
            send(pid, signal.SIGKILL)
        return self.wait_for_another(old)

    def isolate_primary(self) -> bool:
        """Its clients stay connected to it until it notices."""
        old = self.primary()
        old.stall(FAILOVER_SECONDS)
        done = self.wait_for_another(old)
        time.sleep(2)
        old.stall(0)
        return done

    def pause_primary(self) -> bool:
        """It comes back with its clients when another has replaced it, and is then reset.

        A watchdog would do that.  Its Patroni must not come back: up to 3.0.2 it would take the
        leader's key from the other one (github.com/patroni/patroni/pull/2689), and if it were
        restarted, it would let the old primary commit without a standby.
        """
        old = self.primary()
        old.signal(signal.SIGSTOP)
        done = self.wait_for_another(old)
        if old.process:
            old.process.kill()
            old.process.wait()
        old.signal(signal.SIGCONT)
        time.sleep(2)
        old.kill()
        return done
