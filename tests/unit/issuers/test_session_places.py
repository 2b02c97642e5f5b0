"""Where a session goes: the CA's directory, its hosts, and what it is held back from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.session_ca import ACCOUNT, CA, DIRECTORY, ORDER, FakeCA, Reply, T, running, session_at
from tests.steps import PATIENCE, begin

from acmems.exceptions import (
    CAProtocolError,
    CAUnavailable,
    DeadlinePassed,
    DirectoryUnusable,
)
from acmems.issuers.acme.session import Response
from acmems.issuers.acme.session.origin import Origin
from acmems.issuers.acme.session.retries import LONGEST_HOLD
from acmems.issuers.acme.session.session import (
    DIRECTORY_AGE,
    MOST_REDIRECTS,
    STALE,
    Session,
)
from acmems.system.clock import NEVER, Deadline
from acmems.system.steps import Signal, Steps


@pytest.fixture
def ca() -> FakeCA:
    return FakeCA()


@pytest.fixture
def session(ca: FakeCA) -> Session:
    return session_at(ca)


class TestDirectory:
    def test_it_is_read_once_an_hour(self, session: Session, ca: FakeCA) -> None:
        """The directory is kept, and read anew when it is an hour old."""
        for ca.time in (0, 1, DIRECTORY_AGE - 1):
            assert ca.run(session.directory(NEVER))["newOrder"] == f"{CA}/newOrder"
        assert len(ca.requests) == 1
        ca.time = DIRECTORY_AGE
        ca.run(session.directory(NEVER))
        assert len(ca.requests) == 2

    def test_one_reads_it_anew(self, ca: FakeCA) -> None:
        """While one reads it, others go on with the old one: no stampede, and nobody waits."""
        with running(ca) as (session, time):
            ca.loop.run(session.directory(NEVER))
            time.move(DIRECTORY_AGE)
            ca.held = Signal()
            reader = begin(ca.loop, session.directory(NEVER))
            assert ca.loop.submit(session.directory(NEVER)).result(PATIENCE)["newOrder"]
            assert not reader.done()
            ca.loop.soon(ca.held.set)
            assert reader.result(PATIENCE)["newOrder"]
        assert len(ca.requests) == 2

    def test_one_reading_is_for_all(self, ca: FakeCA) -> None:
        """However many want the first directory at the same time, it is read once."""
        with running(ca) as (session, _):
            ca.held = Signal()
            readers = [begin(ca.loop, session.directory(NEVER)) for _ in range(100)]
            ca.loop.soon(ca.held.set)
            assert len({id(reader.result(PATIENCE)) for reader in readers}) == 1
        assert len(ca.requests) == 1

    def test_a_reading_that_fails(self, ca: FakeCA) -> None:
        """Where a reading fails that others wait for, one of them reads, and its error is not theirs."""
        replies: Iterator[Reply] = iter([(404, {}, None), (200, DIRECTORY, None)])
        ca.answers[f"{CA}/dir"] = lambda: next(replies)
        with running(ca) as (session, _):
            ca.held = Signal()
            first, *others = [begin(ca.loop, session.directory(NEVER)) for _ in range(10)]
            ca.loop.soon(ca.held.set)
            assert isinstance(first.exception(PATIENCE), DirectoryUnusable)
            assert len({id(other.result(PATIENCE)) for other in others}) == 1
        assert len(ca.requests) == 2

    def test_who_has_less_time_than_the_reader(self, ca: FakeCA) -> None:
        """Who waits for another's reading in vain does not disturb it: it is for all who come later."""
        with running(ca) as (session, time):
            ca.held = Signal()
            reader = begin(ca.loop, session.directory(NEVER))
            late = begin(ca.loop, session.directory(ca.loop.clock.deadline(5)))
            time.move(5.0)
            assert isinstance(late.exception(PATIENCE), DeadlinePassed)
            another = begin(ca.loop, session.directory(NEVER))
            assert not another.done()
            ca.loop.soon(ca.held.set)
            assert reader.result(PATIENCE) is another.result(PATIENCE)
        assert len(ca.requests) == 1

    def test_after_a_failure_it_is_read_again(self, session: Session, ca: FakeCA) -> None:
        """A directory that could not be read is asked for by the next request."""
        ca.answers[f"{CA}/dir"] = lambda: (404, {}, None)
        with pytest.raises(DirectoryUnusable) as raised:
            ca.run(session.directory(NEVER))
        assert (raised.value.url, raised.value.reason) == (f"{CA}/dir", "HTTP status 404 Not Found")
        del ca.answers[f"{CA}/dir"]
        assert ca.run(session.directory(NEVER))["newOrder"]

    @pytest.mark.parametrize(("document", "reason"), [({}, "the CA's directory lacks newNonce")])
    def test_what_is_no_directory(
        self, session: Session, ca: FakeCA, document: dict[str, Any], reason: str
    ) -> None:
        """A document that is no directory is told with its URL."""
        ca.answers[f"{CA}/dir"] = lambda: (200, document, None)
        with pytest.raises(DirectoryUnusable) as raised:
            ca.run(session.directory(NEVER))
        assert (raised.value.url, raised.value.reason) == (f"{CA}/dir", reason)

    def test_a_reading_anew_that_fails(self, session: Session, ca: FakeCA) -> None:
        """An old directory serves on while the CA is too busy to give it anew; it is asked again later."""
        ca.run(session.directory(NEVER))
        ca.answers[f"{CA}/dir"] = lambda: (503, {}, None)
        ca.headers[f"{CA}/dir"] = {"Retry-After": "86400"}
        ca.time = DIRECTORY_AGE
        for _ in range(3):
            assert ca.run(session.directory(session._clock.deadline(60)))["newOrder"] == f"{CA}/newOrder"
        assert len(ca.requests) == 2
        del ca.answers[f"{CA}/dir"]
        ca.time += STALE
        ca.run(session.directory(NEVER))
        assert len(ca.requests) == 3

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("location", [f"{CA}/v2/dir", "/v2/dir", "v2/dir"])
    def test_a_redirect_on_its_own_host(
        self, session: Session, ca: FakeCA, status: int, location: str
    ) -> None:
        """A directory that has moved is read where it is, and what is relative in it is so to that."""
        ca.answers[f"{CA}/dir"] = lambda: (status, {}, None)
        ca.headers[f"{CA}/dir"] = {"Location": location}
        ca.answers[f"{CA}/v2/dir"] = lambda: (200, {**DIRECTORY, "newOrder": "new-order"}, None)
        assert ca.run(session.directory(NEVER))["newOrder"] == f"{CA}/v2/new-order"
        assert [request.url for request in ca.requests] == [f"{CA}/dir", f"{CA}/v2/dir"]

    @pytest.mark.threat("ca", "another order, other origins")
    @pytest.mark.parametrize(
        "location", ["https://evil.example/dir", "http://ca.example/dir", "//evil.example/dir", "", "\r\n"]
    )
    def test_a_redirect_elsewhere(self, session: Session, ca: FakeCA, location: str) -> None:
        """A redirect leads nowhere but to the CA, and never away from HTTPS."""
        ca.answers[f"{CA}/dir"] = lambda: (302, {}, None)
        ca.headers[f"{CA}/dir"] = {"Location": location}
        with pytest.raises(CAProtocolError, match="URL"):
            ca.run(session.directory(NEVER))
        assert len(ca.requests) == 1

    @pytest.mark.parametrize(("headers", "asked"), [({"Location": "/dir"}, MOST_REDIRECTS + 1), ({}, 1)])
    def test_redirects_are_bounded(
        self, session: Session, ca: FakeCA, headers: dict[str, str], asked: int
    ) -> None:
        """A redirect that leads in a circle, or nowhere, is nonsense after a few steps."""
        ca.answers[f"{CA}/dir"] = lambda: (302, {}, None)
        ca.headers[f"{CA}/dir"] = headers
        with pytest.raises(CAProtocolError, match="redirects"):
            ca.run(session.directory(NEVER))
        assert len(ca.requests) == asked

    @pytest.mark.threat("ca", "another order, other origins")
    def test_nothing_signed_is_redirected(self, session: Session, ca: FakeCA) -> None:
        """A signature is for one URL: only the directory may have moved (RFC 8555 section 6.4)."""
        ca.answers[ORDER] = lambda: (307, {}, ca.nonce())
        ca.headers[ORDER] = {"Location": f"{CA}/order/2"}
        with pytest.raises(CAProtocolError, match="redirects"):
            ca.run(session.post(ORDER, None, deadline=NEVER))
        assert ca.seen(f"{CA}/order/2") == []

    def test_what_the_ca_says_of_itself_is_kept(self, session: Session, ca: FakeCA) -> None:
        """Terms, profiles and the need for an external account are in `meta`; terms are one safe line."""
        meta = {
            "termsOfService": f"{CA}/terms\r\nX: y",
            "profiles": {"a": "b"},
            "externalAccountRequired": True,
        }
        ca.answers[f"{CA}/dir"] = lambda: (
            200,
            {**DIRECTORY, "meta": meta, "zQ8x": "https://a.example"},
            None,
        )
        found = ca.run(session.directory(NEVER))
        assert found.terms_of_service == f"{CA}/terms X: y"
        assert (found.profiles, found.external_account_required) == ({"a": "b"}, True)


