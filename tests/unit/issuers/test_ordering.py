"""Ordering: from a request to its chain, and how an unfinished order goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import pytest
from tests.fake_ca import (
    AUTHORIZATION,
    CERTIFICATE,
    CHAIN,
    FINALIZE,
    NAME,
    NEW_ORDER,
    ORDER,
    Said,
    Time,
    authorization,
    make_request,
    order,
    problem,
)
from tests.ordering import CSR, Desk
from tests.steps import PATIENCE, LoopTime, begin

from acmems.exceptions import (
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
from acmems.issuers.acme.orders.open_orders import OpenOrders


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

    @pytest.mark.parametrize("code", ["badCSR", "unauthorized"])
    def test_a_csr_that_is_not_for_the_names(self, desk: Desk, code: str) -> None:
        """A refused CSR is the CSR's fault, with either code that CAs use for it, and not that of a name."""
        desk.say(FINALIZE, problem(code, "other names than the order's"))
        with pytest.raises(PayloadInvalid, match="other names"):
            desk.obtain()

    @pytest.mark.parametrize("code", ["badCSR", "unauthorized"])
    @pytest.mark.parametrize("during", ["finalize", "processing"])
    def test_a_csr_that_is_refused_later(self, desk: Desk, code: str, during: str) -> None:
        """It makes no difference whether the CA refuses the CSR at once, or in an order that it ends."""
        error = {"type": CAProblem.PREFIX + code, "detail": "other names than the order's"}
        desk.say(FINALIZE, order("processing" if during == "processing" else "invalid", error=error))
        desk.say(ORDER, order("processing"), order("invalid", error=error))
        with pytest.raises(PayloadInvalid, match="other names") as raised:
            desk.obtain()
        assert isinstance(raised.value.__cause__, CAProblem)  # by which the account is looked at

    @pytest.mark.parametrize("during", ["finalize", "processing"])
    def test_a_name_that_a_finalize_is_refused_for(self, desk: Desk, during: str) -> None:
        """Where the CA names a name, that is what it refuses."""
        kind = CAProblem.PREFIX + "unauthorized"
        sub = {"type": kind, "detail": "not any more", "identifier": {"type": "dns", "value": NAME}}
        if during == "finalize":
            desk.say(FINALIZE, problem("unauthorized", subproblems=[(NAME, kind, "not any more")]))
        else:
            desk.say(FINALIZE, order("invalid", error={"type": kind, "subproblems": [sub]}))
        with pytest.raises(ChallengeFailed, match="not any more"):
            desk.obtain()

    def test_an_order_that_is_invalid_from_the_start(self, desk: Desk) -> None:
        """Before the CA has the CSR, `unauthorized` is about the names."""
        error = {"type": CAProblem.PREFIX + "unauthorized", "detail": "not yours"}
        desk.say(NEW_ORDER, Said(order("invalid", error=error), {"Location": ORDER}))
        with pytest.raises(ChallengeFailed, match="not yours"):
            desk.obtain()

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

    def leave_open(self, desk: Desk, key: str = "key") -> None:
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
        desk = Desk(open_orders=OpenOrders(Time().clock(), most=2))
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
            assert again.result(PATIENCE).pem == CHAIN
            assert (desk.count(NEW_ORDER), desk.count(FINALIZE)) == (1, 1)

    def test_nobody_waits_any_more(self, desk: Desk) -> None:
        """After `stop` an order that the CA has not finished is left to whoever asks next."""
        desk.ordering.stop()
        desk.say(FINALIZE, order("processing"))
        with pytest.raises(CAUnavailable, match="stopping"):
            desk.obtain()
        assert desk.time.waits == []
