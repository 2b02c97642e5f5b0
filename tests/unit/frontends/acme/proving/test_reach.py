"""Which addresses are connected to."""

from __future__ import annotations

import ipaddress

import pytest

from acmems.frontends.acme.proving.reach import Reach
from acmems.net.address import parse_network

REFUSED = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "::1": "loopback",
    "0.0.0.0": "an unspecified address",  # noqa: S104 - what is refused
    "::": "an unspecified address",
    "169.254.169.254": "link-local",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "100.100.100.200": "a metadata service",
    "168.63.129.16": "a metadata service",
    "192.0.0.192": "a metadata service",
    "fd00:ec2::254": "a metadata service",
    "fd20:ce::254": "a metadata service",
    "224.0.0.1": "multicast",
    "ff02::1": "multicast",
    "255.255.255.255": "reserved",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:169.254.169.254": "link-local",
    "::127.0.0.1": "loopback",
    "64:ff9b::a9fe:a9fe": "link-local",
    "64:ff9b:1::1": "a translated address",
    "2002:a9fe:a9fe::1": "link-local",
    "2001:0:102:304::5601:5601": "link-local",
    "2001:db8::1%eth0": "an address with a scope",
}


@pytest.mark.threat("proving inside", "names that lead to metadata, loopback or this server")
@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_nobody_proves_names_at_are_refused(address: str) -> None:
    """In each of their spellings."""
    assert Reach().refusal(ipaddress.ip_address(address)) == REFUSED[address]


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "192.0.2.1",
        "fd12::1",
        "2001:db8::1",
        "::ffff:10.0.0.1",
    ],
)
def test_private_and_public_addresses_are_connected_to(address: str) -> None:
    """This server stands inside, and so do the machines that prove names to it."""
    assert Reach().refusal(ipaddress.ip_address(address)) is None


def test_the_operator_can_allow_networks() -> None:
    """And no others: another spelling of the same address is the same."""
    reach = Reach((parse_network("127.0.0.0/8"), parse_network("64:ff9b:1::/48")))
    for allowed in ("127.0.0.1", "64:ff9b:1::1"):
        assert reach.refusal(ipaddress.ip_address(allowed)) is None
    assert reach.refusal(ipaddress.ip_address("::1")) == "loopback"
    assert reach.refusal(ipaddress.ip_address("169.254.0.1")) == "link-local"
