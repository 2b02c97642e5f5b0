"""Ordering: from a request to its chain, and how an unfinished order goes on."""

from __future__ import annotations

import contextlib
import copy
import datetime
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import pytest
from tests.fake_ca import (
    AUTHORIZATION,
    CERTIFICATE,
    CHAIN,
    CHALLENGE,
    FINALIZE,
    KEY,
    NAME,
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
    problem,
)
from tests.steps import PATIENCE, LoopTime, begin

from acmems.challenges.presented.proofs import PresentedProofs
from acmems.exceptions import (
    AccountError,
    AcmeException,
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    ChallengeFailed,
    DeadlinePassed,
    FateUnknown,
    PayloadInvalid,
    RateLimited,
    ValidatorUnavailable,
)
from acmems.issuers.acme.ordering import Ordering
from acmems.issuers.acme.proving import Proving
from acmems.system.steps import StepLoop
from acmems.x509.csr import CertificateRequest

PLACED = Said(order(), {"Location": ORDER})
CSR = make_request()


class Desk:
    """Orders at a CA that is a table; every name is proved already, and every order works."""

    def __init__(self, loop: StepLoop | None = None, **options: Any) -> None:
        self.time = Time()
        self.session = FakeSession(
            {
                NEW_ORDER: [PLACED],
                ORDER: [order("valid")],
                AUTHORIZATION: [authorization("valid")],
                CHALLENGE: [{}],
                FINALIZE: [order("valid")],
                CERTIFICATE: [CHAIN],
            }
        )
        self.loop = loop or self.time.loop()
        clock = self.loop.clock
        proving = Proving(self.session, KEY, self.loop, PresentedProofs(clock, NO_JOURNAL))
        self.validator = FakeValidator()
        self.ordering = Ordering(self.session, proving, clock, **options)

    def obtain(
        self, request: CertificateRequest = CSR, key: Hashable = "key", *, seconds: float = 60.0
    ) -> bytes:
        deadline = self.time.within(seconds)
        return self.loop.run(self.ordering.obtain(request, [self.validator], deadline, key))

    def say(self, url: str, *answers: object) -> None:
        self.session.say(url, *answers)

    def count(self, url: str) -> int:
        return self.session.count(url)


@pytest.fixture
def desk() -> Desk:
    return Desk()


