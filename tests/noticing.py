"""What tests of notices share: notices, causes, and a target that is told what to do."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

from tests.chains import make_chain, make_request

from acmems.notices.causes import Trouble
from acmems.notices.contract import NoticeUndelivered
from acmems.notices.notice import Notice
from acmems.notices.options import NoticeRoute
from acmems.settings.findings import NOWHERE, Finding, Location
from acmems.settings.grammar import Option, Section
from acmems.settings.options import Options
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalRecord, RenewalRecords
from acmems.state.engines.contract import Database
from acmems.system.permissions import NamedFile

NOW = datetime.datetime(2026, 11, 2, 8, 0, tzinfo=datetime.UTC)  # a Monday
DAY = datetime.timedelta(days=1)
HOUR = datetime.timedelta(hours=1)
DIRECTORY = "https://ca.example/directory"
AT_ONCE = 100
"""Rows that a test writes in one transaction: one may take only so long, on a busy machine, too."""


def make_notice(identity: str = "id-1", **changed: Any) -> Notice:
    values: dict[str, Any] = {
        "cause": "renewal of a",
        "kind": "renewal",
        "phase": "begun",
        "severity": "critical",
        "at": NOW,
        "server": "host",
        "subject": 'a "certificate" ends',
        "text": "Line one\nline two with ü and \\",
        "facts": {"certificates": 1},
    }
    return Notice(id=identity, **values | changed)


def make_trouble(cause: str = "c", **changed: Any) -> Trouble:
    values: dict[str, Any] = {
        "kind": "renewal",
        "severity": "warning",
        "reason": "why",
        "subject": "what",
        "text": "all",
        "directory": DIRECTORY,
    }
    return Trouble(cause=cause, **values | changed)


def options_of(*lines: str, name: str = "ops") -> tuple[Options, list[Finding]]:
    """Return the options of a section with these lines, and where findings go."""
    given = [line.partition(" = ") for line in lines]
    options = tuple(
        Option(key, value, Location("f", number)) for number, (key, _, value) in enumerate(given, 2)
    )
    findings: list[Finding] = []
    return Options(Section("notice", name, options, NOWHERE), findings), findings


class Recorder:
    """A target that keeps what it gets, or fails as told."""

    def __init__(self, name: str = "ops", route: NoticeRoute | None = None) -> None:
        self.name = name
        self.route = route or NoticeRoute()
        self.got: list[Notice] = []
        self.tries = 0
        self.error: Exception | None = None
        self.before: Callable[[], None] = lambda: None

    @classmethod
    def from_options(cls, name: str, _options: Options) -> Self:
        return cls(name)

    def deliver(self, notice: Notice) -> None:
        self.tries += 1
        self.before()
        if self.error is not None:
            raise self.error
        self.got.append(notice)

    def fail(self, words: str = "no route to host") -> None:
        self.error = NoticeUndelivered(words)

    def self_check(self) -> Sequence[tuple[str, str]]:
        return ()

    def named_files(self) -> Sequence[NamedFile]:
        return ()

    @property
    def subjects(self) -> list[tuple[str, str]]:
        return [(each.phase, each.kind) for each in self.got]


def keep_failing(
    database: Database,
    number: int,
    *,
    now: datetime.datetime,
    ends: datetime.timedelta = 9 * DAY,
    reason: str = "the CA could not validate {name}: Connection refused",
    **known: Any,
) -> None:
    """Keep so many certificates whose renewal fails; they were due 30 days before their end."""
    made = make_chain(make_request("machine.example.org"))
    template = ChainRecord.of(made, identity="i", directory=DIRECTORY, profile=None, issued=now)
    chains, plans = ChainRecords(database), []
    written: list[Future[None]] = []
    for each in range(number):
        name = f"machine{each}.example.org"
        fingerprint, end = f"{each:064x}", now + ends
        values = {
            **{field: getattr(template, field) for field in template.__slots__},
            "fingerprint": fingerprint,
            "identity": f"i{each}",
            "names": (name,),
            "block": "web",
            "not_before": end - 90 * DAY,
            "not_after": end,
        }
        written.append(chains.add(ChainRecord(**values)))
        if len(written) == AT_ONCE:
            _await(written)
        plans.append(
            RenewalRecord(
                **{
                    "fingerprint": fingerprint,
                    "directory": DIRECTORY,
                    "ends_at": end,
                    "due": end - 30 * DAY,
                    "next_question": end,
                    "next_try": now + HOUR,
                    "failures": 3,
                    "reason": reason.format(name=name),
                    "fault": "ChallengeFailed",
                    **known,
                }
            )
        )
    _await(written)
    for start in range(0, number, AT_ONCE):
        RenewalRecords(database).begin((), plans[start : start + AT_ONCE]).result(60)


def _await(written: list[Future[None]]) -> None:
    for future in written:
        future.result(60)
    written.clear()


def mend(database: Database) -> None:
    """Have all renewals succeed."""
    database.write(lambda transaction: transaction.execute("DELETE FROM renewals").rowcount).result(20)


class Hook(ThreadingHTTPServer):
    """A web server that keeps what is posted, and answers as told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posted: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.behave: Callable[[BaseHTTPRequestHandler], object] | None = None

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=s3cret"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.posted.append((self.path, headers, body))
        if self.server.behave is not None:
            self.server.behave(self)
            return
        self.send_response(self.server.status)
        if 300 <= self.server.status < 400:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        pass


@contextmanager
def hook(tls: ssl.SSLContext | None = None) -> Iterator[Hook]:
    with Hook() as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
