"""kill -9 in the middle of an order, and what the next start makes of it."""

from __future__ import annotations

import contextlib
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fault_proxy import FaultProxy
from tests.faults import AUTHORIZATION, CERTIFICATE, CHALLENGE, FINALIZE, NEW_ORDER, ORDER
from tests.peers import Acmems, Pebble, Settings, curl_sign, make_key_and_csr, verify_chain
from tests.peers.process import PeerFailed, wait_until


@dataclass(frozen=True)
class CrashPoint:
    """Where the server is killed: when the CA is about to see a request, or has answered it.

    Args:
        name: for a table.
        path: of the request.
        is_answered: whether the CA has answered it.
    """

    name: str
    path: str
    is_answered: bool

    def __str__(self) -> str:
        return f"{'after' if self.is_answered else 'before'} {self.name}"

    @property
    def places_anew(self) -> bool:
        """Whether another order may have to be placed.

        The answer to a new order was not seen, or not noted yet; or the CA came for a proof that nobody
        presented any more.
        """
        return self.name in {"newOrder", "authorization"} or (self.name == "challenge" and self.is_answered)


POINTS = tuple(
    CrashPoint(name, path, is_answered)
    for (name, path), is_answered in itertools.product(
        {
            "newOrder": NEW_ORDER,
            "authorization": AUTHORIZATION,
            "challenge": CHALLENGE,
            "finalize": FINALIZE,
            "order": ORDER,
            "certificate": CERTIFICATE,
        }.items(),
        (False, True),
    )
)


@dataclass(frozen=True)
class CrashOutcome:
    """What came of a kill.

    Args:
        issued: how many certificates the CA has issued for the name.
        placed: how many orders it has.
        is_lost: whether the client got none.
        torn: files that are neither whole nor moved aside.
        seconds: from the start until the client had its chain.
    """

    issued: int
    placed: int
    is_lost: bool
    torn: int
    seconds: float


class Crashes:
    """A server that is killed again and again, between a client and a CA that work.

    Args:
        pebble: the CA.
        proxy: the way to it.
        settings: of the server.
        acmems: the server, running.
        folder: for CSRs.
    """

    def __init__(
        self, pebble: Pebble, proxy: FaultProxy, settings: Settings, acmems: Acmems, folder: Path
    ) -> None:
        self._pebble = pebble
        self._proxy = proxy
        self._storage = settings.folder / "storage"
        self._acmems = acmems
        self._folder = folder
        self._numbers = itertools.count(1)

    def kill(self, point: CrashPoint) -> CrashOutcome:
        """Kill the server while a client waits, start it again, and have the client ask again."""
        number = next(self._numbers)
        folder = self._folder / str(number)
        folder.mkdir()
        _, csr = make_key_and_csr(folder, [f"host{number}.example.org"])
        process = self._acmems.process
        issued, placed, stored = self._issued, self._placed, self._stored

        def end() -> None:
            process.kill()
            process.wait()

        rule = self._proxy.when(path=point.path, nth=1)
        (rule.call_after if point.is_answered else rule.call_before)(end)
        finalizes = self._proxy.count(path=FINALIZE)
        with contextlib.suppress(PeerFailed):
            curl_sign(self._acmems.sign_url, csr)
        process.wait()
        self._proxy.heal()
        began = time.monotonic()
        self._acmems.restart()
        if self._proxy.count(path=FINALIZE) > finalizes:
            wait_until(lambda: self._stored > stored, f"an order that was killed {point} is finished")
        reply = curl_sign(self._acmems.sign_url, csr)
        seconds = time.monotonic() - began
        if reply.status == 200:
            verify_chain(reply.body, self._pebble.root_pem())
        return CrashOutcome(
            self._issued - issued, self._placed - placed, reply.status != 200, self._torn, seconds
        )

    @property
    def _issued(self) -> int:
        return self._pebble.log.count("Issued certificate serial")

    @property
    def _placed(self) -> int:
        return self._pebble.log.count("Added order")

    @property
    def _stored(self) -> int:
        return sum(1 for _ in self._storage.rglob("cert.pem"))

    @property
    def _torn(self) -> int:
        return sum(not path.read_bytes().endswith(b"-----\n") for path in self._storage.rglob("*.pem"))