class TestObtain:
    """From a request to its chain."""

    def test_an_order_with_proved_names(self, desk: Desk) -> None:
        """Names that are valid already cost no proof: order, look, finalize, download."""
        assert desk.obtain() == CHAIN
        assert [post.url for post in desk.session.posts] == [NEW_ORDER, AUTHORIZATION, FINALIZE, CERTIFICATE]
        assert desk.validator.presented == []

    def test_what_must_not_be_repeated(self, desk: Desk) -> None:
        """New order and finalize are the requests that are never sent twice."""
        desk.obtain()
        assert [post.url for post in desk.session.posts if not post.repeatable] == [NEW_ORDER, FINALIZE]

    def test_the_profile_is_ordered(self) -> None:
        """A configured profile stands in the order, and no other one does."""
        for profile, more in [(None, {}), ("shortlived", {"profile": "shortlived"})]:
            desk = Desk(profile=profile)
            desk.obtain()
            assert desk.session.posts[0].payload == {"identifiers": [{"type": "dns", "value": NAME}], **more}

    def test_an_order_without_its_url(self, desk: Desk) -> None:
        """A new order without `Location` is nonsense of the CA."""
        desk.say(NEW_ORDER, order())
        with pytest.raises(CAProtocolError, match="URL"):
            desk.obtain()

    @pytest.mark.parametrize(
        ("status", "requests"),
        [
            ("ready", [NEW_ORDER, FINALIZE, CERTIFICATE]),
            ("processing", [NEW_ORDER, ORDER, CERTIFICATE]),
            ("valid", [NEW_ORDER, CERTIFICATE]),
        ],
    )
    def test_every_state_goes_on(self, desk: Desk, status: str, requests: Sequence[str]) -> None:
        """Whatever state an order is in, only what is left to do is done (section 7.1.6)."""
        desk.say(NEW_ORDER, Said(order(status), {"Location": ORDER}))
        assert desk.obtain() == CHAIN
        assert [post.url for post in desk.session.posts] == requests

    def test_an_invalid_order_tells_why(self, desk: Desk) -> None:
        """The reason for an invalid order is the CA's, with the name that it is about."""
        kind = CAProblem.PREFIX + "caa"
        sub = {"type": kind, "detail": "forbidden", "identifier": {"type": "dns", "value": NAME}}
        error = {"type": CAProblem.PREFIX + "compound", "detail": "several", "subproblems": [sub]}
        desk.say(FINALIZE, order("invalid", error=error))
        with pytest.raises(ChallengeFailed, match="forbidden") as raised:
            desk.obtain()
        assert raised.value.domain == NAME

    @pytest.mark.parametrize(
        "error",
        [
            {},
            {"type": 7},
            {"type": ["x"], "detail": {}},
            {"subproblems": 7},
            {"subproblems": [7, {"type": 7, "detail": [], "identifier": {"type": [], "value": 7}}]},
            {"identifier": {"type": "odd", "value": 7}},
            ["x"],
            "x",
            7,
        ],
        ids=str,
    )
    def test_an_invalid_order_with_an_odd_reason(self, desk: Desk, error: object) -> None:
        """What cannot be read of a reason is left out, or the order is nonsense; it is never our bug."""
        desk.say(FINALIZE, order("invalid", error=error))
        with pytest.raises((CAProblem, CAProtocolError)):
            desk.obtain()

    def test_an_invalid_order_without_a_reason(self, desk: Desk) -> None:
        """An order that is invalid for no reason is nonsense of the CA."""
        desk.say(FINALIZE, order("invalid"))
        with pytest.raises(CAProtocolError, match="no reason"):
            desk.obtain()

    @pytest.mark.parametrize("certificate", [None, 7, [CERTIFICATE]])
    def test_a_valid_order_without_a_certificate(self, desk: Desk, certificate: object) -> None:
        """A valid order names its certificate; where it does not yet, it is looked at again."""
        desk.say(FINALIZE, order("valid", certificate=certificate))
        desk.say(ORDER, order("valid", certificate=certificate), order("valid"))
        assert desk.obtain() == CHAIN
        assert desk.count(ORDER) == 2

    def test_more_authorizations_than_names(self, desk: Desk) -> None:
        """An order that lists thousands of authorizations for one name costs not one request for them."""
        urls = [f"{AUTHORIZATION}/{number}" for number in range(20_000)]
        desk.say(NEW_ORDER, Said(order(authorizations=urls), {"Location": ORDER}))
        with pytest.raises(CAProtocolError, match="20000 authorizations"):
            desk.obtain()
        assert [post.url for post in desk.session.posts] == [NEW_ORDER]

    def test_an_authorization_that_is_listed_twice(self, desk: Desk) -> None:
        """An authorization is read once, however often the order lists it."""
        desk.say(NEW_ORDER, Said(order(authorizations=[AUTHORIZATION] * 3), {"Location": ORDER}))
        assert desk.obtain() == CHAIN
        assert desk.count(AUTHORIZATION) == 1

    @pytest.mark.threat("csr", "a common name and no SAN")
    def test_a_common_name_that_the_ca_does_not_take(self, desk: Desk) -> None:
        """A CSR with a CN only that the CA refuses is refused with the option that makes a better one."""
        desk.say(FINALIZE, problem("badCSR", "no SAN"))
        with pytest.raises(PayloadInvalid, match=r"-addext 'subjectAltName=DNS:a\.example\.org'"):
            desk.obtain(make_request(cn=NAME))

    def test_the_ca_is_never_asked_earlier_than_it_wants(self, desk: Desk) -> None:
        """A `Retry-After` of a finalize and of each look is waited for."""
        desk.say(FINALIZE, Said(order("processing"), {"Retry-After": "7"}))
        desk.say(ORDER, Said(order("processing"), {"Retry-After": "9"}), order("valid"))
        assert desk.obtain() == CHAIN
        assert desk.time.waits == [7.0, 9.0]

    def test_looks_become_rarer(self, desk: Desk) -> None:
        """Without a `Retry-After` the waits grow from the second on, which comes soon after the first."""
        desk.say(FINALIZE, order("processing"))
        desk.say(ORDER, *[order("processing")] * 8, order("valid"))
        desk.obtain()
        first, *later = desk.time.waits
        assert later == sorted(set(later))
        assert later[0] < first
        assert len(later) == 8

    def test_an_order_that_is_not_ready_yet(self, desk: Desk) -> None:
        """A finalize that came too early is sent again when the order is ready, and not before."""
        desk.say(FINALIZE, problem("orderNotReady"), order("valid"))
        desk.say(ORDER, order("pending"), order("ready"))
        assert desk.obtain() == CHAIN
        assert desk.count(FINALIZE) == 2
        assert desk.count(ORDER) == 2


