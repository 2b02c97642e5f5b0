"""What holds for every sequence of HMACs that a block with hmac-fresh sees, whatever clocks say."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from acmems.auth import Caller, Claim, HmacAuthMethod
from acmems.auth.freshness import Freshness
from acmems.auth.methods import WRONG_HMAC
from acmems.system.clock import Clock
from acmems.text import Secret

NOW = 1_764_144_000  # seconds since 1970
ADDRESSES = [ipaddress.ip_address(text) for text in ("192.0.2.7", "198.51.100.1", "2001:db8::1")]
SECRETS = st.text(min_size=1, max_size=20)


@dataclass
class Wall:
    """A wall clock that a test sets."""

    time: float = NOW

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: datetime.datetime.fromtimestamp(self.time, datetime.UTC))


def method(seconds: float, secret: str, wall: Wall | None = None, most: int = 1000) -> HmacAuthMethod:
    made = HmacAuthMethod()
    made.secret = Secret(secret)
    made.freshness = Freshness(seconds, (wall or Wall()).clock, most)
    return made


@pytest.mark.threat("auth", "a request that is replayed")
@given(st.integers(1, 10**6), st.integers(-(2 * 10**6), 2 * 10**6), SECRETS, st.binary(max_size=50))
def test_only_the_window_is_fresh(seconds: int, ahead: int, secret: str, body: bytes) -> None:
    """A right HMAC is accepted exactly if its time is at most so far from the server's, either way."""
    checking = method(seconds, secret)
    claim = Claim.make("sha256", Secret(secret), body, NOW + ahead)
    reason = checking.refusal(Caller(None, claim), body)
    assert (reason is None) is (abs(ahead) <= seconds)
    if reason is not None:
        assert f"{abs(ahead)} s " in reason
        assert f"allows {seconds:g} s" in reason
        assert ("ahead" in reason) is (ahead > 0)


@pytest.mark.threat("auth", "a request that is replayed")
@given(SECRETS, st.binary(max_size=50), st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_time_is_covered(secret: str, body: bytes, time: int, other: int) -> None:
    """An HMAC with one time is not one with another, nor one without, nor the other way round."""
    plain = HmacAuthMethod()  # without hmac-fresh, any time will do if it is the one that is covered
    plain.secret = Secret(secret)
    made = Claim.make("sha256", plain.secret, body, time)
    assert plain.accepts(Caller(None, made), body)
    for claim in (Claim("sha256", made.digest), Claim("sha256", made.digest, other)):
        assert plain.refusal(Caller(None, claim), body) == (WRONG_HMAC if claim != made else None)
    untimed = Claim.make("sha256", plain.secret, body)
    assert plain.refusal(Caller(None, Claim("sha256", untimed.digest, time)), body) == WRONG_HMAC


@given(SECRETS, st.binary(max_size=50))
def test_an_hmac_without_a_time_is_not_fresh(secret: str, body: bytes) -> None:
    """Where a time is required, the HMAC of the body alone is refused, and the log says why."""
    reason = method(60, secret).refusal(Caller(None, Claim.make("sha256", Secret(secret), body)), body)
    assert reason == "the HMAC covers no time, which hmac-fresh requires"


class Replays(RuleBasedStateMachine):
    """Clients sign and send, somebody else repeats what he has seen, and the clock is set."""

    def __init__(self) -> None:
        super().__init__()
        self.wall = Wall()
        self.latest = self.wall.time
        self.seconds, self.most = 60, 3
        self.checking = method(self.seconds, "s", wall=self.wall, most=self.most)
        self.users: dict[Claim, object] = {}
        self.seen: list[Claim] = []

    @initialize(most=st.integers(1, 5), seconds=st.integers(1, 100))
    def limits(self, most: int, seconds: int) -> None:
        self.seconds, self.most = seconds, most
        self.checking = method(seconds, "s", wall=self.wall, most=most)

    def send(self, claim: Claim, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Send it as the processor does: accepted, then used."""
        caller = Caller(address, claim)
        accepted = self.checking.accepts(caller, b"body") and self.checking.use(caller) is None
        if accepted:
            assert abs(self.wall.time - (claim.time or 0)) <= self.seconds
            assert self.users.setdefault(claim, address) == address, "a replay from elsewhere was accepted"
        return accepted

    @rule(skew=st.integers(-120, 120), address=st.sampled_from(ADDRESSES))
    def sign(self, skew: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        claim = Claim.make("sha256", Secret("s"), b"body", int(self.wall.time) + skew)
        self.seen.append(claim)
        self.send(claim, address)

    @rule(data=st.data(), address=st.sampled_from(ADDRESSES))
    def repeat(self, data: st.DataObject, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        if self.seen:
            self.send(data.draw(st.sampled_from(self.seen)), address)

    @rule(seconds=st.integers(0, 200))
    def wait(self, seconds: int) -> None:
        self.wall.time += seconds
        self.latest = max(self.latest, self.wall.time)

    @rule(data=st.data())
    def set_back(self, data: st.DataObject) -> None:
        """Set the clock back, by no more than the window in all; what is forgotten stays refused."""
        earliest = self.latest - self.seconds
        self.wall.time = data.draw(st.integers(int(earliest), int(self.wall.time)))

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.checking.freshness is not None
        assert len(self.checking.freshness._users) == len(self.checking.freshness._by_time) <= self.most


TestReplays = Replays.TestCase
