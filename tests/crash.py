"""kill -9 in the middle of a start or an order, and what the next start makes of it."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.fault_proxy import FaultProxy
from tests.faults import AUTHORIZATION, CERTIFICATE, CHALLENGE, FINALIZE, NEW_ACCOUNT, NEW_ORDER, ORDER
from tests.peers import (
    CALM,
    Acmems,
    Bind,
    Pebble,
    PeerFailed,
    Settings,
    curl_sign,
    make_key_and_csr,
    verify_chain,
    wait_until,
)
from tests.peers.disk import Call, Disk, DiskFault

from acmems.exceptions import AccountError
from acmems.issuers.acme.account import AccountDirectory

DNS = """
[verification "dns"]
type = dns01-dnsUpdate
dns-server = {server}
"""
BOTH = """
[auth "anyone"]
all = yes
domain = **
verification = http, dns
"""
STATE = "account/state.sqlite*"
"""The files of a state, where it lies beside the account."""
CLEARED_SECONDS = 20.0
"""In which what was presented must be withdrawn after an order has ended."""


@dataclass(frozen=True)
class CrashPoint:
    """Where the server is killed.

    Args:
        name: for a table.
        after: whether that was done, or answered, by then.
        path: of a request to the CA; empty where it is a step at the disk.
        call: what is done to a file.
        file: the file, as a pattern relative to the server's folder.
        since: the request to the CA that comes before that step; empty where any counts.
        is_start: whether the server is killed while it makes its account.
        least, most: which of the times that this happens in an order it is.
        places_anew: whether another order may have to be placed: the answer to a new order was not seen, or
            not noted yet; or the CA came for a proof that nobody presented any more.
    """

    name: str
    after: bool
    path: str = ""
    call: Call = Call.NAME
    file: str = ""
    since: str = ""
    is_start: bool = False
    least: int = 1
    most: int = 1
    places_anew: bool = False

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.name}"


def _points() -> Iterator[CrashPoint]:
    """Yield the points in the order in which a server comes to them."""
    for after in (False, True):
        yield CrashPoint("account key written", after, file="account/account.pem", is_start=True)
        yield CrashPoint("newAccount", after, NEW_ACCOUNT, is_start=True)
        yield CrashPoint("account noted", after, file="account/registration.json", is_start=True)
        yield CrashPoint("newOrder", after, NEW_ORDER, places_anew=True)
        yield CrashPoint("state written", after, "", Call.WRITE, STATE, NEW_ORDER, most=4, places_anew=True)
        yield CrashPoint("order noted", after, "", Call.SYNC, STATE, NEW_ORDER, places_anew=True)
        yield CrashPoint("authorization", after, AUTHORIZATION, most=2, places_anew=True)
        yield CrashPoint("proof noted", after, "", Call.SYNC, STATE, AUTHORIZATION, places_anew=True)
        yield CrashPoint("challenge", after, CHALLENGE, most=2, places_anew=True)
        yield CrashPoint("finalize", after, FINALIZE)
        yield CrashPoint("order ready", after, ORDER)
        yield CrashPoint("certificate", after, CERTIFICATE)
        yield CrashPoint(
            "chain written", after, call=Call.WRITE, file="storage/*.tmp", since=FINALIZE, most=3
        )
        yield CrashPoint("index renamed", after, file="storage/identities/*")
        yield CrashPoint("cert.pem renamed", after, file="storage/??/*/cert.pem")
        yield CrashPoint("end noted", after, "", Call.SYNC, STATE, CERTIFICATE)


_NAMES = [each.name for each in _points()]
POINTS = tuple(sorted(_points(), key=lambda point: _NAMES.index(point.name)))
ANY_TIME = CrashPoint("any time", after=True, places_anew=True)
"""Between the request and its answer, wherever that is."""
FAILING = CrashPoint("disk failing", after=True, places_anew=True)
"""The same, while the disk fails."""


@dataclass(frozen=True)
class CrashOutcome:
    """What came of a kill.

    Args:
        issued: how many certificates the CA has issued for the name.
        placed: how many orders it has.
        accounts: how many accounts it has made.
        is_lost: whether the client got none.
        torn: files that are neither whole nor moved aside.
        left: records that stayed in DNS.
        seconds: from the start until the client had its chain.
        accounts_lost: how many accounts that were made inside are not there any more.
        repeated: how many requests that were done before are taken once more, word by word.
        reason: why the client got nothing, where it knows.
    """

    issued: int
    placed: int
    accounts: int
    is_lost: bool
    torn: int
    left: int
    seconds: float
    accounts_lost: int = 0
    repeated: int = 0
    reason: str = ""


@dataclass
class Crashes:
    """A server that is killed again and again, between clients, a CA and a name server that work.

    Names are proved by http-01 and by dns-01, one of each in each order.

    Args:
        folder: where everything is.
        dice: says when, where a point leaves that open.
        state: lines of the configuration that say where the state is; it lies beside the account otherwise.
        empty_state: empties a state that does not lie there.
        has_no_order: tells whether such a state has no order any more, so that all chains are kept there.
    """

    folder: Path
    dice: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - no secrets here
    state: str = ""
    empty_state: Callable[[], None] = lambda: None
    has_no_order: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._cleanup = contextlib.ExitStack()
        self._disk = Disk(self.folder)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._bind = stack.enter_context(Bind("example.org", "example.net"))
            self._pebble = stack.enter_context(Pebble(self._bind.address, env=CALM))
            self._proxy = stack.enter_context(FaultProxy(self._pebble))
            self._server = self.folder / "acmems"
            self._server.mkdir()
            settings = self._proxy.before(Settings.of(self._pebble, self._server))
            settings.verification += DNS.format(server=self._bind.address)
            settings.auth = BOTH + self.state
            self._adapt(settings)
            self._acmems = stack.enter_context(Acmems(settings, self._disk.env))
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _adapt(self, settings: Settings) -> None:
        """Change the configuration of the server, if it needs anything else."""

    def kill(self, point: CrashPoint) -> CrashOutcome:
        """Kill the server while a client waits, start it again, and have the client ask again.

        Raises:
            PeerFailed: the server never came to this point, or does not start after the kill.
        """
        return self._crash(point, self._start_until(point) if point.is_start else self._order_until(point))

    def kill_while(self, fault: DiskFault, place: str) -> CrashOutcome:
        """Have the disk fail while the server orders, kill it some time later, and heal the disk.

        Args:
            fault: how the disk fails.
            place: for which files, as a pattern relative to the server's folder.
        """
        return self._crash(FAILING, self._fail_and_kill(fault, place))

    def _crash(self, point: CrashPoint, killing: contextlib.AbstractContextManager[None]) -> CrashOutcome:
        number = next(self._numbers)
        folder = self.folder / str(number)
        folder.mkdir()
        name, wild = f"host{number}.example.org", f"host{number}.example.net"
        _, csr = make_key_and_csr(folder, [name, f"*.{wild}"])
        if self._acmems.process.poll() is not None:
            self._acmems.restart()  # after a kill that nobody came to see the end of
        issued, placed, accounts, stored = self._issued, self._placed, self._accounts, self._stored
        finalizes = self._proxy.count(path=FINALIZE)
        with killing:
            if not point.is_start:
                with contextlib.suppress(PeerFailed):
                    curl_sign(self._acmems.sign_url, csr)
            wait_until(lambda: self._acmems.process.poll() is not None, f"the server is killed {point}")
        self._proxy.heal()
        self._disk.heal()
        torn = self._torn
        began = time.monotonic()
        self._acmems.start()
        if self._proxy.count(path=FINALIZE) > finalizes:
            wait_until(
                lambda: self._stored > stored or self.has_no_order(),
                f"an order that was killed {point} is finished",
            )
        reply = curl_sign(self._acmems.sign_url, csr)
        seconds = time.monotonic() - began
        if reply.status == 200:
            verify_chain(reply.body, self._pebble.root_pem())
        with contextlib.suppress(PeerFailed):
            wait_until(lambda: not self._left(wild), "all is withdrawn", CLEARED_SECONDS)
        return CrashOutcome(
            self._issued - issued,
            self._placed - placed,
            self._accounts - accounts,
            reply.status != 200,
            torn + self._torn,
            self._left(wild),
            seconds,
        )

    @contextlib.contextmanager
    def _order_until(self, point: CrashPoint) -> Iterator[None]:
        """Have the server be killed at a point of the order that is made meanwhile."""
        process = self._acmems.process

        def end() -> None:
            process.kill()
            process.wait()

        nth = self.dice.randint(point.least, point.most)

        def arm() -> None:
            self._disk.kill_at(point.call, f"{self._server}/{point.file}", after=point.after, nth=nth)

        if point == ANY_TIME:
            timer = threading.Timer(self.dice.uniform(0.0, 0.5), end)
            timer.start()
            yield
            timer.join()
            return
        if point.path:
            rule = self._proxy.when(path=point.path, nth=nth)
            (rule.call_after if point.after else rule.call_before)(end)
        elif point.since:
            self._proxy.when(path=point.since, nth=1).call_meanwhile(arm)
        else:
            arm()
        yield

    @contextlib.contextmanager
    def _start_until(self, point: CrashPoint) -> Iterator[None]:
        """Have the server be killed at a point of its first start."""
        self._acmems.process.kill()
        self._acmems.process.wait()
        shutil.rmtree(self._server / "account")
        self.empty_state()
        (self._server / "account").mkdir(mode=0o700)
        if point.path:
            rule = self._proxy.when(path=point.path, nth=1)
            act = rule.call_after if point.after else rule.call_before
            act(lambda: self._acmems.process.kill())  # noqa: PLW0108 - it is another process by then
        else:
            self._disk.kill_at(point.call, f"{self._server}/{point.file}", after=point.after)
        with contextlib.suppress(PeerFailed):
            self._acmems.start()
            raise AssertionError(f"the server was not killed {point}")
        yield

    @contextlib.contextmanager
    def _fail_and_kill(self, fault: DiskFault, place: str) -> Iterator[None]:
        def fail() -> None:
            time.sleep(self.dice.uniform(0.0, 0.2))
            with self._disk.fault(fault, f"{self._server}/{place}"):
                time.sleep(self.dice.uniform(0.0, 0.6))
                self._acmems.process.kill()

        failing = threading.Thread(target=fail)
        failing.start()
        yield
        failing.join()

    @property
    def _issued(self) -> int:
        return self._pebble.log.count("Issued certificate serial")

    @property
    def _placed(self) -> int:
        return self._pebble.log.count("Added order")

    @property
    def _accounts(self) -> int:
        found = re.findall(r"There are now (\d+) accounts in memory", self._pebble.log)
        return int(found[-1]) if found else 0

    @property
    def _stored(self) -> int:
        return sum(1 for _ in (self._server / "storage" / "identities").glob("[!.]*.pem"))

    def _left(self, name: str) -> int:
        return len(self._bind.texts(f"_acme-challenge.{name}"))

    @property
    def _torn(self) -> int:
        """How many files are neither whole nor absent."""
        account = self._server / "account"
        stored = (path.read_bytes() for path in (self._server / "storage").rglob("*.pem"))
        noted = [account / "registration.json", *(account / "presented").glob("[!.]*")]
        return (
            sum(not content.endswith(b"-----\n") for content in stored)
            + sum(not _is_json(path) for path in noted if path.exists())
            + (not _is_key(account))
            + (not _is_whole(account / "state.sqlite"))
        )


def _is_json(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # it is withdrawn at this moment
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return False
    return True


def _is_key(account: Path) -> bool:
    if (account / "account.pem").exists():
        try:
            AccountDirectory(account).load_key()
        except AccountError:
            return False
    return True


def _is_whole(state: Path) -> bool:
    """Tell whether SQLite finds nothing to object to in a copy of a state."""
    with tempfile.TemporaryDirectory() as folder:
        for end in ("", "-wal", "-journal"):
            if Path(f"{state}{end}").exists():
                shutil.copyfile(f"{state}{end}", f"{folder}/state{end}")
        with contextlib.closing(sqlite3.connect(f"{folder}/state")) as copy:
            try:
                return bool(copy.execute("PRAGMA integrity_check").fetchone() == ("ok",))
            except sqlite3.DatabaseError:
                return False
