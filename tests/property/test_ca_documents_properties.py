"""What holds for every document of a CA: it is used, or refused by an error with a meaning."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.fake_ca import (
    ACCOUNT,
    AUTHORIZATION,
    CA,
    CERTIFICATE,
    CHAIN,
    CHALLENGE,
    EPOCH,
    FINALIZE,
    KEY,
    NAME,
    NEW_ACCOUNT,
    NEW_ORDER,
    NO_JOURNAL,
    ORDER,
    FakeSession,
    FakeValidator,
    Said,
    Time,
    authorization,
    challenge,
    make_request,
    order,
)

from acmems.challenges.presented.proofs import PresentedProofs
from acmems.config import Configuration
from acmems.exceptions import AcmeException, CAProblem, CAProtocolError, RateLimited
from acmems.issuers.acme.account import AccountDirectory
from acmems.issuers.acme.ordering import Ordering
from acmems.issuers.acme.problems import translate
from acmems.issuers.acme.proving import Proving
from acmems.issuers.acme.registration import Registrar
from acmems.issuers.acme.session import Headers, Response, Session
from acmems.issuers.acme.session.origin import Origin
from acmems.system.clock import Deadline
from acmems.system.steps import Steps

PROBLEM = {
    "type": "urn:ietf:params:acme:error:rejectedIdentifier",
    "title": "no",
    "detail": "policy forbids it",
    "status": 403,
    "instance": f"{CA}/help",
    "identifier": {"type": "dns", "value": NAME},
    "subproblems": [
        {
            "type": "urn:ietf:params:acme:error:caa",
            "detail": "CAA forbids it",
            "identifier": {"type": "dns", "value": NAME},
        }
    ],
}
ORDERS = [
    order("valid", expires="2030-01-01T00:00:00Z", notBefore="2030-01-01T00:00:00Z"),
    order("processing"),
    order("invalid", error=PROBLEM),
]
AUTHORIZATIONS = [
    authorization(expires="2030-01-01T00:00:00Z", wildcard=False),
    authorization("valid", challenges=[challenge(status="valid", validated="2030-01-01T00:00:00Z")]),
    authorization("invalid", challenges=[challenge(status="invalid", error=PROBLEM), challenge("dns-01")]),
]
DIRECTORY = {
    "newNonce": f"{CA}/nonce",
    "newAccount": NEW_ACCOUNT,
    "newOrder": NEW_ORDER,
    "newAuthz": f"{CA}/new-authz",
    "renewalInfo": f"{CA}/renewal",
    "meta": {
        "termsOfService": f"{CA}/terms",
        "website": CA,
        "caaIdentities": ["ca.example.org"],
        "externalAccountRequired": False,
        "profiles": {"default": "the usual"},
    },
}
REGISTRATION = {
    "status": "valid",
    "contact": ["mailto:hostmaster@example.org"],
    "termsOfServiceAgreed": True,
    "agreement": f"{CA}/terms",
    "orders": f"{ACCOUNT}/orders",
    "key": KEY.jwk,
    "externalAccountBinding": {"protected": "a", "payload": "b", "signature": "c"},
}

# Texts that mean something to one reader or another stand beside those that mean nothing.
TEXTS = st.text() | st.sampled_from(
    [
        *("", "valid", "pending", "processing", "invalid", "expired", "deactivated", "dns", "ip", "http-01"),
        *(
            "2030-01-01T00:00:00Z",
            "0000-00-00",
            "https://[",
            f"{CA}/x",
            "RSA",
            "EC",
            "\ud800",
            "\0",
            "*.",
            "a" * 300,
        ),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
KEYS = TEXTS | st.sampled_from(["type", "value", "url", "token", "status", "error", "kty", "n", "e", "crv"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)
DEEP: Any = json.loads("[" * 400 + "]" * 400)


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return where each value within a document stands, the document itself included."""
    yield path
    steps: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for step, inner in steps:
        yield from places(inner, (*path, step))


