"""PostgreSQL, with a database for each test, and PgBouncer."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from tests.peers.process import FETCHED, Peer, PeerFailed, environment, free_port, program

USER = "acmems"
PASSWORD = "S3CRET of tests"  # noqa: S105 - that of a server that lives as long as a test
_QUOTED = PASSWORD.replace(" ", "%20")

CONFIGURATION = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
shared_buffers = 16MB
max_connections = 100
fsync = on
log_line_prefix = ''
"""

POOLING = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 2
server_round_robin = 1
"""


class Postgres(Peer):
    """A PostgreSQL server that listens on loopback alone, and wants a password.

    It writes durably, as those of users do. Root may not run it: for root it runs as `nobody`.

    Args:
        copy_of: the folder of a server that has been stopped, which this one stands by for, so that
            it can only be read.

    Attributes:
        port: where it listens.
        password: the password of its user.
    """

    name = "postgres"

    def __init__(self, *, copy_of: Path | None = None) -> None:
        super().__init__()
        self.password = PASSWORD
        self._copy_of = copy_of
        self._numbers = itertools.count(1)
        self._returned: list[str] = []  # databases that are empty again
        if os.geteuid() == 0:
            self.user = pwd.getpwnam("nobody")

    @property
    def data(self) -> Path:
        """Where it keeps everything."""
        return self.folder / "data"

    @property
    def url(self) -> str:
        """The URL of a database that is there from the beginning."""
        return self.url_of("postgres")

    def url_of(self, database: str, *, port: int | None = None) -> str:
        """Return the URL of a database.

        Args:
            database: its name.
            port: where to connect to, unless it is the server itself.
        """
        return f"postgresql://{USER}:{_QUOTED}@127.0.0.1:{port or self.port}/{database}"

    def make_database(self, options: str = "") -> str:
        """Make a new database and return its name.

        Args:
            options: further words of CREATE DATABASE.
        """
        name = f"acmems_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return name

    @contextlib.contextmanager
    def lent_database(self) -> Iterator[str]:
        """Yield the name of a database that is empty, and that is emptied for the next one afterwards.

        Each is 300 files on the disk: a new one for each test would keep that busy for minutes.
        """
        name = self._returned.pop() if self._returned else self.make_database()
        yield name
        sessions = f"pg_stat_activity WHERE datname = '{name}'"
        self.execute(f"SELECT pg_terminate_backend(pid) FROM {sessions}")  # noqa: S608 - a test's
        self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", name)
        self._returned.append(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Execute a statement; return the rows, if it has any."""
        with psycopg.connect(self.url_of(database), autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def prepare(self) -> None:
        """Choose a port and make the files."""
        self.port = free_port()
        self._give_away(self.folder)
        if not self.data.exists():
            self._make_files()
        text = CONFIGURATION.format(port=self.port)
        (self.data / "postgresql.conf").write_text(text, encoding="utf-8")

    def _make_files(self) -> None:
        if self._copy_of is not None:
            shutil.copytree(self._copy_of, self.data)
            (self.data / "standby.signal").touch()
            for each in (self.data, *self.data.rglob("*")):
                self._give_away(each)
            return
        (self.folder / "password").write_text(PASSWORD, encoding="utf-8")
        arguments = (
            f"-D {self.data} -U {USER} --pwfile {self.folder}/password --auth scram-sha-256 --encoding UTF8 "
            f"--locale C --no-sync"
        )
        done = subprocess.run(
            [programs() / "initdb", *arguments.split()],
            cwd=self.folder,
            env=environment(self.env),
            capture_output=True,
            text=True,
            check=False,
            user=self.user and self.user.pw_uid,
            group=self.user and self.user.pw_gid,
            extra_groups=self.user and [],
        )
        if done.returncode:
            raise PeerFailed(f"initdb ended with {done.returncode}\n{done.stdout}{done.stderr}")

    def _give_away(self, path: Path) -> None:
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        return [str(programs() / "postgres"), "-D", str(self.data)]

    def ready(self) -> bool:
        """Tell whether it answers."""
        try:
            return bool(self.execute("SELECT 1"))
        except psycopg.OperationalError:
            return False

    def __exit__(self, *of: object) -> None:
        self.stop(signal.SIGQUIT)  # at once: nobody reads again what it would write to disk
        super().__exit__(*of)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int | None:
        """Send a signal and wait for the end; the usual one ends connections and writes all to disk."""
        if number != signal.SIGKILL or self._process is None:
            return super().stop(number)
        with self.paused():  # so that it begins nothing new
            _send(signal.SIGKILL, self._connected())
            return super().stop(number)

    def restart(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it as `stop` does, and start it again."""
        super().restart(number)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Hold it with all its processes: connections reach it, answers do not come."""
        held: set[int] = set()
        with super().paused():
            try:
                while found := self._connected() - held:  # what it had begun before it was held
                    _send(signal.SIGSTOP, found)
                    held |= found
                yield
            finally:
                _send(signal.SIGCONT, held)

    def _connected(self) -> set[int]:
        """Return the processes that it has started, one for each connection and some for itself."""
        found = set()
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = file.read_text(encoding="utf-8").rpartition(")")[2].split()
                if int(fields[1]) == self.process.pid:
                    found.add(int(file.parent.name))
        return found


def _send(number: signal.Signals, processes: Iterable[int]) -> None:
    for each in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, number)


class PgBouncer(Peer):
    """A pooler of connections that lends one for each transaction, and has fewer than its clients.

    Args:
        server: the database server.

    Attributes:
        port: where it listens.
    """

    name = "pgbouncer"

    def __init__(self, server: Postgres) -> None:
        super().__init__()
        self.server = server
        self.user = server.user

    def prepare(self) -> None:
        """Choose a port and write the files."""
        self.port = free_port()
        if self.user is not None:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        (self.folder / "users").write_text(f'"{USER}" "{PASSWORD}"\n', encoding="utf-8")
        text = POOLING.format(port=self.port, server=self.server.port, folder=self.folder)
        (self.folder / "pgbouncer.ini").write_text(text, encoding="utf-8")

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        return [program(self.name), str(self.folder / "pgbouncer.ini")]

    def ready(self) -> bool:
        """Tell whether it answers."""
        try:
            psycopg.connect(self.server.url_of("postgres", port=self.port), connect_timeout=10).close()
        except psycopg.OperationalError:
            return False
        return True


def programs() -> Path:
    """Return where PostgreSQL's programs are: as `scripts/peers` fetched it, else the machine's own.

    Raises:
        PeerFailed: there are none.
    """
    for root in (FETCHED, Path("/")):
        found = sorted(root.glob("usr/lib/postgresql/*/bin/postgres"), key=lambda each: float(each.parts[-3]))
        if found:
            return found[-1].parent
    elsewhere = shutil.which("postgres")
    if elsewhere is None:
        raise PeerFailed("PostgreSQL is missing: run scripts/peers")
    return Path(elsewhere).resolve().parent