class TestEndless:
    """A state that never ends costs few requests, and one finalize."""

    MOST_IN_AN_HOUR = 250

    @pytest.mark.parametrize("status", ["pending", "ready", "processing"])
    def test_an_order_after_its_finalize(self, desk: Desk, status: str) -> None:
        """Whatever the order stays at after a finalize that was answered, the CSR is not sent again."""
        desk.say(FINALIZE, order(status))
        desk.say(ORDER, order(status))
        with pytest.raises(DeadlinePassed):
            desk.obtain(seconds=3600)
        assert desk.count(FINALIZE) == 1
        assert 50 < desk.count(ORDER) < self.MOST_IN_AN_HOUR

    @pytest.mark.parametrize(
        "fate",
        [FateUnknown("lost"), problem("orderNotReady"), CAProblem(403, "about:blank", "go away")],
        ids=str,
    )
    def test_a_finalize_that_never_arrives(self, desk: Desk, fate: Exception) -> None:
        """A finalize that the CA does not take, of an order that stays ready, is sent a few times."""
        desk.say(FINALIZE, fate)
        desk.say(ORDER, order("ready"))
        with pytest.raises(type(fate)):
            desk.obtain(seconds=3600)
        assert desk.count(FINALIZE) == 5
        assert desk.count(ORDER) <= 20

    def test_an_order_that_stays_ready_is_finalized_by_a_later_request(self, desk: Desk) -> None:
        """Once an order was seen ready for all of the time, the CA has lost the CSR, and gets it again."""
        desk.say(FINALIZE, order("ready"), order("valid"))
        desk.say(ORDER, order("ready"))
        with pytest.raises(DeadlinePassed):
            desk.obtain(seconds=3600)
        assert desk.obtain() == CHAIN
        assert (desk.count(NEW_ORDER), desk.count(FINALIZE)) == (1, 2)

    @pytest.mark.parametrize("status", ["pending", "processing"])
    @pytest.mark.parametrize("answered", ["pending", "processing", "valid", "invalid"])
    def test_an_authorization(self, desk: Desk, status: str, answered: str) -> None:
        """However long the CA does not decide, and whatever the challenge says, looks become rarer."""
        endless = authorization(status, challenges=[challenge(status=answered)])
        desk.say(AUTHORIZATION, endless)
        with pytest.raises(DeadlinePassed):
            desk.obtain(seconds=3600)
        assert 50 < desk.count(AUTHORIZATION) < self.MOST_IN_AN_HOUR
        assert desk.count(CHALLENGE) <= 1
        assert desk.count(FINALIZE) == 0


