"""The keys of `[acme]` that say how names are proved."""

from __future__ import annotations

import pytest
from tests.sections import load

from acmems.exceptions import ConfigurationError
from acmems.frontends.acme.proving.options import ProvingOptions
from acmems.net.address import Address, parse_network

ACME = (
    "[acme]\nlistener = 127.0.0.1:0\nurl = https://a.example.org\n"
    "tls-certificate = /a.pem\ntls-key = /a.key\n"
)


def test_the_system_is_asked_and_nothing_is_allowed_by_default() -> None:
    """Both keys may be left out."""
    assert load(ACME).acme.proving == ProvingOptions()


def test_resolvers_and_networks_are_lists() -> None:
    """The port of a resolver is 53 unless it is given."""
    lines = "resolver = 192.0.2.53\nresolver = [2001:db8::53]:5353\nprove-at = 127.0.0.0/8\nprove-at = ::1\n"
    assert load(ACME + lines).acme.proving == ProvingOptions(
        (Address("192.0.2.53", 53), Address("2001:db8::53", 5353)),
        (parse_network("127.0.0.0/8"), parse_network("::1")),
    )


@pytest.mark.parametrize("line", ["prove-at = localhost", "prove-at = 127.0.0.1/8", "resolver = a:b:c"])
def test_what_is_no_address_is_a_mistake(line: str) -> None:
    """And is told with its line."""
    with pytest.raises(ConfigurationError, match=":"):
        load(f"{ACME}{line}\n")
