"""`[acme]` and external accounts in a configuration: what fits together, and what is said elsewhere."""

from __future__ import annotations

import pytest

from acmems.config import Configuration
from acmems.exceptions import ConfigurationError
from acmems.net.address import Address

KEY, OTHER = "A" * 43, "B" * 42 + "A"
HEAD = "[account]\ndir = /a\n"
ACME = """
[acme]
listener = 127.0.0.1:1443
url = https://acme.example.org/inside/
tls-certificate = /tls.pem
tls-key = /tls-key.pem
"""
BOUND = f'\n[auth "build"]\neab-kid = build\neab-hmac-key = {KEY}\ndomain = **\n'
BY_ADDRESS = '\n[auth "room"]\nip = 192.0.2.0/24\ndomain = **\n'


def read(*parts: str) -> Configuration:
    return Configuration.from_text(HEAD + "\n".join(parts))


def faults(*parts: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        read(*parts)
    return str(raised.value)


def test_a_good_one() -> None:
    """The base of URLs has no slash at the end, and the certificate is that of the section."""
    config = read(ACME, BOUND)
    assert config.acme.listeners == (Address("127.0.0.1", 1443),)
    assert config.acme.url == "https://acme.example.org/inside"
    assert str(config.tls["acme"].certificate) == "/tls.pem"
    assert config.warnings == ()


def test_the_certificate_of_mgmt() -> None:
    """Without one of its own, the front end shows that of [mgmt]; client certificates are those of it."""
    mgmt = (
        "[mgmt]\ntls-listener = 127.0.0.1:1444\ntls-certificate = /m.pem\ntls-key = /m-key.pem\n"
        "tls-client-ca = /clients.pem\n"
    )
    acme = ACME.partition("tls-")[0]
    config = read(mgmt, acme, BOUND)
    assert config.tls["acme"] == config.tls["mgmt"]
    own = read(mgmt, ACME, BOUND)
    assert str(own.tls["acme"].certificate) == "/tls.pem"
    assert str(own.tls["acme"].client_ca) == "/clients.pem"


@pytest.mark.parametrize(
    ("blocks", "said", "required"),
    [
        ((BOUND,), None, True),
        ((BOUND, BY_ADDRESS), None, False),
        ((BY_ADDRESS,), None, False),
        ((BOUND, '\n[auth "a"]\nall = yes\ndomain = **\n'), None, False),
        ((BOUND.replace("domain", "ip = 192.0.2.1\ndomain"),), None, True),
        ((BOUND, BY_ADDRESS), "required", True),
        ((BOUND,), "optional", False),
    ],
)
def test_who_needs_an_external_account(blocks: tuple[str, ...], said: str | None, required: bool) -> None:
    """Everybody, unless a block needs nothing but an address, or the section says otherwise."""
    config = read(ACME + (f"external-account = {said}\n" if said else ""), *blocks)
    assert config.acme.requires_external_account(config.auth.blocks) is required


@pytest.mark.parametrize(
    "url",
    [
        "http://acme.example.org",
        "https://acme.example.org/?a",
        "https://acme.example.org/#a",
        "https://user@acme.example.org",
        "https://acme.example.org//a",
        "https://acme.example.org/%61",
        "acme.example.org",
    ],
)
def test_urls(url: str) -> None:
    """The base is an https URL, and nothing else."""
    told = faults(ACME.replace("https://acme.example.org/inside/", url), BOUND)
    assert "url: must be an https URL" in told
    assert "such as https://acme.example.org\n" in f"{told}\n"


def test_what_is_missing() -> None:
    """Each of listener, URL and certificate is missed where another one is given."""
    assert "[acme] needs 'url" in faults(ACME.replace("url =", "#"), BOUND)
    assert "url is given, but no listener" in faults(ACME.replace("listener =", "#"), BOUND)
    assert "add 'tls-certificate" in faults(ACME.replace("tls-", "#"), BOUND)
    assert "no auth block has an 'eab-kid'" in faults(ACME + "external-account = required", BY_ADDRESS)


def test_blocks_that_nobody_can_use() -> None:
    """A block for ACME clients without a front end for them is a warning."""
    [warning] = read(BOUND).warnings
    assert "nobody can use this block" in str(warning)


def test_one_external_account_in_two_blocks() -> None:
    """It has one key, and the error does not show it."""
    second = BOUND.replace('"build"', '"second"')
    assert read(ACME, BOUND, second).warnings == ()
    told = faults(ACME, BOUND, second.replace(KEY, OTHER))
    assert "same eab-kid" in told
    assert KEY not in told
    assert OTHER not in told


def test_addresses_that_are_taken() -> None:
    """The listener is one like the others: nobody else can have its address."""
    assert "already a listener of" in faults(ACME, BOUND, "[metrics]\nlistener = 127.0.0.1:1443")