HTML = b"<html><body>Wait</body></html>"
ODD = [
    Said(HTML),
    Said(b""),
    CAProblem(403, "about:blank", "HTTP status 403"),
    CAProblem(404, "about:blank", "HTTP status 404"),
    problem("malformed", "no such thing", 404),
    problem("unauthorized"),
    Said({"status": "perhaps"}),
]


class TestOddAnswers:
    """Once the CA has the CSR, what tells nothing is asked for again, later."""

    @pytest.mark.parametrize("odd", ODD, ids=str)
    @pytest.mark.parametrize("url", [ORDER, CERTIFICATE])
    def test_one(self, desk: Desk, url: str, odd: object) -> None:
        """One odd answer about the order or the chain costs a second."""
        desk.say(FINALIZE, order("processing"))
        desk.say(ORDER, order("valid"))
        desk.say(url, odd, CHAIN if url == CERTIFICATE else order("valid"))
        assert desk.obtain() == CHAIN
        assert desk.time.waits[-1] == 1.0
        assert (desk.count(NEW_ORDER), desk.count(FINALIZE)) == (1, 1)

    @pytest.mark.parametrize("odd", ODD, ids=str)
    @pytest.mark.parametrize("url", [ORDER, CERTIFICATE])
    def test_many(self, desk: Desk, url: str, odd: object) -> None:
        """After a few the client is told, and the next request goes on with the same order."""
        desk.say(FINALIZE, order("processing"))
        desk.say(url, copy.copy(odd))
        with pytest.raises((CAProblem, CAProtocolError)) as raised:
            desk.obtain()
        assert raised.value.retry_after
        assert desk.count(url) == 5
        desk.say(ORDER, order("valid"))
        desk.say(CERTIFICATE, CHAIN)
        assert desk.obtain() == CHAIN
        assert (desk.count(NEW_ORDER), desk.count(FINALIZE)) == (1, 1)

    @pytest.mark.parametrize("odd", [ODD[0], ODD[1], ODD[2], ODD[3], ODD[6]], ids=str)
    def test_one_to_the_finalize(self, desk: Desk, odd: object) -> None:
        """An odd answer to the finalize itself may be a proxy's: the order tells what became of it."""
        desk.say(FINALIZE, odd)
        desk.say(ORDER, order("processing"), order("valid"))
        assert desk.obtain() == CHAIN
        assert (desk.count(NEW_ORDER), desk.count(FINALIZE)) == (1, 1)

    def test_the_account_is_no_odd_answer(self, desk: Desk) -> None:
        """Where the CA does not know the account any more, that is told at once, and the order stays open."""
        desk.say(CERTIFICATE, problem("accountDoesNotExist"), CHAIN)
        with pytest.raises(AccountError):
            desk.obtain()
        assert desk.count(CERTIFICATE) == 1
        assert desk.obtain() == CHAIN
        assert desk.count(NEW_ORDER) == 1

    def test_an_invalid_order_is_given_up(self, desk: Desk) -> None:
        """The CA's `invalid` ends an order that was finalized."""
        desk.say(FINALIZE, order("processing"))
        desk.say(ORDER, order("invalid", error={"type": CAProblem.PREFIX + "serverInternal"}))
        with pytest.raises(CAProblem):
            desk.obtain()
        desk.say(ORDER, order("valid"))
        assert desk.obtain() == CHAIN
        assert desk.count(NEW_ORDER) == 2

    @pytest.mark.parametrize(
        ("expires", "hours"),
        [(None, 24), ("nonsense", 24), (7, 24), (-5, 1), (48, 48), (1000, 168)],
        ids=str,
    )
    def test_an_expired_order_is_given_up(self, desk: Desk, expires: object, hours: int) -> None:
        """An order ends when the CA says so, but not before an hour, nor after a week; else after a day."""
        said = expires
        if isinstance(expires, int) and expires != 7:
            said = (desk.time.clock().now() + datetime.timedelta(hours=expires)).isoformat()
        desk.say(NEW_ORDER, Said(order(expires=said), {"Location": ORDER}))
        desk.say(CERTIFICATE, Said(HTML))
        for _ in range(2):
            with pytest.raises(CAProtocolError):
                desk.obtain()
        desk.time.seconds += hours * 3600 - 60
        with pytest.raises(CAProtocolError):
            desk.obtain()
        assert desk.count(NEW_ORDER) == 1
        desk.time.seconds += 60
        desk.say(CERTIFICATE, CHAIN)
        assert desk.obtain() == CHAIN
        assert desk.count(NEW_ORDER) == 2


