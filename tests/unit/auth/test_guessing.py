"""What a stranger can learn of a secret by trying: nothing."""

from __future__ import annotations

import hmac
import ipaddress

import pytest
from tests.auth_blocks import block

from acmems.auth import Caller, Claim, HmacAuthMethod, IPAuthMethod
from acmems.auth.freshness import Freshness
from acmems.auth.methods import WRONG_HMAC
from acmems.text import Secret


@pytest.mark.threat("auth", "guessing and timing")
def test_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a claim says is compared with what it should say by the function that is made for it."""
    compared: list[set[str]] = []

    def compare_digest(first: str, second: str) -> bool:
        compared.append({first, second})
        return True

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    method = HmacAuthMethod()
    method.secret = Secret("s")
    assert method.accepts(Caller(None, Claim("sha256", "0" * 64)), b"body")
    assert compared == [{"0" * 64, hmac.new(b"s", b"body", "sha256").hexdigest()}]


@pytest.mark.threat("auth", "guessing and timing", "a request that is replayed")
@pytest.mark.parametrize("digest", ["0" * 64, None], ids=["wrong", "right"])
def test_freshness_is_looked_at_whatever_the_hmac_is(
    monkeypatch: pytest.MonkeyPatch, digest: str | None
) -> None:
    """Whether the time is fresh is found out for a wrong HMAC as for a right one, and once."""
    looked: list[int | None] = []

    def old(_: Freshness, time: int | None) -> str:
        looked.append(time)
        return "too old"

    monkeypatch.setattr(Freshness, "refusal", old)
    method = HmacAuthMethod()
    method.secret, method.freshness = Secret("s"), Freshness(60)
    right = hmac.new(b"s", b"1000\nbody", "sha256").hexdigest()
    reason = method.refusal(Caller(None, Claim("sha256", digest or right, 1000)), b"body")
    assert reason == (WRONG_HMAC if digest else "too old")
    assert looked == [1000]


@pytest.mark.threat("auth", "guessing and timing")
def test_every_method_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block asks each of its methods, also after one has said no, so that time tells nothing."""
    asked: list[type] = []

    def no(method: IPAuthMethod | HmacAuthMethod, caller: Caller, body: bytes) -> str:
        asked.append(type(method))
        return "no"

    monkeypatch.setattr(IPAuthMethod, "refusal", no)
    monkeypatch.setattr(HmacAuthMethod, "refusal", no)
    both = block(("domain", "a.example.org"), ("ip", "192.0.2.7"), ("hmac_key", "s"))
    assert not both.accepts(Caller(ipaddress.ip_address("192.0.2.7"), None), b"body")
    assert set(asked) == {IPAuthMethod, HmacAuthMethod}
