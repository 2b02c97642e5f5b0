"""What `prove` of an auth block has ACME clients prove, and whom it keeps out."""

from __future__ import annotations

import io
from email.message import Message
from pathlib import Path

import pytest
from tests.auth_blocks import block

from acmems.auth import Authenticator, Processor
from acmems.commands import main as cli
from acmems.config import Configuration
from acmems.exceptions import ConfigurationError, PolicyRefusal
from acmems.x509.identifiers import named

ANYONE = (("domain", "**"), ("all", "yes"))


def proving(value: str) -> tuple[str, ...]:
    return block(*ANYONE, ("prove", value)).proof.types


def test_nothing_has_to_be_proved_unless_a_block_says_so() -> None:
    """`none` is the default."""
    assert block(*ANYONE).proof.types == proving("none") == ()
    assert block(*ANYONE).proof.refusal(named("a.example.org")) is None


def test_types_are_a_list() -> None:
    """In the order of the configuration."""
    assert proving("dns-01, http-01") == ("dns-01", "http-01")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("http01", "'http01' is none of none, http-01, dns-01, tls-alpn-01"),
        ("http-01, http-01", "names one twice"),
        ("none, http-01", "cannot stand beside"),
        ("", "is none of|without a value|empty"),
    ],
)
def test_mistakes_are_errors_that_say_what_is_wrong(value: str, words: str) -> None:
    """None of them becomes `none`."""
    with pytest.raises(ConfigurationError, match=words):
        proving(value)


def test_an_acme_client_sends_no_hmac() -> None:
    """A block that requires both could accept nobody."""
    with pytest.raises(ConfigurationError, match="prove is for ACME clients"):
        block(("domain", "**"), ("hmac_key", "0123456789abcdef0123"), ("prove", "http-01"))


@pytest.mark.parametrize(
    ("types", "name", "fitting"),
    [
        ("http-01, dns-01, tls-alpn-01", "a.example.org", ("http-01", "dns-01", "tls-alpn-01")),
        ("http-01, dns-01, tls-alpn-01", "*.example.org", ("dns-01",)),
        ("http-01, dns-01, tls-alpn-01", "192.0.2.1", ("http-01", "tls-alpn-01")),
        ("http-01", "*.example.org", ()),
        ("dns-01", "2001:db8::1", ()),
    ],
)
def test_each_kind_of_name_is_proved_by_the_types_that_can(
    types: str, name: str, fitting: tuple[str, ...]
) -> None:
    """Wildcards by DNS alone, addresses by all but DNS (RFC 8555 section 8, RFC 8738 section 7)."""
    proof = block(*ANYONE, ("prove", types)).proof
    assert proof.types_for(named(name)) == fitting
    assert (proof.refusal(named(name)) is None) == bool(fitting)


def test_a_block_that_requires_a_proof_signs_nothing_without_one() -> None:
    """Whoever posts a CSR has proved nothing: the block is for ACME clients only."""
    headers = Message()
    headers["Content-Length"] = "1"
    auth = Authenticator((block(*ANYONE, ("prove", "http-01")),))
    with pytest.raises(PolicyRefusal):
        Processor(auth, ("192.0.2.1", 1), headers, io.BytesIO(b"x")).admit()
    with pytest.raises(PolicyRefusal, match="only ACME clients can"):
        Processor(auth, ("192.0.2.1", 1), headers, io.BytesIO(b"x")).accepting(b"x")


def test_without_an_acme_front_end_nobody_could_use_such_a_block(tmp_path: Path) -> None:
    """A warning says so, at the line."""
    text = f'[account]\ndir = {tmp_path}\naccept-terms-of-service = yes\n[auth "a"]\nall = yes\ndomain = **\n'
    assert Configuration.from_text(text).warnings == ()
    [warning] = Configuration.from_text(f"{text}prove = http-01\n").warnings
    assert str(warning).endswith(
        ":7: warning: there is no [acme] with a listener, so that nobody can use this block"
    )


def test_explain_says_that_a_block_is_for_acme_clients(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever posts a CSR is refused by it, and the operator is told why."""
    config = tmp_path / "acmems.ini"
    config.write_text(
        f"[account]\ndir = {tmp_path}\naccept-terms-of-service = yes\n"
        "[acme]\nlistener = 127.0.0.1:14000\nurl = https://a.example.org\n"
        "tls-certificate = /a.pem\ntls-key = /a.key\n"
        '[auth "a"]\nall = yes\ndomain = **\nprove = http-01\n'
    )
    assert cli.main(["explain", str(config), "--address", "192.0.2.7", "--name", "a.example.net"]) == 1
    assert "it requires that names are proved (prove), which only ACME clients can" in capsys.readouterr().out