class TestHosts:
    """Further hosts of the same CA."""

    OTHER = Origin("orders.ca.example", 8443)

    @pytest.mark.threat("ca", "another order, other origins")
    def test_only_those_that_are_named(self, ca: FakeCA) -> None:
        """Requests go to the hosts that a person has named; the error for any other says how to."""
        session = session_at(ca, hosts=[self.OTHER])
        assert ca.run(session.post(f"{self.OTHER}/order/1", None, deadline=NEVER)).status == 200
        for url in ("https://orders.ca.example/x", "https://evil.example:8443/x"):
            with pytest.raises(CAProtocolError, match=r"acme-host = (orders\.ca|evil)\.example"):
                ca.run(session.post(url, None, deadline=NEVER))
        assert {Origin.of(request.url) for request in ca.requests} == {Origin("ca.example", 443), self.OTHER}

    def test_each_has_connections_of_its_own(self, ca: FakeCA) -> None:
        """A request, and the nonce for it, each go over a connection to the host that they are for."""
        used: list[tuple[Origin, str]] = []
        session = session_at(ca, hosts=[self.OTHER])

        class Way:
            def __init__(self, origin: Origin) -> None:
                self.origin = origin

            def use(self, deadline: Deadline, work: Callable[[Way], Steps[T]]) -> Steps[T]:
                return work(self)

            def exchange(self, method: str, url: str, **options: Any) -> Steps[Response]:
                used.append((self.origin, url))
                return ca.exchange(method, url, **options)

        session._transports = {origin: Way(origin) for origin in session._transports}  # type: ignore[misc]  # in the place of a final attribute
        ca.run(session.post(f"{self.OTHER}/order/1", None, deadline=NEVER))
        assert [url for _, url in used] == [f"{CA}/dir", f"{CA}/newNonce", f"{self.OTHER}/order/1"]
        assert all(origin.has(url) for origin, url in used)

    def test_a_directory_that_moved_to_one(self, ca: FakeCA) -> None:
        """A redirect may lead to a host that is named."""
        session = session_at(ca, hosts=[self.OTHER])
        ca.answers[f"{CA}/dir"] = lambda: (301, {}, None)
        ca.headers[f"{CA}/dir"] = {"Location": f"{self.OTHER}/dir"}
        ca.answers[f"{self.OTHER}/dir"] = lambda: (
            200,
            {name: f"/{name}" for name in DIRECTORY},
            None,
        )
        assert ca.run(session.directory(NEVER))["newOrder"] == f"{self.OTHER}/newOrder"


