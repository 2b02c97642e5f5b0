"""What a stranger can learn of a secret by trying: nothing."""

from __future__ import annotations

import hmac
import ipaddress

import pytest
from tests.auth_blocks import block

from acmems.auth import Caller, Claim, HmacAuthMethod, IPAuthMethod
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


@pytest.mark.threat("auth", "guessing and timing")
def test_every_method_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block asks each of its methods, also after one has said no, so that time tells nothing."""
    asked: list[type] = []

    def no(method: IPAuthMethod | HmacAuthMethod, caller: Caller, body: bytes) -> bool:
        asked.append(type(method))
        return False

    monkeypatch.setattr(IPAuthMethod, "accepts", no)
    monkeypatch.setattr(HmacAuthMethod, "accepts", no)
    both = block(("domain", "a.example.org"), ("ip", "192.0.2.7"), ("hmac_key", "s"))
    assert not both.accepts(Caller(ipaddress.ip_address("192.0.2.7"), None), b"body")
    assert set(asked) == {IPAuthMethod, HmacAuthMethod}
