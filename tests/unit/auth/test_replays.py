"""A request that somebody else repeats: what `hmac-fresh` makes of it."""

from __future__ import annotations

import datetime
import io
import ipaddress
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.auth_blocks import block

from acmems.auth import Authenticator, Block, Claim, HmacAuthMethod, Processor
from acmems.auth.freshness import Freshness
from acmems.exceptions import ConfigurationError, PayloadInvalid, PolicyRefusal
from acmems.system.clock import Clock
from acmems.text import Secret

NOW = 1_764_144_000  # seconds since 1970
BODY = b"no CSR: whoever is accepted gets as far as the parser"
HOME, AWAY = "192.0.2.7", "198.51.100.1"


def fresh_block(*pairs: tuple[str, str], now: float = NOW, most: int = 100) -> Block:
    """Return a block that takes an HMAC of the last minute, at a time that stands still."""
    made = block(("domain", "**"), ("hmac_key", "s"), ("hmac-fresh", "60"), *pairs, name="fresh")
    [method] = [each for each in made.methods if isinstance(each, HmacAuthMethod)]
    assert method.freshness is not None
    assert method.freshness.seconds == 60
    method.freshness = Freshness(60, clock(now), most)
    return made


def clock(now: float) -> Clock:
    return Clock(now=lambda: datetime.datetime.fromtimestamp(now, datetime.UTC))


def claim(time: int | None = NOW, key: str = "s", body: bytes = BODY) -> Claim:
    return Claim.make("sha256", Secret(key), body, time)


def send(claim: Claim, *blocks: Block, address: str = HOME, body: bytes = BODY) -> str | None:
    """Send a request; return why the policy refuses it, None if it comes to the parser."""
    headers = {"Content-Length": str(len(body)), "Authentication": claim.header}
    try:
        Processor(Authenticator(blocks), (address, 4711), headers, io.BytesIO(body)).grant()
    except PolicyRefusal as refusal:
        return str(refusal)
    except PayloadInvalid:
        return None
    pytest.fail("the body is no CSR")


@pytest.mark.threat("auth", "a request that is replayed")
def test_another_address_cannot_repeat_a_request() -> None:
    """What one address has sent, no other can; the same may, as its answer may have been lost."""
    ours = fresh_block()
    assert send(claim(), ours) is None
    assert send(claim(), ours, address=AWAY) == f"block fresh: the HMAC was used by {HOME} already"
    assert send(claim(), ours) is None
    assert send(claim(NOW - 1), ours, address=AWAY) is None  # signed anew, by somebody with the secret


@pytest.mark.threat("auth", "a request that is replayed")
@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (NOW - 61, "the HMAC is 61 s old, and hmac-fresh allows 60 s"),
        (NOW + 61, "the HMAC is 61 s ahead of this server's clock, and hmac-fresh allows 60 s"),
        (None, "the HMAC covers no time, which hmac-fresh requires"),
    ],
)
def test_the_operator_learns_by_how_much(time: int | None, reason: str) -> None:
    """The log says which block refuses an HMAC that is right, and by how much its time is off."""
    assert send(claim(time), fresh_block()) == f"block fresh: {reason}"


@pytest.mark.threat("auth", "a request that is replayed", "guessing and timing")
def test_a_guess_learns_nothing_of_times() -> None:
    """A wrong HMAC is a wrong HMAC, whatever time it claims to cover."""
    for time in (NOW, NOW - 61, NOW + 61, None):
        reason = send(claim(time, key="a guess"), fresh_block())
        assert reason == "the HMAC is not that of this body under a block's secret"


@pytest.mark.threat("auth", "a request that is replayed")
def test_whoever_is_refused_uses_nothing_up() -> None:
    """Somebody who repeats a request before it arrives, from where the block takes none, does no harm."""
    ours = fresh_block(("ip", "192.0.2.0/24"))
    other = block(("domain", "**"), ("ip", "198.51.100.0/24"), ("hmac_key", "other"), name="other")
    assert send(claim(), ours, other, address=AWAY) is not None
    assert send(claim(), ours, other) is None