class TestLostAnswers:
    """Where nobody knows what became of a request, the order is read."""

    @pytest.mark.threat("ca", "a finalize whose answer is lost")
    @pytest.mark.parametrize("status", ["processing", "valid"])
    def test_a_finalize_that_arrived(self, desk: Desk, status: str) -> None:
        """An order that went on was finalized: nothing is sent again."""
        desk.say(FINALIZE, FateUnknown("lost"))
        desk.say(ORDER, order("ready"), order(status), order("valid"))
        assert desk.obtain() == CHAIN
        assert desk.count(FINALIZE) == 1

    @pytest.mark.threat("ca", "a finalize whose answer is lost")
    def test_a_finalize_that_did_not_arrive(self, desk: Desk) -> None:
        """An order that stays ready, look after look, was not finalized: then it is."""
        desk.say(FINALIZE, FateUnknown("lost"), order("valid"))
        desk.say(ORDER, order("ready"))
        assert desk.obtain() == CHAIN
        assert desk.count(FINALIZE) == 2
        assert desk.count(ORDER) > 2

    def test_a_new_order(self, desk: Desk) -> None:
        """A new order whose answer is lost cannot be found again: it is not repeated, the client may."""
        desk.say(NEW_ORDER, FateUnknown("lost"))
        with pytest.raises(FateUnknown):
            desk.obtain()
        assert desk.count(NEW_ORDER) == 1


