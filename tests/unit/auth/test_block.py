"""Auth blocks: what makes one, whom it accepts, and which names it grants."""

from __future__ import annotations

import hmac
import ipaddress

import pytest
from tests.auth_blocks import block

from acmems.auth import Caller, Claim
from acmems.exceptions import ConfigurationError
from acmems.x509.identifiers import Identifier


class TestBlocks:
    """What makes a block."""

    @pytest.mark.threat("auth", "other hash algorithms", "blocks without secret, method or domain")
    @pytest.mark.parametrize(
        ("pairs", "words"),
        [
            ([("domain", "a.example.org")], "needs ip, hmac_key or"),
            ([("all", "yes")], "at least one domain"),
            ([("domain", "a.example.org"), ("hmac_key", "")], "empty secret"),
            ([("domain", "a.example.org"), ("hmac_key", "x"), ("hmac_type", "md5")], "none of sha256"),
            ([("domain", "a.example.org"), ("hmac_key", "x"), ("hmac_type", "__name__")], "none of sha256"),
            ([("domain", "a.example.org"), ("hmac_type", "sha256")], "no hmac_key"),
            ([("domain", "a.example.org"), ("all", "no")], "accepts nobody"),
            ([("domain", "a.example.org"), ("ip", "300.1.1.1")], "neither an IP address"),
            ([("domain", "a..example.org"), ("all", "yes")], "domain"),
            ([("domain", "a.example.org"), ("all", "yes"), ("storage", "x")], "not defined"),
            ([("domain", "a.example.org"), ("all", "yes"), ("verificaton", "x")], "did you mean"),
        ],
    )
    def test_each_mistake_is_an_error_that_names_it(self, pairs: list[tuple[str, str]], words: str) -> None:
        """Each mistake in a block is an error that names it; none becomes "anyone"."""
        with pytest.raises(ConfigurationError, match=words):
            block(*pairs)

    @pytest.mark.threat("auth", "the hash of one block, names of another")
    def test_every_method_must_accept(self) -> None:
        """A block with two methods accepts only whom both accept."""
        both = block(("domain", "a.example.org"), ("ip", "192.0.2.7"), ("hmac_key", "s"))
        digest = hmac.new(b"s", b"body", "sha256").hexdigest()
        good, other = ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("192.0.2.8")
        assert both.accepts(Caller(good, Claim("sha256", digest)), b"body")
        assert not both.accepts(Caller(other, Claim("sha256", digest)), b"body")
        assert not both.accepts(Caller(good, None), b"body")

    @pytest.mark.threat("csr", "no names")
    def test_no_names_are_not_all_names(self) -> None:
        """A request without names is refused, although every one of its names matches."""
        assert block(("domain", "**"), ("all", "yes")).refusal((), None) is not None

    @pytest.mark.threat("csr", "wildcards")
    def test_wildcards_need_dns(self) -> None:
        """A wildcard is refused where the block's verification is http-01, whatever its globs."""
        refusal = block(("domain", "*.example.org"), ("all", "yes")).refusal(
            (Identifier.dns("*.example.org"),), None
        )
        assert refusal is not None
        assert "DNS" in refusal

    @pytest.mark.threat("csr", "names other than DNS names")
    def test_addresses_are_not_granted(self) -> None:
        """No glob grants an IP address."""
        everything = block(("domain", "**"), ("all", "yes"))
        assert everything.refusal((Identifier.ip("192.0.2.1"),), None) is not None
