"""What a CA answers for ever, and what tells nothing: how often it is asked, and what is not forgotten."""

from __future__ import annotations

import copy
import datetime

import pytest
from tests.fake_ca import (
    AUTHORIZATION,
    CERTIFICATE,
    CHAIN,
    CHALLENGE,
    FINALIZE,
    NEW_ORDER,
    ORDER,
    Said,
    authorization,
    challenge,
    order,
    problem,
)
from tests.ordering import Desk

from acmems.exceptions import AccountError, CAProblem, CAProtocolError, DeadlinePassed, FateUnknown


@pytest.fixture
def desk() -> Desk:
    return Desk()


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
        ("fate", "error"),
        [
            (FateUnknown("lost"), FateUnknown),
            (problem("orderNotReady"), CAProblem),
            (CAProblem(403, "about:blank", "go away"), CAProblem),
            (Said(b"<html>"), CAProtocolError),
        ],
        ids=str,
    )
    def test_a_finalize_that_never_arrives(self, desk: Desk, fate: object, error: type[Exception]) -> None:
        """A finalize that the CA does not take, of an order that stays ready, is sent a few times."""
        desk.say(FINALIZE, fate)
        desk.say(ORDER, order("ready"))
        with pytest.raises(error):
            desk.obtain(seconds=3600)
        assert desk.count(FINALIZE) == 5
        assert desk.count(ORDER) <= 20
        assert sum(desk.time.waits) >= 1 + 2 + 4  # between the later ones

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

    @pytest.mark.parametrize(("wanted", "waited"), [(7.0, 7.0), (86_400.0, 29.5)])
    def test_one_that_names_a_time(self, desk: Desk, wanted: float, waited: float) -> None:
        """Its `Retry-After` is kept, but for what would leave no look before the deadline."""
        desk.say(FINALIZE, order("processing"))
        desk.say(ORDER, problem("malformed", "wait", 404, retry_after=wanted), order("valid"))
        assert desk.obtain() == CHAIN
        assert desk.time.waits[-1] == pytest.approx(waited, abs=0.6)

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
