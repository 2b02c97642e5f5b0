"""kill -9 while an ACME client orders, and what the same client makes of it after the next start."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dns.query
import dns.update
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.acme_client import Answer, thumbprint
from tests.acme_front_end import AcmeFrontEnd
from tests.acme_orders import Orderer, make_csr
from tests.crash import CLEARED_SECONDS, STATE, Crashes, CrashOutcome, CrashPoint
from tests.faults import AUTHORIZATION, CERTIFICATE, CHALLENGE, FINALIZE, NEW_ORDER, ORDER
from tests.peers import PeerFailed, Settings, verify_chain, wait_until
from tests.peers.disk import Call

from acmems.challenges.txt import txt_value
from acmems.x509 import chain as chains

REGISTERING, PLACING, PROVING, FINALIZING = "registering", "placing", "proving", "finalizing"
"""What a client does, one after the other."""
PATIENCE = 60.0
"""Seconds in which a client that goes on must have its certificate."""
PAUSE = 0.2
"""Seconds between two of its looks."""


@dataclass(frozen=True, kw_only=True)
class AcmePoint(CrashPoint):
    """Where the server is killed.

    Args:
        during: what the client is about to do when steps at the disk are counted from; empty: `since` counts.
        is_prepared: whether the client finalizes only when its names are proved outside; None: the dice say.
        is_client_away: whether the client comes back only after what was left in DNS should be withdrawn.
        is_proved_inside: whether the client has to prove its names to the server first.
    """

    during: str = ""
    is_prepared: bool | None = None
    is_client_away: bool = False
    is_proved_inside: bool = False


def _points() -> Iterator[AcmePoint]:
    """Yield the points in the order in which a server comes to them."""
    noted: dict[str, Any] = {"call": Call.SYNC, "file": STATE}
    written: dict[str, Any] = {"call": Call.WRITE, "file": STATE}
    for after in (False, True):

        def point(name: str, after: bool = after, **members: Any) -> AcmePoint:
            return AcmePoint(name=name, after=after, **members)

        yield point("account written", during=REGISTERING, most=2, **written)
        yield point("account noted", during=REGISTERING, **noted)
        yield point("order written", during=PLACING, most=2, **written)
        yield point("order noted", during=PLACING, **noted)
        yield point("newOrder outside", path=NEW_ORDER, places_anew=True)
        # That is all that is noted of a preparation where one server has the state.
        yield point("order outside noted", since=NEW_ORDER, places_anew=not after, is_prepared=True, **noted)
        yield point("authorization", path=AUTHORIZATION, most=2, places_anew=True)
        yield point("proof noted", since=AUTHORIZATION, places_anew=True, is_prepared=True, **noted)
        yield point("challenge", path=CHALLENGE, most=2, places_anew=True)
        yield point("order outside ready", path=AUTHORIZATION, least=3, most=4, places_anew=True)
        yield point("finalize noted", during=FINALIZING, is_prepared=True, **noted)
        yield point("order outside taken", during=FINALIZING, least=2, most=2, is_prepared=True, **noted)
        yield point("finalize outside", path=FINALIZE)
        yield point("order outside issued", path=ORDER)
        yield point("certificate", path=CERTIFICATE)
        yield point("chain written", call=Call.WRITE, file="storage/*.tmp", since=FINALIZE, most=3)
        yield point("index renamed", file="storage/identities/*")
        yield point("cert.pem renamed", file="storage/??/*/cert.pem")
        # The same transaction has the chain, and that the order inside is valid.
        yield point("end written", since=CERTIFICATE, most=2, **written)
        yield point("end noted", since=CERTIFICATE, **noted)
        # Names are proved outside while the last challenge inside is `processing`.
        inside: dict[str, Any] = {"is_proved_inside": True}
        yield point("challenge inside noted", during=PROVING, **noted, **inside)
        yield point("newOrder, proved inside", path=NEW_ORDER, places_anew=True, **inside)
        yield point("challenge, proved inside", path=CHALLENGE, most=2, places_anew=True, **inside)
        yield point("ready, proved inside", path=AUTHORIZATION, least=3, most=4, places_anew=True, **inside)


_NAMES = [each.name for each in _points()]
ACME_POINTS = tuple(sorted(_points(), key=lambda point: _NAMES.index(point.name)))
ANY_TIME_AT_ACME = AcmePoint(name="any time", after=True, places_anew=True)
"""From the new account until the certificate was downloaded, wherever that is."""
CLIENT_AWAY = AcmePoint(name="any time, client away", after=True, places_anew=True, is_client_away=True)
"""The same; the client comes back when all that was left in DNS should be withdrawn."""
ANY_TIME_INSIDE = AcmePoint(
    name="any time, proved inside", after=True, places_anew=True, is_proved_inside=True
)
ANY_TIMES = (ANY_TIME_AT_ACME, CLIENT_AWAY, ANY_TIME_INSIDE)


@dataclass
class SentRequest:
    """A request of a client that changes something.

    Args:
        during: what the client was doing.
        url: where to.
        body: it, with its nonce.
        is_answered: whether it was done, as far as the client knows.
    """

    during: str
    url: str
    body: Mapping[str, Any] | bytes
    is_answered: bool = False


@dataclass
class RecordingOrderer(Orderer):
    """A client that remembers what it has sent.

    Attributes:
        during: what it is doing.
        sent: its requests that change something.
    """

    during: str = REGISTERING
    sent: list[SentRequest] = field(default_factory=list)

    def send(
        self, url: str, body: Mapping[str, Any] | bytes, content_type: str = "application/jose+json"
    ) -> Answer:
        changes = isinstance(body, Mapping) and body["payload"]
        request = SentRequest(self.during, url, body)
        if changes:
            self.sent.append(request)
        answer = super().send(url, body, content_type)
        request.is_answered = answer.status < 400
        return answer

    def would_repeat(self, request: SentRequest) -> bool:
        """Send a request once more, word by word, and tell whether that is taken."""
        answer = super().send(request.url, request.body)
        return not (answer.status == 400 and answer.problem == "badNonce")


class Errand:
    """What a client wants: a certificate for some names, once, by one key and one account.

    Args:
        client: the client.
        names: the names.
        add_text: adds a TXT record where it proves a name.
        looks_at_order: whether it looks at its order, and not at authorizations, until names are proved.

    Attributes:
        texts: the TXT records that were added.
    """

    def __init__(
        self,
        client: RecordingOrderer,
        names: tuple[str, ...],
        add_text: Callable[[str, str], None],
        *,
        looks_at_order: bool,
    ) -> None:
        self.client = client
        self.names = names
        self.texts: set[str] = set()
        self._add_text = add_text
        self._looks_at_order = looks_at_order
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.order: Answer | None = None
        self.chain: bytes | None = None
        self._csr = make_csr(*names, key=self.key)

    def go_on(self, before: Callable[[str], None] = lambda _: None) -> None:
        """Do what is left, until the chain is there.

        Args:
            before: told what comes next.

        Raises:
            OSError, http.client.HTTPException: the server has gone.
            AssertionError: it refuses something, or takes too long.
        """
        client = self.client
        if client.kid is None:
            self._begin(REGISTERING, before)
            registered = client.register()
            assert client.kid is not None, registered
        if self.order is None:
            self._begin(PLACING, before)
            placed = client.order(*self.names)
            assert placed.status == 201, placed
            self.order = placed
        until = time.monotonic() + PATIENCE
        shown = client.post(self.order.location)
        if shown.json["status"] == "pending":
            self._prove(self.order.json["authorizations"], before)
            while shown.json["status"] == "pending":
                assert time.monotonic() < until, shown
                shown = client.post(self.order.location)
        if shown.json["status"] == "ready":
            self._begin(FINALIZING, before)
            shown = client.finalize(self.order.json, self._csr)
        while shown.json["status"] == "processing":
            assert time.monotonic() < until, shown
            time.sleep(PAUSE)
            shown = client.post(self.order.location)
        assert shown.json["status"] == "valid", shown.json
        downloaded = client.post(shown.json["certificate"])
        assert downloaded.status == 200, downloaded
        self.chain = downloaded.body

    def _prove(self, urls: list[str], before: Callable[[str], None]) -> None:
        """Answer the challenges that were not answered yet."""
        for url in urls:
            shown = self.client.post(url).json
            [challenge] = shown["challenges"]
            if challenge["status"] == "pending":
                text = txt_value(f"{challenge['token']}.{thumbprint(self.client.key)}")
                self._add_text(shown["identifier"]["value"], text)
                self.texts.add(text)
                self._begin(PROVING, before)
                self.client.post(challenge["url"], {})
            until = time.monotonic() + PATIENCE
            while not self._looks_at_order and self.client.post(url).json["status"] == "pending":
                assert time.monotonic() < until, url

    def _begin(self, during: str, before: Callable[[str], None]) -> None:
        self.client.during = during
        before(during)

    def was_done(self, request: SentRequest) -> bool:
        """Tell whether a request has changed something, also where its answer was lost."""
        client = self.client
        if request.is_answered:
            return True
        if request.during == REGISTERING:
            return self._account is not None
        if request.during == PLACING:
            return bool(client.post(client.post(client.kid or "").json["orders"]).json["orders"])
        if request.during == PROVING:
            return bool(client.post(request.url).json["status"] != "pending")
        return self.order is not None and client.post(self.order.location).json["status"] not in (
            "pending",
            "ready",
        )

    @property
    def has_lost_account(self) -> bool:
        """Whether its account, if it was told of one, is not what its key finds."""
        return self.client.kid is not None and self._account != self.client.kid

    @property
    def _account(self) -> str | None:
        other = Orderer(self.client.directory_url, self.client.key, self.client.trust, self.client.address)
        with other:
            found = other.register(onlyReturnExisting=True)
        return found.location if found.status == 200 else None


class AcmeCrashes(Crashes):
    """A server that is killed again and again while ACME clients order from it."""

    def _adapt(self, settings: Settings) -> None:
        self._front_end = AcmeFrontEnd(self.folder, settings)

    def kill(self, point: CrashPoint) -> CrashOutcome:
        """Kill the server while a client orders, start it again, and have the same client go on.

        Raises:
            PeerFailed: the server never came to this point, or does not start after the kill.
        """
        assert isinstance(point, AcmePoint)
        number = next(self._numbers)
        wild = f"host{number}.example.net"
        if self._acmems.process.poll() is not None:
            self._acmems.restart()
        issued, placed, accounts = self._issued, self._placed, self._accounts
        trust = ssl.create_default_context(cafile=str(self._front_end.chain))
        url, address = f"{self._front_end.url}/directory", ("127.0.0.1", self._front_end.port)
        with RecordingOrderer(url, trust=trust, address=address) as client:
            names = (f"host{number}.example.org", f"*.{wild}")
            errand = Errand(client, names, self._add_text, looks_at_order=self.dice.random() < 0.5)
            with self._order_until(point), contextlib.suppress(OSError, http.client.HTTPException):
                errand.go_on(lambda during: self._arm_during(point, during, errand))
            wait_until(lambda: self._acmems.process.poll() is not None, f"the server is killed {point}")
            client.close()
            self._proxy.heal()
            self._disk.heal()
            torn = self._torn
            began = time.monotonic()
            self._acmems.start()
            if point.is_client_away:
                self._wait_for_withdrawal(wild, errand)
            left = self._left_by(wild, errand) if point.is_client_away else 0
            lost_accounts = int(errand.has_lost_account)
            repeated = sum(client.would_repeat(each) for each in client.sent if errand.was_done(each))
            refusal = ""
            try:
                errand.go_on()
            except AssertionError as error:
                refusal = f"{point}, host{number}: {error}"
            seconds = time.monotonic() - began
            lost_accounts |= errand.has_lost_account
        if errand.chain is not None:
            verify_chain(errand.chain, self._pebble.root_pem())
            spki = errand.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            assert chains.parse(errand.chain).spki == spki
        self._wait_for_withdrawal(wild, errand)
        return CrashOutcome(
            self._issued - issued,
            self._placed - placed,
            self._accounts - accounts,
            errand.chain is None,
            torn + self._torn,
            left + self._left_by(wild, errand),
            seconds,
            lost_accounts,
            repeated,
            refusal,
        )

    def _add_text(self, name: str, text: str) -> None:
        """Add a TXT record, as a client does that proves a name."""
        zone = name.partition(".")[2]
        update = dns.update.UpdateMessage(zone)
        update.add(f"_acme-challenge.{name}.", 60, "TXT", text)
        update.add(f"{name}.", 60, "A", "127.0.0.1")  # what all names have stops at a name that is there
        dns.query.tcp(update, "127.0.0.1", timeout=30, port=self._bind.port)

    def _left_by(self, name: str, errand: Errand) -> int:
        """Return how many records of the server are there."""
        return len(set(self._bind.texts(f"_acme-challenge.{name}")) - errand.texts)

    def _wait_for_withdrawal(self, name: str, errand: Errand) -> None:
        with contextlib.suppress(PeerFailed):
            wait_until(lambda: not self._left_by(name, errand), "all is withdrawn", CLEARED_SECONDS)

    def _arm_during(self, point: AcmePoint, during: str, errand: Errand) -> None:
        """Wait for what a client waits for before its next step, and have the steps of a point counted."""
        waits = self.dice.random() < 0.5 if point.is_prepared is None else point.is_prepared
        if during == FINALIZING and waits:
            self._wait_for_preparation(errand)
        if during == point.during:
            nth = self.dice.randint(point.least, point.most)
            self._disk.kill_at(point.call, f"{self._server}/{point.file}", after=point.after, nth=nth)

    def _wait_for_preparation(self, errand: Errand) -> None:
        names = ", ".join(sorted(errand.names))
        told = [f"an order for {names} {words}" for words in ("is prepared", "could not be prepared")]

        def has_ended() -> bool:
            return self._acmems.process.poll() is not None or any(each in self._acmems.log for each in told)

        wait_until(has_ended, "names are proved outside")

    @contextlib.contextmanager
    def _order_until(self, point: CrashPoint) -> Iterator[None]:
        assert isinstance(point, AcmePoint)
        if point.during:
            yield
            return
        if point not in ANY_TIMES:
            with super()._order_until(point):
                yield
            return
        timer = threading.Timer(self.dice.uniform(0.0, 0.5), self._end)
        timer.start()
        yield
        timer.join()

    def _end(self) -> None:
        self._acmems.process.kill()
        self._acmems.process.wait()


class ProvingCrashes(AcmeCrashes):
    """The same; clients prove their names to the server by dns-01 first."""

    def _adapt(self, settings: Settings) -> None:
        settings.auth = settings.auth.replace("domain = **\n", "domain = **\nprove = dns-01\n")
        super()._adapt(settings)
        settings.auth += f"resolver = 127.0.0.1:{self._bind.port}\n"