def test_blocks_with_one_secret_remember_for_themselves() -> None:
    """Where two blocks have the same secret, what the first has used still is no replay for the second."""
    first, second = fresh_block(), fresh_block()
    assert send(claim(), first, second) is None
    assert send(claim(), second) is None
    assert send(claim(), first, second, address=AWAY) is not None


def test_a_time_may_be_sent_before_it_is_required() -> None:
    """Clients can change first: a block without hmac-fresh takes an HMAC that covers a time, any time."""
    ours = block(("domain", "**"), ("hmac_key", "s"))
    assert send(claim(), ours) is None
    assert send(claim(1), ours, address=AWAY) is None
    assert send(claim(None), ours) is None


@pytest.mark.threat("auth", "a request that is replayed")
def test_one_of_many_at_once_is_first() -> None:
    """When two addresses send the same bytes at the same time, one of them is accepted."""
    ours = fresh_block()
    barrier = threading.Barrier(8)

    def at_once(number: int) -> str | None:
        barrier.wait()
        return send(claim(), ours, address=f"192.0.2.{number}")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(at_once, range(8)))
    assert answers.count(None) == 1


class TestMemory:
    """What is remembered is bounded, and what is forgotten is refused."""

    def test_the_earliest_is_forgotten_and_refused(self) -> None:
        """With room for two, a third pushes out the one with the earliest time, which is refused then."""
        freshness = Freshness(60, clock(NOW), most=2)
        for time in (NOW - 2, NOW, NOW - 1):
            assert freshness.use(f"digest of {time}", time, ipaddress.ip_address(HOME)) is None
        for address in (HOME, AWAY):
            reason = freshness.use(f"digest of {NOW - 2}", NOW - 2, ipaddress.ip_address(address))
            assert reason is not None
            assert "too many came since" in reason
        assert freshness.use("a new one", NOW, ipaddress.ip_address(AWAY)) is None

    def test_a_clock_that_is_set_right_does_not_shut_everybody_out(self) -> None:
        """A server whose clock was a year ahead forgets that year, and takes requests at once."""
        now = [NOW + 365 * 86400]
        freshness = Freshness(60, Clock(now=lambda: datetime.datetime.fromtimestamp(now[0], datetime.UTC)), 1)
        for time in (now[0], now[0] + 1):
            freshness.use(f"digest of {time}", time, None)
        now[0] = NOW
        assert freshness.use("today", NOW, None) is None
        assert freshness.use("today", NOW, ipaddress.ip_address(AWAY)) is not None

    def test_a_clock_that_is_set_back_lets_nobody_repeat(self) -> None:
        """What is fresh before and after the clock was set back far is still known."""
        now = [NOW]
        freshness = Freshness(60, Clock(now=lambda: datetime.datetime.fromtimestamp(now[0], datetime.UTC)))
        assert freshness.use("early", NOW - 60, ipaddress.ip_address(HOME)) is None
        assert freshness.use("late", NOW + 60, ipaddress.ip_address(HOME)) is None
        now[0] = NOW - 61
        assert freshness.refusal(NOW - 60) is None
        assert freshness.use("early", NOW - 60, ipaddress.ip_address(AWAY)) is not None
        assert set(freshness._users) == {"early"}

    def test_a_day_of_requests_is_not_kept(self) -> None:
        """Of a request a second for a day, those of the window are kept and no others."""
        now = [NOW]
        freshness = Freshness(60, Clock(now=lambda: datetime.datetime.fromtimestamp(now[0], datetime.UTC)))
        for _ in range(86400):
            now[0] += 1
            assert freshness.use(f"digest of {now[0]}", now[0], None) is None
        assert len(freshness._users) == 61


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([("all", "yes"), ("hmac-fresh", "60")], "hmac-fresh is given, but no hmac_key"),
        ([("hmac_key", "s"), ("hmac-fresh", "0")], "hmac-fresh: '0' is not a number of seconds above 0"),
        ([("hmac_key", "s"), ("hmac-fresh", "5m")], "hmac-fresh: '5m' is not a number of seconds above 0"),
    ],
)
def test_mistakes(pairs: list[tuple[str, str]], words: str) -> None:
    """hmac-fresh takes seconds, beside a secret."""
    with pytest.raises(ConfigurationError, match=words):
        block(("domain", "a.example.org"), *pairs)