class TestOverload:
    """What a CA that wants fewer requests still gets."""

    def ask(self, session: Session, ca: FakeCA, url: str, payload: dict[str, str] | None = None) -> bool:
        """Tell whether a request got an answer."""
        try:
            ca.run(session.post(url, payload, deadline=session._clock.deadline(60)))
        except CAUnavailable:
            return False
        return True

    @pytest.mark.threat("ca", "Retry-After")
    @pytest.mark.parametrize(
        ("refused", "payload", "same"),
        [
            (f"{CA}/newOrder", {}, f"{CA}/newOrder"),
            (f"{CA}/authz/1/2", None, f"{CA}/authz/1/3"),
            (f"{CA}/order/1/finalize", {"csr": "x"}, f"{CA}/order/2/finalize"),
            (f"{CA}/cert?id=1", None, f"{CA}/cert?id=2"),
        ],
    )
    def test_one_kind_is_held(
        self, session: Session, ca: FakeCA, refused: str, payload: dict[str, str] | None, same: str
    ) -> None:
        """A 503 to one request, however long it shall last, holds those like it, and no others."""
        ca.run(session.directory(NEVER))
        ca.answers[refused] = lambda: (503, {}, ca.nonce())
        ca.headers[refused] = {"Retry-After": "86400"}
        assert not self.ask(session, ca, refused, payload)
        assert not self.ask(session, ca, same, payload)
        assert len(ca.seen(refused)) + (0 if same == refused else len(ca.seen(same))) == 1
        for other in (f"{CA}/newAccount", f"{CA}/chall/1", f"{CA}/orders/7", ACCOUNT):
            assert self.ask(session, ca, other)
        ca.time += LONGEST_HOLD
        assert same == refused or self.ask(session, ca, same, payload)

    def test_new_nonce_is_a_kind_of_its_own(self, session: Session, ca: FakeCA) -> None:
        """Where a CA gives no nonces for now, those that are there are used, and none is asked for."""
        ca.run(session.directory(NEVER))
        ca.answers[ORDER] = lambda: (200, {}, None)
        ca.answers[f"{CA}/newNonce"] = lambda: (503, {}, None)
        ca.headers[f"{CA}/newNonce"] = {"Retry-After": "86400"}
        assert not self.ask(session, ca, ORDER)
        assert not self.ask(session, ca, f"{CA}/newOrder", {})
        assert len(ca.seen(f"{CA}/newNonce")) == 1
        session._nonces.put("kept")
        assert self.ask(session, ca, ORDER)
        ca.answers[f"{CA}/newNonce"] = lambda: (200, {}, ca.nonce())
        ca.time += LONGEST_HOLD
        assert self.ask(session, ca, ORDER)