def replaced(document: Any, path: tuple[Any, ...], value: object) -> Any:
    """Return a copy of a document with another value in one place."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    within = changed
    for step in path[:-1]:
        within = within[step]
    within[path[-1]] = value
    return changed


def damaged(*documents: Mapping[str, object]) -> st.SearchStrategy[Any]:
    """Documents of which one value is any other."""
    return st.sampled_from(documents).flatmap(
        lambda document: st.builds(
            replaced, st.just(document), st.sampled_from(list(places(document))), VALUES
        )
    )


class StrictSession(FakeSession):
    """Refuses URLs as the real session does: those that are none, and those of nobody."""

    def post(self, url: str, *args: Any, **options: Any) -> Steps[Response]:
        try:
            Origin.of(url)
        except ValueError as error:
            raise CAProtocolError("an unusable URL") from error
        if url not in self._answers:
            raise CAProtocolError("nothing there")
        return (yield from super().post(url, *args, **options))


def endures(action: Callable[[], object]) -> None:
    """Do something that may succeed, or fail with an error of acmems, which prints."""
    words = ""
    try:
        action()
    except AcmeException as error:
        words = str(error)
    assert words.isprintable()


def obtain(said: object, proved: object) -> Callable[[], bytes]:
    """Return what orders a certificate at a CA that says this of the order and that of the authorization."""
    time = Time()
    session = StrictSession(
        {
            NEW_ORDER: [Said(order(), {"Location": ORDER})],
            AUTHORIZATION: [proved, authorization("valid")],
            CHALLENGE: [{}],
            FINALIZE: [said, order("valid")],
            ORDER: [said, order("valid")],
            CERTIFICATE: [CHAIN],
        }
    )
    clock, loop = time.clock(), time.loop()
    ordering = Ordering(session, Proving(session, KEY, loop, PresentedProofs(clock, NO_JOURNAL)), clock)
    return lambda: loop.run(ordering.obtain(REQUEST, [FakeValidator()], time.within(), "key")).pem


REQUEST = make_request()


@given(damaged(*ORDERS))
@example(order(status=[]))
@example(order("invalid", error={"type": 7}))
@example(order("invalid", error=["x"]))
@example(order(expires=DEEP))
def test_every_order_is_used_or_refused(document: object) -> None:
    """Whatever stands in an order, a certificate comes of it or an error of acmems."""
    endures(obtain(document, authorization("valid")))


@given(damaged(*AUTHORIZATIONS))
@example(authorization(status={}))
@example(authorization(challenges=[challenge(type_=[])]))
@example(authorization(challenges=[challenge(url=7)]))
@example(authorization(identifier={"type": "dns", "value": 7}))
@example(authorization(challenges=DEEP))
def test_every_authorization_is_used_or_refused(document: object) -> None:
    """Whatever stands in an authorization, its name is proved or there is an error of acmems."""
    endures(obtain(order("valid"), document))


class Told(Session):
    """A session whose CA answers every GET with one document."""

    def __init__(self, document: object) -> None:
        super().__init__(f"{CA}/directory", KEY, Time().loop())
        self._document = document

    def _fetch(self, url: str, deadline: Deadline, max_size: int) -> Steps[Response]:
        yield from ()
        return Response(200, Headers(), json.dumps(self._document).encode(), url)


@given(damaged(DIRECTORY))
@example({**DIRECTORY, "meta": None})
@example({**DIRECTORY, "newAuthz": 7})
@example({**DIRECTORY, "meta": {"website": DEEP}})
def test_every_directory_is_used_or_refused(document: object) -> None:
    """Of a directory that is taken the entrances are texts, and the terms one line."""
    session = Told(document)

    def read() -> None:
        directory = Time().loop().run(session.directory(Time().within()))
        assert all(isinstance(url, str) for url in directory.urls.values())
        assert (directory.terms_of_service or "").isprintable()
        assert isinstance(directory.external_account_required, bool)
        assert all(isinstance(name, str) for name in directory.caa_identities)

    try:
        endures(read)
    finally:
        session.close()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for one account after the other."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@given(document=damaged(REGISTRATION))
@example(document={**REGISTRATION, "contact": 7})
@example(document={**REGISTRATION, "key": {"kty": []}})
@example(document={**REGISTRATION, "agreement": {}})
@example(document={**REGISTRATION, "status": DEEP})
def test_every_account_is_kept_or_refused(folder: Path, document: object) -> None:
    """An account that is taken is on disk afterwards, and is read from there as it was."""
    text = f"[account]\nacme-server = {CA}/directory\ndir = {folder}\nemail = hostmaster@example.org"
    directory = AccountDirectory(folder)
    directory.registration_file.unlink(missing_ok=True)
    session = StrictSession({NEW_ACCOUNT: [Said(document, {"Location": ACCOUNT})], ACCOUNT: [document]})
    registrar = Registrar(Configuration.from_text(text).account, directory, session, KEY)

    def refresh() -> None:
        kept = Time().loop().run(registrar.refresh(Time().within()))
        assert directory.load_registration() == kept

    endures(refresh)


@given(VALUES)
@example(None)
@example({"uri": ACCOUNT, "body": None})
@example({"uri": [], "body": {}})
def test_every_registration_file_is_read_or_refused(value: object) -> None:
    """Whatever JSON stands in `registration.json`, it is an account or an error of acmems."""
    with tempfile.TemporaryDirectory() as path:
        directory = AccountDirectory(Path(path))
        directory.registration_file.write_text(json.dumps(value))
        endures(directory.load_registration)


@given(damaged(PROBLEM), st.sampled_from([400, 403, 429, 500]))
@example({**PROBLEM, "subproblems": [{"identifier": []}]}, 400)
@example({**PROBLEM, "type": DEEP}, 400)
def test_every_problem_is_an_error_with_a_meaning(document: object, status: int) -> None:
    """Whatever stands in a problem document, it becomes an error that prints on one line."""
    error = Response(status, Headers(), json.dumps(document).encode(), ORDER).error(EPOCH)
    assert isinstance(error, (CAProblem, RateLimited))
    assert str(error).isprintable()
    if isinstance(error, CAProblem):
        assert all(text.isprintable() for entry in error.subproblems for text in entry)
        assert str(translate(error, [NAME])).isprintable()
