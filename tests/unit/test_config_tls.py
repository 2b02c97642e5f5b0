"""What a configuration says of TLS and of what clients show, and what does not fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from acmems.config import Configuration
from acmems.exceptions import ConfigurationError
from acmems.frontends.tls.options import TlsOptions
from acmems.net.address import Address

ACCOUNT = "[account]\ndir = /var/lib/acmems\n"
ANYONE = '[auth "all"]\nall = yes\ndomain = **\n'
TLS = "tls-listener = 192.0.2.1:1443\ntls-certificate = /c.pem\ntls-key = /k.pem\n"
TOKEN = f'[auth "t"]\ntoken = {"3f0b7" * 8}\ndomain = **\n'


NAMED = "tls-listener = [::1]:1443\ntls-name = own.example.org\n"


def read(mgmt: str, auth: str = ANYONE) -> Configuration:
    return Configuration.from_text(f"{ACCOUNT}[mgmt]\n{mgmt}{auth}")


def test_all_keys() -> None:
    """A listener, its certificate, and who signs client certificates."""
    config = read(TLS + "tls-client-ca = /ca.pem\n")
    assert config.mgmt.tls_listeners == (Address("192.0.2.1", 1443),)
    assert config.tls == {"mgmt": TlsOptions(Path("/c.pem"), Path("/k.pem"), Path("/ca.pem"))}
    assert read("").tls == {}


def test_the_servers_own_name() -> None:
    """Its files are beside the account; a block that takes requests of this machine grants it."""
    found = read(NAMED).tls["mgmt"]
    assert (str(found.certificate), str(found.key)) == (
        "/var/lib/acmems/tls-own.example.org.pem",
        "/var/lib/acmems/tls-own.example.org.key",
    )


@pytest.mark.parametrize(
    ("mgmt", "auth", "finding"),
    [
        ("tls-listener = [::1]:1443\n", ANYONE, "4: tls-listener needs 'tls-name = …', or"),
        ("tls-certificate = /c.pem\ntls-key = /k.pem\n", ANYONE, "4: tls-certificate is given, but no tls-l"),
        ("tls-key = /k.pem\n", ANYONE, "4: tls-key is given, but no tls-certificate"),
        (TLS.replace("tls-key = /k.pem\n", ""), ANYONE, "5: tls-certificate is given, but no tls-key"),
        ("tls-client-ca = /ca.pem\n", ANYONE, "4: tls-client-ca is given, but no tls-listener"),
        (TLS + "listener = 192.0.2.1:1443\n", ANYONE, "is already a listener of [mgmt]"),
        (TLS, '[auth "c"]\nclient-certificate = yes\ndomain = **\n', "8: client-certificate: no client is"),
        ("tls-name = own.example.org\n", ANYONE, "4: tls-name is given, but no tls-listener"),
        (NAMED + "tls-key = /k.pem\n", ANYONE, "6: tls-name and tls-key are both given"),
        (NAMED.replace("own", "*"), ANYONE, "5: tls-name: must be one name, without a star"),
        (NAMED, TOKEN, "5: tls-name: no auth block grants own.example.org to this server: add one with"),
        ("", '[auth "c"]\ntoken = x y\ndomain = **\n', "5: token: "),
    ],
)
def test_what_does_not_fit(mgmt: str, auth: str, finding: str) -> None:
    """Each is an error at its line."""
    with pytest.raises(ConfigurationError) as caught:
        read(mgmt, auth)
    assert finding in str(caught.value)


@pytest.mark.parametrize(
    ("mgmt", "warned"),
    [
        ("", False),
        ("listener = 127.0.0.1:1313\nlistener = [::1]:1313\nlistener = localhost:1314\n", False),
        (TLS, False),
        ("listener = 192.0.2.1:1313\n", True),
        ("listener = acmems.example.org:1313\n" + TLS, True),
    ],
)
def test_tokens_on_the_way(mgmt: str, warned: bool) -> None:
    """Where tokens may travel in the clear to other machines, there is a warning; it does not show them."""
    warnings = list(map(str, read(mgmt, TOKEN).warnings))
    assert any("which is plain HTTP, can use the token" in each for each in warnings) is warned
    assert "3f0b7" not in "".join(warnings)


def test_weak_tokens() -> None:
    """A token that is short gets a warning."""
    warnings = list(map(str, read("", TOKEN.replace("3f0b7" * 8, "secret")).warnings))
    assert any("token: this secret is short" in each and "so it can be guessed" in each for each in warnings)
