"""Orders are placed on terms: what they replace, and the room that they take at the CA."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from tests.fake_ca import AUTHORIZATION, CHAIN, FINALIZE, NEW_ORDER, ORDER, authorization, order, problem
from tests.ordering import CSR, PLACED, Desk

from acmems.exceptions import (
    AcmeException,
    CAProblem,
    CAUnavailable,
    ChallengeFailed,
    DeadlinePassed,
    FateUnknown,
    LimitReached,
    NamesPaused,
    RateLimited,
)
from acmems.issuers.acme.orders.statements import StatedLimit
from acmems.system.steps import Steps, pause

PAGE = "https://portal.letsencrypt.org/sfe/v1/unpause?jwt=abc.def.ghi"
UNPAUSE = (
    "Your account is temporarily prevented from requesting certificates for a.example.org and possibly "
    f"others. Please visit: {PAGE}"
)
FULL = LimitReached("full", limit="orders", subject="", used=1, most=1, retry_after=60.0)


@dataclass
class Terms:
    """Notes what is asked of it."""

    certificate: str | None = "aki.serial"
    error: AcmeException | None = None
    reserved: list[str | None] = field(default_factory=list)
    given_back: list[str] = field(default_factory=list)
    stated: list[StatedLimit] = field(default_factory=list)

    def replaces(self) -> Steps[str | None]:
        yield pause(0)
        return self.certificate

    def reserve(self, replaces: str | None) -> Steps[None]:
        yield pause(0)
        self.reserved.append(replaces)
        if self.error is not None:
            raise self.error

    def reserve_certificate(self) -> Steps[None]:
        yield pause(0)
        self.reserved.append("certificate")
        if self.error is not None:
            raise self.error

    def give_back(self, *, is_placed: bool) -> None:
        self.given_back.append("certificate" if is_placed else "all")

    def limited(self, stated: StatedLimit) -> None:
        self.stated.append(stated)


def obtain(desk: Desk, terms: Terms) -> bytes:
    steps = desk.ordering.obtain(CSR, [desk.validator], desk.time.within(60.0), "key", terms)
    return desk.loop.run(steps).pem


def payloads(desk: Desk) -> list[str | None]:
    """Return what each new order has named as its predecessor."""
    posted = [each.payload or {} for each in desk.session.posts if each.url == NEW_ORDER]
    return [payload.get("replaces") for payload in posted]


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.session.resources["renewalInfo"] = "https://ca.example.org/renewal-info"
    return made


def test_a_predecessor(desk: Desk) -> None:
    """The order names what it replaces, and keeps what was reserved for it."""
    terms = Terms()
    obtain(desk, terms)
    assert payloads(desk) == ["aki.serial"]
    assert (terms.reserved, terms.given_back) == (["aki.serial"], [])


def test_a_ca_without_renewal_information() -> None:
    """It is told of no predecessor, which it might refuse to understand."""
    desk, terms = Desk(), Terms()
    obtain(desk, terms)
    assert (payloads(desk), terms.reserved) == ([None], [None])


@pytest.mark.parametrize("code", ["alreadyReplaced", "malformed", "unauthorized"])
def test_a_predecessor_that_the_ca_does_not_accept(desk: Desk, code: str) -> None:
    """It is placed once more without; what was reserved on other terms is given back before."""
    terms = Terms()
    desk.say(NEW_ORDER, problem(code, status=409), PLACED)
    obtain(desk, terms)
    assert payloads(desk) == ["aki.serial", None]
    assert (terms.reserved, terms.given_back) == (["aki.serial", None], ["all"])


def test_a_refusal_for_another_reason(desk: Desk) -> None:
    """It is not asked again."""
    terms = Terms()
    desk.say(NEW_ORDER, problem("rejectedIdentifier"))
    with pytest.raises(AcmeException):
        obtain(desk, terms)
    assert (payloads(desk), terms.given_back) == (["aki.serial"], ["all"])


def test_refused_without_a_predecessor_as_well(desk: Desk) -> None:
    """It ends there."""
    terms = Terms()
    desk.say(NEW_ORDER, problem("alreadyReplaced"), problem("alreadyReplaced"))
    with pytest.raises(CAProblem):
        obtain(desk, terms)
    assert payloads(desk) == ["aki.serial", None]


def test_no_room(desk: Desk) -> None:
    """The CA is not asked."""
    terms = Terms(error=FULL)
    with pytest.raises(LimitReached):
        obtain(desk, terms)
    assert (payloads(desk), terms.given_back) == ([], [])


@pytest.mark.parametrize(
    ("error", "given_back"),
    [(CAUnavailable("away"), ["all"]), (FateUnknown("lost"), ["certificate"])],
    ids=["away", "answer lost"],
)
def test_a_new_order_that_fails(desk: Desk, error: AcmeException, given_back: list[str]) -> None:
    """The room of the certificate is given back; that of the order where the CA has none for sure."""
    terms = Terms()
    desk.say(NEW_ORDER, error)
    with pytest.raises(CAUnavailable):
        obtain(desk, terms)
    assert terms.given_back == given_back
    assert payloads(desk) == ["aki.serial"]


FAILED = FateUnknown("could not find an order for the given certificate", is_internal=True)


def test_a_predecessor_at_which_the_ca_fails(desk: Desk) -> None:
    """The order is placed without it once the CA has failed twice."""
    terms = Terms()
    desk.say(NEW_ORDER, FAILED, FAILED, PLACED)
    obtain(desk, terms)
    assert payloads(desk) == ["aki.serial", "aki.serial", None]
    assert (terms.reserved, terms.given_back) == (["aki.serial", "aki.serial", None], ["certificate"] * 2)


def test_a_ca_that_fails_by_chance(desk: Desk) -> None:
    """The order keeps its predecessor, for whose sake it is exempt from limits."""
    desk.say(NEW_ORDER, FAILED, PLACED)
    obtain(desk, Terms())
    assert payloads(desk) == ["aki.serial", "aki.serial"]


@pytest.mark.parametrize(
    ("certificate", "asked"),
    [("aki.serial", ["aki.serial", "aki.serial", None]), (None, [None])],
    ids=["predecessor", "none"],
)
def test_a_ca_that_fails(desk: Desk, certificate: str | None, asked: list[str | None]) -> None:
    """The error is told once the order has failed without a predecessor as well."""
    desk.say(NEW_ORDER, FAILED)
    with pytest.raises(FateUnknown, match="could not find"):
        obtain(desk, Terms(certificate))
    assert payloads(desk) == asked


def test_a_name_that_cannot_be_validated(desk: Desk) -> None:
    """The room of the certificate is given back, that of the order is used."""
    terms = Terms()
    desk.say(AUTHORIZATION, authorization("invalid"))
    with pytest.raises(ChallengeFailed):
        obtain(desk, terms)
    assert terms.given_back == ["certificate"]


def test_an_order_that_goes_on(desk: Desk) -> None:
    """It keeps its room over a failure that passes, and takes none twice."""
    first, second = Terms(), Terms()
    desk.say(ORDER, order("processing"))
    desk.say(FINALIZE, order("processing"))
    with pytest.raises(DeadlinePassed):
        obtain(desk, first)
    desk.say(ORDER, order("valid"))
    obtain(desk, second)
    assert (first.given_back, second.reserved, second.given_back) == ([], [], [])


def test_an_order_that_has_failed_meanwhile(desk: Desk) -> None:
    """It gives back the room of its certificate, and the next order takes its own."""
    first, second = Terms(), Terms()
    desk.say(ORDER, order("processing"))
    desk.say(FINALIZE, order("processing"))
    with pytest.raises(DeadlinePassed):
        obtain(desk, first)
    assert first.given_back == []
    desk.say(ORDER, order("invalid", error={"type": "urn:ietf:params:acme:error:caa", "detail": "no"}))
    with pytest.raises(AcmeException):
        obtain(desk, second)
    assert (second.reserved, second.given_back) == (["aki.serial"], ["certificate"])
    assert first.given_back == ["certificate"]


def prepare(desk: Desk, terms: Terms) -> None:
    """Prepare an order for the names of the request."""
    steps = desk.ordering.prepare(CSR.identifiers, [desk.validator], desk.time.within(60), "names", terms)
    desk.loop.run(steps)


def take(desk: Desk, terms: Terms) -> bytes:
    """Ask for a certificate by an order that may be prepared."""
    aim = CSR, [desk.validator], desk.time.within(60), "key", terms
    return desk.loop.run(desk.ordering.obtain(*aim, prepared="names")).pem


@pytest.mark.threat("acme orders", "orders that nobody finalizes")
def test_an_order_that_is_prepared(desk: Desk) -> None:
    """It counts as an order; room for a certificate is taken by whoever has a CSR for it, once."""
    first, again, second = Terms(), Terms(), Terms()
    prepare(desk, first)
    assert (first.reserved, first.given_back) == (["aki.serial"], ["certificate"])
    desk.say(ORDER, order("ready"))
    prepare(desk, again)
    assert (again.reserved, again.given_back) == ([], [])
    assert take(desk, second) == CHAIN
    assert (second.reserved, second.given_back) == (["certificate"], [])
    assert desk.count(NEW_ORDER) == 1


def test_a_prepared_order_without_room_for_its_certificate(desk: Desk) -> None:
    """No CSR is sent; it is there when there is room."""
    prepare(desk, Terms())
    with pytest.raises(LimitReached):
        take(desk, Terms(error=FULL))
    assert desk.count(FINALIZE) == 0
    later = Terms()
    assert take(desk, later) == CHAIN
    assert (later.reserved, desk.count(NEW_ORDER)) == (["certificate"], 1)


def test_a_limit_that_the_ca_tells_of(desk: Desk) -> None:
    """What was reserved is given back, and whoever counts hears what the CA said."""
    terms = Terms()
    words = 'too many certificates (50) already issued for "example.org" in the last 168h0m0s'
    desk.say(NEW_ORDER, RateLimited(words, retry_after=600.0))
    with pytest.raises(RateLimited):
        obtain(desk, terms)
    assert terms.given_back == ["all"]
    (stated,) = terms.stated
    assert (stated.counts, stated.subject, stated.count) == ("certificates-per-domain", "example.org", 50)


def test_a_limit_that_it_does_not_name(desk: Desk) -> None:
    """There is nothing to learn from that."""
    terms = Terms()
    desk.say(NEW_ORDER, RateLimited("429 Too Many Requests", retry_after=600.0, is_overall=True))
    with pytest.raises(RateLimited):
        obtain(desk, terms)
    assert (terms.given_back, terms.stated) == (["all"], [])


@pytest.mark.parametrize("terms", [Terms(), None], ids=["counted", "not counted"])
@pytest.mark.parametrize(
    "refusal",
    [RateLimited(UNPAUSE), problem("unauthorized", UNPAUSE)],
    ids=["rateLimited", "unauthorized"],
)
def test_names_that_the_ca_has_paused(
    desk: Desk, refusal: AcmeException, terms: Terms | None, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not asked once more; the page is for the operator, and in no word that a client gets."""
    desk.say(NEW_ORDER, refusal)
    steps = desk.ordering.obtain(CSR, [desk.validator], desk.time.within(60.0), "key", terms)
    with pytest.raises(NamesPaused) as raised:
        desk.loop.run(steps)
    assert len(payloads(desk)) == 1
    assert raised.value.visit == PAGE
    assert "jwt" not in str(raised.value)
    assert [(each.levelname, PAGE in each.message) for each in caplog.records] == [("ERROR", True)]
