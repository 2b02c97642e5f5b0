"""What is known of a client, and which methods it satisfies."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from email.message import Message

import pytest

from acmems.auth import AllAuthMethod, Caller, Claim, HmacAuthMethod, IPAuthMethod
from acmems.text import Secret

DIGEST = "ab" * 32


def headers(**fields: str) -> Message:
    """Return request headers; underscores stand for hyphens."""
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


class TestClaims:
    """The Authentication header."""

    @pytest.mark.parametrize(
        "value",
        [
            f"hmac name=sha256, hash={DIGEST}",
            f"hmac name=sha256,hash={DIGEST}",
            f"hmac name=sha256 hash={DIGEST}",
            f"hmac name=sha2-256, hash={DIGEST}",
            f"HMAC name=SHA256, hash={DIGEST}",
            f"hmac hash={DIGEST}, name=sha256",
            f"  hmac name=sha256, hash={DIGEST} ",
        ],
    )
    def test_separators_and_names_of_openssl_are_accepted(self, value: str) -> None:
        """Separators are comma, space or both; OpenSSL 3's names are the same algorithms."""
        assert Claim.from_headers(headers(Authentication=value)) == Claim("sha256", DIGEST)

    @pytest.mark.threat("auth", "a malformed Authentication header", "other hash algorithms")
    @pytest.mark.parametrize(
        "value",
        [
            "",
            "hmac",
            "hmac name=sha256",
            "hmac name=sha256, hash=",
            f'hmac name="sha256", hash="{DIGEST}"',
            f"hmac name=sha256, hash={DIGEST}, hash={DIGEST}",
            f"hmac name=sha256, name=sha256, hash={DIGEST}",
            f"hmac  name=sha256,  hash={DIGEST}",
            f"hmac name = sha256, hash = {DIGEST}",
            f"basic name=sha256, hash={DIGEST}",
            f"hmac name=md5, hash={DIGEST}",
            f"hmac name=new, hash={DIGEST}",
            f"hmac name=__name__, hash={DIGEST}",
            f"hmac name=sha512, hash={DIGEST}",
            f"hmac name=sha256, hash={'ü' * 64}",
            f"hmac name=sha256, hash={'٣' * 64}",
        ],
    )
    def test_malformed_is_absent(self, value: str) -> None:
        """Whatever is not exactly of the form counts as no claim."""
        assert Claim.from_headers(headers(Authentication=value)) is None

    def test_two_headers_are_none(self) -> None:
        """Two Authentication headers are ambiguous, so neither counts."""
        message = headers(Authentication=f"hmac name=sha256, hash={DIGEST}")
        message["Authentication"] = f"hmac name=sha256, hash={DIGEST}"
        assert Claim.from_headers(message) is None

    def test_digests_are_not_shown(self) -> None:
        """A claim's repr does not hold the digest."""
        assert DIGEST not in repr(Claim("sha256", DIGEST))


class TestMethods:
    """The three authentication methods."""

    @pytest.mark.parametrize(
        ("ips", "address", "accepted"),
        [
            (["192.0.2.7"], "192.0.2.7", True),
            (["192.0.2.0/24"], "192.0.2.200", True),
            (["192.0.2.0/24"], "192.0.3.1", False),
            (["2001:db8::/32"], "2001:db8::1", True),
            (["0.0.0.0/0"], "2001:db8::1", False),
            (None, "192.0.2.7", False),
        ],
    )
    def test_addresses(self, ips: list[str] | None, address: str, accepted: bool) -> None:
        """An address is accepted if one of the networks holds it; without networks none is."""
        caller = Caller(ipaddress.ip_address(address), None)
        assert IPAuthMethod(ips).accepts(caller, b"") is accepted

    @pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
    def test_hmac(self, algorithm: str) -> None:
        """The HMAC of the exact body under the shared secret is accepted, of another body not."""
        method = HmacAuthMethod()
        method.algorithm, method.secret = algorithm, Secret("s")
        caller = Caller(None, Claim(algorithm, hmac.new(b"s", b"body", algorithm).hexdigest()))
        assert method.accepts(caller, b"body")
        assert not method.accepts(caller, b"body ")

    @pytest.mark.threat("auth", "blocks without secret, method or domain")
    def test_a_fresh_hmac_method_accepts_nobody(self) -> None:
        """Without a secret there is nothing to know, so nobody is accepted."""
        caller = Caller(None, Claim("sha256", hmac.new(b"", b"", "sha256").hexdigest()))
        assert not HmacAuthMethod().accepts(caller, b"")

    def test_a_plain_hash_is_no_hmac(self) -> None:
        """The bare hash of a body, which anybody can compute, is not accepted."""
        method = HmacAuthMethod()
        method.secret = Secret("s")
        assert not method.accepts(Caller(None, Claim("sha256", hashlib.sha256(b"x").hexdigest())), b"x")

    def test_the_all_method_accepts_anyone(self) -> None:
        """AllAuthMethod accepts anyone."""
        assert AllAuthMethod().accepts(Caller(None, None), b"")
