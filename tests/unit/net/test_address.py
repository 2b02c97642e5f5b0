"""Addresses to listen on or to ask, and networks, as configuration writes them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest

from acmems.net.address import Address, parse_address, parse_network

GOOD = [
    (parse_network, "192.0.2.7", ipaddress.ip_network("192.0.2.7/32")),
    (parse_network, "2001:db8::/32", ipaddress.ip_network("2001:db8::/32")),
    (parse_address, "127.0.0.1:1313", Address("127.0.0.1", 1313)),
    (parse_address, "192.0.2.1:0", Address("192.0.2.1", 0)),
    (parse_address, "[::]:1380", Address("::", 1380)),
    (parse_address, "[2001:DB8:0::1]:65535", Address("2001:db8::1", 65535)),
    (parse_address, "[fe80::1%eth0]:1380", Address("fe80::1%eth0", 1380)),
    (parse_address, "Gate.example.org:1313", Address("gate.example.org", 1313)),
]

BAD: list[tuple[Callable[[str], object], str]] = [
    *((parse_network, value) for value in ("", "192.0.2.1/24", "192.0.2", "example.org", "1.2.3.4/33")),
    *(
        (parse_address, value)
        for value in (
            "",
            ":1313",
            "*:1313",
            "1313",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "127.0.0.1:http",
            "127.0.0.1:1313 # mgmt",
            "127.0.0.256:1313",
            "127.1:1313",
            "::1:1313",
            "[::1]",
            "[::1]1313",
            "[127.0.0.1]:1313",
            "[]:1313",
            "[::1]:1313]",
            "a b:1313",
            "-a:1313",
            "a..b:1313",
            f"{'a' * 64}:1313",
            f"{'a.' * 127}a:1313",
            "127.0.0.1:1313\n",
        )
    ),
]


class TestParsers:
    @pytest.mark.parametrize(("parse", "value", "expected"), GOOD)
    def test_good_values(self, parse: Callable[[str], object], value: str, expected: object) -> None:
        """A value that is written as the reference says is understood."""
        assert parse(value) == expected

    @pytest.mark.parametrize(("parse", "value"), BAD)
    def test_bad_values_raise_a_reason(self, parse: Callable[[str], object], value: str) -> None:
        """Every other value raises ValueError with a reason of one line."""
        with pytest.raises(ValueError) as caught:
            parse(value)
        assert str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("192.0.2.53", Address("192.0.2.53", 53)),
            ("192.0.2.53:5353", Address("192.0.2.53", 5353)),
            ("2001:db8::53", Address("2001:db8::53", 53)),
            ("[2001:db8::53]", Address("2001:db8::53", 53)),
            ("[2001:db8::53]:5353", Address("2001:db8::53", 5353)),
            ("ns.example.org", Address("ns.example.org", 53)),
            ("ns.example.org:5353", Address("ns.example.org", 5353)),
        ],
    )
    def test_the_port_may_have_a_default(self, value: str, expected: Address) -> None:
        """With a default port, an address may leave the port out, brackets included."""
        assert parse_address(value, default_port=53) == expected

    @pytest.mark.parametrize("value", ["", "192.0.2.53:", "[::1]:", "2001:db8::x", "[::1]x", ":53"])
    def test_a_default_port_excuses_nothing_else(self, value: str) -> None:
        """With a default port, a broken address is refused as without."""
        with pytest.raises(ValueError):
            parse_address(value, default_port=53)

    @pytest.mark.parametrize("written", ["127.0.0.1:1313", "[::1]:1313", "[fe80::1%eth0]:0", "localhost:1"])
    def test_an_address_prints_as_it_is_written(self, written: str) -> None:
        """An address prints in the form that configuration takes."""
        assert str(parse_address(written)) == written
