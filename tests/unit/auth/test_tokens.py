"""Bearer tokens: how they are read, and whom they let in."""

from __future__ import annotations

import hmac
import ipaddress
import os
from pathlib import Path

import pytest
from tests.auth_blocks import block

from acmems.auth import Caller, HmacAuthMethod, Processor
from acmems.auth.methods import TokenAuthMethod, bearer_token
from acmems.auth.processor import Authenticator
from acmems.exceptions import ConfigurationError, PolicyRefusal
from acmems.text import Secret

TOKEN, OTHER = "f3a9" * 8 + "07c1d2", "0b5e" * 8 + "9f8e7d"


def caller(token: str | None) -> Caller:
    return Caller(None, None, None if token is None else Secret(token))


class TestReading:
    @pytest.mark.parametrize(
        "value", [f"Bearer {TOKEN}", f"bearer  {TOKEN}", f" BEARER {TOKEN} ", "Bearer a=="]
    )
    def test_the_header(self, value: str) -> None:
        """The scheme may be written in any case (RFC 9110 section 11.1)."""
        assert bearer_token({"authorization": value}) == Secret(value.split()[1])

    @pytest.mark.threat("auth", "a malformed Authentication header")
    @pytest.mark.parametrize(
        "value",
        [
            "",
            "Bearer",
            "Bearer ",
            f"Basic {TOKEN}",
            TOKEN,
            f"Bearer {TOKEN} x",
            "Bearer ü",
            "Bearer a=b",
            f"Bearer {'x' * 513}",
        ],
    )
    def test_what_is_malformed_is_absent(self, value: str) -> None:
        """Anything but one well-formed bearer token is as good as none."""
        assert bearer_token({"Authorization": value}) is None


class TestMethod:
    def test_each_of_several_tokens_is_accepted(self) -> None:
        """While a token is changed, the old and the new one are good; no other is, nor is none."""
        method = TokenAuthMethod((Secret(TOKEN), Secret(OTHER)))
        assert method.accepts(caller(TOKEN), b"")
        assert method.accepts(caller(OTHER), b"")
        for sent in (None, TOKEN[:-1], TOKEN + "0", TOKEN.upper()):
            assert not method.may_accept(caller(sent)), sent
            assert not method.accepts(caller(sent), b""), sent

    @pytest.mark.threat("auth", "guessing and timing")
    def test_hashes_are_compared_in_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All tokens are compared, by hashes of one length, whichever is sent."""
        compared: list[tuple[bytes, bytes]] = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return one == other

        monkeypatch.setattr(hmac, "compare_digest", compare)
        method = TokenAuthMethod((Secret(TOKEN), Secret(OTHER)))
        assert method.accepts(caller(TOKEN), b"")
        assert not method.accepts(caller("x"), b"")
        assert [(len(one), len(other)) for one, other in compared] == [(32, 32)] * 4

    def test_a_file_is_read_anew(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Each line of the file is a token; when it changes, its tokens do; when it breaks, they stay."""
        path = tmp_path / "tokens"
        path.write_text(f"{TOKEN}\n\n", encoding="ascii")
        method = TokenAuthMethod((), path)
        assert not method.accepts(caller(TOKEN), b"")
        method.refresh()
        assert method.accepts(caller(TOKEN), b"")
        path.write_text(f"{OTHER}\n{'e' * 64}\n", encoding="ascii")
        method.refresh()
        assert method.accepts(caller(OTHER), b"")
        assert not method.accepts(caller(TOKEN), b"")
        for broken in ("", "two words\n"):
            path.write_text(broken, encoding="ascii")
            os.utime(path, ns=(1, len(broken)))
            method.refresh()
            assert method.accepts(caller(OTHER), b"")
            assert list(method.self_check())
        assert "the tokens of before are still accepted" in caplog.text
        path.unlink()
        method.refresh()
        assert method.accepts(caller(OTHER), b"")


class TestBlocks:
    def test_the_same_403_for_all(self) -> None:
        """Who sends a wrong token is refused before the body is read, like who sends none."""
        auth = Authenticator((block(("token", TOKEN), ("domain", "**")),))
        for value in (f"Bearer {OTHER}", "", f"Bearer {TOKEN}x"):
            headers = {"Content-Length": "5", "Authorization": value}
            with pytest.raises(PolicyRefusal):
                Processor(auth, ("192.0.2.1", 1), headers, None).admit()  # type: ignore[arg-type]  # not read
        headers = {"Content-Length": "5", "Authorization": f"Bearer {TOKEN}"}
        assert Processor(auth, ("192.0.2.1", 1), headers, None).admit() == 5  # type: ignore[arg-type]  # not read

    def test_with_other_methods(self) -> None:
        """All methods of a block must accept."""
        both = block(("token", TOKEN), ("ip", "192.0.2.1"), ("domain", "**"))
        good = ipaddress.ip_address("192.0.2.1")
        assert both.accepts(Caller(good, None, Secret(TOKEN)), b"")
        assert not both.accepts(Caller(good, None), b"")
        assert not both.accepts(caller(TOKEN), b"")

    @pytest.mark.parametrize("text", ["", "ünïcode", "a" * 513])
    def test_tokens_that_nobody_can_send(self, text: str) -> None:
        """A token of other characters is a configuration error, whose words do not show it."""
        with pytest.raises(ConfigurationError) as caught:
            block(("token", text), ("domain", "**"))
        assert "must be letters, digits" in str(caught.value)
        assert not text or text not in str(caught.value)

    def test_nothing_shows_a_token(self) -> None:
        """No repr shows what a client has sent."""
        assert TOKEN not in repr(caller(TOKEN))
        assert HmacAuthMethod not in map(type, block(("token", TOKEN), ("domain", "**")).methods)