class TestResume:
    """What could not be finished stays open, and the next request for the same goes on with it."""

    def leave_open(self, desk: Desk, key: Hashable = "key") -> None:
        desk.say(FINALIZE, order("processing"))
        desk.say(ORDER, order("processing"))
        with pytest.raises(DeadlinePassed) as raised:
            desk.obtain(key=key, seconds=5)
        assert raised.value.retry_after is not None
        desk.say(FINALIZE, order("valid"))
        desk.say(ORDER, order("valid"))

    @pytest.mark.threat("ca", "an order that stays in processing")
    def test_an_open_order_is_continued(self, desk: Desk) -> None:
        """The second request reads the order, downloads, and neither orders nor finalizes."""
        self.leave_open(desk)
        assert desk.obtain() == CHAIN
        assert (desk.count(NEW_ORDER), desk.count(FINALIZE)) == (1, 1)

    def test_a_finished_order_is_not_continued(self, desk: Desk) -> None:
        """After a delivered chain the same request is a new order."""
        desk.obtain()
        desk.obtain()
        assert desk.count(NEW_ORDER) == 2

    def test_another_request_is_another_order(self, desk: Desk) -> None:
        """An open order is continued for the same key only."""
        self.leave_open(desk)
        desk.obtain(key="other")
        assert desk.count(NEW_ORDER) == 2

    @pytest.mark.parametrize(
        "gone", [order("invalid"), problem("malformed", status=404), problem("unauthorized")], ids=str
    )
    def test_an_order_that_is_gone(self, desk: Desk, gone: object) -> None:
        """An open order that was not finalized, and is gone, or became invalid, is ordered anew."""
        desk.say(AUTHORIZATION, CAUnavailable("down"), authorization("valid"))
        with pytest.raises(CAUnavailable):
            desk.obtain()
        desk.say(ORDER, gone)
        assert desk.obtain() == CHAIN
        assert desk.count(NEW_ORDER) == 2

    @pytest.mark.parametrize(
        "error",
        [
            CAUnavailable("down"),
            RateLimited("later"),
            DeadlinePassed("late"),
            ValidatorUnavailable("no DNS"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_passes_leaves_the_order_open(self, desk: Desk, error: Exception) -> None:
        """After an error that passes with time the order is continued."""
        desk.say(AUTHORIZATION, error, authorization("valid"))
        desk.say(ORDER, order("pending"))
        with pytest.raises(type(error)):
            desk.obtain()
        assert desk.obtain() == CHAIN
        assert desk.count(NEW_ORDER) == 1

    @pytest.mark.parametrize(
        "fail",
        [
            lambda desk: desk.say(AUTHORIZATION, authorization("invalid")),
            lambda desk: desk.say(FINALIZE, problem("badCSR")),
            lambda desk: desk.say(FINALIZE, order("invalid")),
        ],
        ids=["refused name", "refused CSR", "invalid"],
    )
    def test_what_is_final_ends_the_order(self, desk: Desk, fail: Callable[[Desk], None]) -> None:
        """After an error that stays the next request is a new order."""
        fail(desk)
        with pytest.raises(AcmeException):
            desk.obtain()
        desk.say(AUTHORIZATION, authorization("valid"))
        desk.say(FINALIZE, order("valid"))
        desk.say(CERTIFICATE, CHAIN)
        assert desk.obtain() == CHAIN
        assert desk.count(NEW_ORDER) == 2

    def test_open_orders_are_bounded(self) -> None:
        """Of more unfinished orders than are remembered the oldest is forgotten."""
        desk = Desk(most_open=2)
        for key in ("first", "second", "third"):
            self.leave_open(desk, key)
        desk.obtain(key="third")
        desk.obtain(key="second")
        assert desk.count(NEW_ORDER) == 3
        desk.obtain(key="first")
        assert desk.count(NEW_ORDER) == 4

    def test_an_open_order_for_other_names_is_not_continued(self, desk: Desk) -> None:
        """A CA that changes the names of an open order is not followed."""
        self.leave_open(desk)
        desk.say(ORDER, order("valid", identifiers=[{"type": "dns", "value": "evil.example.org"}]))
        with pytest.raises(CAProtocolError, match="other names"):
            desk.obtain()
        assert desk.count(CERTIFICATE) == 0


class TestStop:
    """The end of all waiting."""

    def test_an_order_that_waits_stays_open(self) -> None:
        """Who waits for the CA is told to ask again, and whoever asks again continues the order."""
        time = LoopTime()
        with contextlib.closing(time.loop):
            desk = Desk(time.loop)
            desk.say(FINALIZE, order("processing"))
            desk.say(ORDER, order("processing"))
            deadline = time.loop.clock.deadline(60)
            waiting = begin(time.loop, desk.ordering.obtain(CSR, [desk.validator], deadline, "key"))
            assert not waiting.done()
            time.loop.soon(desk.ordering.stop)
            assert isinstance(waiting.exception(PATIENCE), CAUnavailable)
            desk.say(ORDER, order("valid"))
            again = begin(time.loop, desk.ordering.obtain(CSR, [desk.validator], deadline, "key"))
            assert again.result(PATIENCE) == CHAIN
            assert (desk.count(NEW_ORDER), desk.count(FINALIZE)) == (1, 1)

    def test_nobody_waits_any_more(self, desk: Desk) -> None:
        """After `stop` an order that the CA has not finished is left to whoever asks next."""
        desk.ordering.stop()
        desk.say(FINALIZE, order("processing"))
        with pytest.raises(CAUnavailable, match="stopping"):
            desk.obtain()
        assert desk.time.waits == []
