"""The server under test, its pooler, and the database of a round."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Optional

import psycopg2

from log import now
from workspaces import NEW_STATE

START_SECONDS = 60

# Broken locks and leaks, failed assertions, and crashes that no fault explains.
COMPLAINT = re.compile(
    r"don't own a lock of type (?!Exclusive)|leak: |TRAP: |XX000"
    r"|terminated by signal (?!9\b|15\b|6\b)|stuck spinlock|could not find .* in lock table"
)


def children(pid: int) -> list[int]:
    """Returns the processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def send(pid: int, number: int) -> bool:
    """Returns false if there is no such process.  To the system, 0 is our own process group."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


class Server:
    def __init__(self, bindir: str, data: Path):
        self.bindir = Path(bindir)
        self.data = data
        self.log = data.parent / "server.log"
        self.environment: dict[str, str] = {}  # for a wrong clock

    def connect(self, database: str = "postgres") -> Any:
        connection = psycopg2.connect(dbname=database, application_name="faults")
        connection.autocommit = True
        return connection

    def sql(self, statement: str, *arguments: Any, database: str = "postgres") -> list[tuple]:
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, arguments or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def complaints(self) -> list[str]:
        """Returns what the server has logged that no fault explains."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if COMPLAINT.search(line)][:5]

    def pid(self) -> int:
        """Returns the process ID of the postmaster, or 0 if there is none."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return 0
        return pid if send(pid, 0) else 0

    def control(self, *arguments: str) -> bool:
        command = [self.bindir / "pg_ctl", "-D", self.data, "-l", self.log, "-s", *arguments]
        environment = {**os.environ, **self.environment}
        return (
            subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True
            ).returncode
            == 0
        )

    def is_up(self) -> bool:
        try:
            self.connect().close()
            return True
        except psycopg2.Error:
            return False

    def ensure_up(self) -> None:
        """Waits until the server can be used; starts it if it is down."""
        give_up = now() + START_SECONDS
        while not self.is_up():
            if now() > give_up:
                said = "".join(self.log.read_text(errors="replace").splitlines(True)[-20:])
                raise RuntimeError(f"the server does not start:\n{said}")
            if not self.pid():
                self.control("-t", "20", "start")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.pid():
            self.control("-m", "immediate", "stop")

    def kill(self) -> None:
        """kill -9 of the postmaster; its children end by themselves, or are killed."""
        postmaster = self.pid()
        if not postmaster:
            return
        orphans = children(postmaster)
        send(postmaster, signal.SIGKILL)
        give_up = now() + 3
        while any([send(pid, 0) for pid in orphans]):
            time.sleep(0.02)
            if now() > give_up:
                for pid in orphans:
                    send(pid, signal.SIGKILL)

    def make_database(self, name: str, workspaces: int, keep_versions: Optional[int]) -> None:
        """Makes a fresh database with the extension and an attached table of states."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", database="postgres")
        self.sql(f"CREATE DATABASE {name}", database="postgres")
        self.sql(
            f"""
            CREATE EXTENSION tfstate;
            DO $$ BEGIN
                IF to_regrole('robust') IS NULL THEN
                    CREATE ROLE robust LOGIN;
                END IF;
            END $$;
            SELECT tfstate_grant('robust'), tfstate_grant('robust', '*', 'view'),
                   tfstate_grant('robust', '*', 'force');
            SELECT tfstate_attach(guard => 'on', keep_versions => %s);
            CREATE TABLE skew AS SELECT i AS id, 0 AS value FROM generate_series(0, 7) i;
            GRANT SELECT, UPDATE ON skew TO robust;
            GRANT USAGE ON SCHEMA terraform_remote_state TO robust;
            GRANT ALL ON terraform_remote_state.states TO robust;
            GRANT USAGE ON SEQUENCE global_states_id_seq TO robust;
            ALTER DATABASE {name} SET statement_timeout = '8s';
            """,
            keep_versions,
            database=name,
        )
        for number in range(workspaces):
            self.sql(
                "INSERT INTO terraform_remote_state.states (name, data) VALUES (%s, %s)",
                f"w{number}",
                NEW_STATE,
                database=name,
            )


class Pooler:
    """PgBouncer in one of its modes, on a port of its own."""

    def __init__(self, directory: Path, mode: str):
        directory.mkdir(exist_ok=True)
        program = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
        configuration = directory / "pgbouncer.ini"
        self.command = [program, "-q", configuration]
        self.port = free_port()
        self.process: Optional[subprocess.Popen] = None
        (directory / "users").write_text('"robust" ""\n')
        configuration.write_text(
            f"""
[databases]
* = host={os.environ['PGHOST']} port={os.environ['PGPORT']}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {directory}/users
pool_mode = {mode}
default_pool_size = {4 if mode == 'transaction' else 20}
server_login_retry = 1
logfile = {directory}/log
"""
        )

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
