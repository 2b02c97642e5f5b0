"""A CA that is a table of answers, for what no real one can be made to say.

`FakeSession` stands in for the session with it: what was posted is kept, and each URL answers as it was
told, its last answer again and again. `Time` is a clock whose waits are over at once, and counted.
"""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.chains import make_chain
from tests.steps import DirectLoop

from acmems.challenges import Proof, ValidatorContext
from acmems.challenges.presented.note_files import NoteFiles
from acmems.exceptions import CAProblem
from acmems.issuers.acme.directory import Directory
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.session import Headers, Response, Session
from acmems.settings.options import Options
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Signal, Steps
from acmems.x509 import csr
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier

CA = "https://ca.example.org"
ACCOUNT = f"{CA}/account/1"
ORDER = f"{CA}/order/1"
AUTHORIZATION = f"{CA}/authorization/1"
CHALLENGE = f"{CA}/challenge/1"
FINALIZE = f"{CA}/finalize/1"
CERTIFICATE = f"{CA}/certificate/1"
DIRECTORY = f"{CA}/directory"
NEW_ACCOUNT = f"{CA}/new-account"
NEW_ORDER = f"{CA}/new-order"
NAME = "a.example.org"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"  # noqa: S105 - the one of RFC 8555 section 8.3
KEY = AccountKey.generate("ec256")
EPOCH = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


class Time:
    """A clock that stands still but for waits: those are over at once."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.waits: list[float] = []

    def clock(self) -> Clock:
        """Return the clock to pass in."""
        return Clock(
            monotonic=lambda: self.seconds,
            now=lambda: EPOCH + datetime.timedelta(seconds=self.seconds),
            wait=self._wait,
        )

    def loop(self) -> DirectLoop:
        """Return a loop that runs steps by this clock."""
        return DirectLoop(self.clock())

    def within(self, seconds: float = 60.0) -> Deadline:
        """Return a deadline on this clock."""
        return self.clock().deadline(seconds)

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.seconds += seconds
            self.waits.append(seconds)
        return event.is_set()


@dataclass(frozen=True)
class Posted:
    """A signed request that reached the CA."""

    url: str
    payload: Mapping[str, Any] | None
    repeatable: bool
    use_jwk: bool


@dataclass
class Said:
    """An answer: a JSON value or bytes, and headers."""

    body: object
    headers: Mapping[str, str] = field(default_factory=dict)


class FakeSession(Session):
    """In the place of a session: answers from a table.

    Args:
        answers: what each URL says, one answer after the other; an exception is raised.
        meta: of the CA's directory.
    """

    def __init__(self, answers: Mapping[str, Sequence[object]], **meta: object) -> None:
        self.kid = ACCOUNT
        self.directory_url = DIRECTORY
        self.posts: list[Posted] = []
        self.gets: list[str] = []
        self.held: Signal | None = None
        """What each request waits for before it is answered, where it waits."""
        self.is_closed = False
        self.resources = {"newNonce": f"{CA}/nonce", "newAccount": NEW_ACCOUNT, "newOrder": NEW_ORDER}
        self._meta = meta
        self._answers = {url: list(given) for url, given in answers.items()}

    def say(self, url: str, *answers: object) -> None:
        """Let a URL answer otherwise from now on."""
        self._answers[url] = list(answers)

    def announce(self, **meta: object) -> None:
        """Let the directory say something of the CA."""
        self._meta = meta

    def count(self, url: str) -> int:
        """Return how many requests a URL got."""
        return sum(posted.url == url for posted in self.posts)

    def close(self) -> None:
        """Take note of the end."""
        self.is_closed = True

    def directory(self, deadline: Deadline) -> Steps[Directory]:
        """Return the directory."""
        yield from ()
        return Directory.parse({**self.resources, "meta": self._meta})

    def get(self, url: str, *, deadline: Deadline, max_size: int = 0) -> Steps[Response]:
        """Return the next answer of a URL; the directory is empty unless it is told to say something."""
        self.gets.append(url)
        self._answers.setdefault(url, [{}])
        return (yield from self._answer(url))

    def post(
        self,
        url: str,
        payload: Mapping[str, Any] | None,
        *,
        deadline: Deadline,
        repeatable: bool = True,
        use_jwk: bool = False,
        max_size: int = 0,
        accept: str = "",
    ) -> Steps[Response]:
        """Return the next answer of a URL."""
        self.posts.append(Posted(url, payload, repeatable, use_jwk))
        return (yield from self._answer(url))

    def _answer(self, url: str) -> Steps[Response]:
        if self.held is not None:
            yield self.held.wait()
        answers = self._answers[url]
        said = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(said, Exception):
            raise said
        if not isinstance(said, Said):
            said = Said(said)
        body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        return Response(200, headers_of(said.headers), body, url)


def headers_of(fields: Mapping[str, str]) -> Headers:
    """Return header fields as a response has them."""
    return Headers((name.encode(), value.encode()) for name, value in fields.items())


NO_JOURNAL = NoteFiles(Path("/nonexistent"))


class FakeValidator:
    """Takes note of what is presented and withdrawn, and fails as told."""

    sees_requests = True
    leaves_traces = False
    is_immediate = True
    shows_one_at_a_time = False

    def __init__(self, challenge_type: str = "http-01", error: Exception | None = None) -> None:
        self.name = "fake"
        self.challenge_type = challenge_type
        self.sees_requests = challenge_type == "http-01"
        self.error = error
        self.presented: list[Proof] = []
        self.withdrawn: list[Proof] = []

    @classmethod
    def from_options(cls, name: str, options: Options, context: ValidatorContext) -> Self:
        """Nobody configures it."""
        raise NotImplementedError

    def proves(self, identifier: Identifier) -> bool:
        """Prove anything."""
        return True

    def present(self, proofs: Sequence[Proof]) -> None:
        """Take note of proofs, or fail."""
        self.presented += proofs
        if self.error is not None:
            raise self.error

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        """Take note of proofs."""
        self.withdrawn += proofs


def order(status: object = "pending", **members: object) -> dict[str, object]:
    """Return an order for one name, as a CA sends it."""
    usual = {
        "status": status,
        "identifiers": [{"type": "dns", "value": NAME}],
        "authorizations": [AUTHORIZATION],
        "finalize": FINALIZE,
    }
    return {**usual, **({"certificate": CERTIFICATE} if status == "valid" else {}), **members}


def challenge(type_: object = "http-01", **members: object) -> dict[str, object]:
    """Return a pending challenge, as a CA sends it."""
    return {"type": type_, "status": "pending", "url": CHALLENGE, "token": TOKEN, **members}


def authorization(status: object = "pending", **members: object) -> dict[str, object]:
    """Return an authorization of one name, as a CA sends it."""
    identifier = {"type": "dns", "value": NAME}
    return {"status": status, "identifier": identifier, "challenges": [challenge()], **members}


def problem(code: str, detail: str = "told to fail", status: int = 403, **more: Any) -> CAProblem:
    """Return a CA's problem with one of ACME's own codes."""
    return CAProblem(status, CAProblem.PREFIX + code, detail, **more)


def make_request(*names: str, cn: str | None = None) -> CertificateRequest:
    """Return a signing request for some names; with `cn`, for that common name and no subjectAltName."""
    subject = [] if cn is None else [x509.NameAttribute(x509.NameOID.COMMON_NAME, cn)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if cn is None:
        san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names or (NAME,)])
        builder = builder.add_extension(san, critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return csr.parse(signed.public_bytes(serialization.Encoding.PEM), csr.Rules())


CHAIN = make_chain(make_request()).pem
"""A chain as a CA sends it, for nobody's key."""
