"""Handshakes of tls-alpn-01 for what other nodes present."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from tests.handshakes import Door, digest_in, digest_of, hello
from tests.listening import PATIENCE, look_around
from tests.peers import wait_until
from tests.sharing import OtherNode

from acmems.x509.identifiers import Identifier


class TestOtherNodes:
    """Whoever asks for what another node presents is answered when it was looked up."""

    @pytest.fixture
    def others(self) -> OtherNode:
        return OtherNode()

    @pytest.fixture
    def door(self, others: OtherNode) -> Iterator[Door]:
        door = Door(others=others)
        with contextlib.closing(door.service):
            yield door

    def test_a_proof_of_another_node(self, door: Door, others: OtherNode) -> None:
        """It is shown as one of this node; meanwhile others are served, and one of its own comes first."""
        door.validator.present([door.proof("mine", Identifier.dns("mine.example.org"))])
        with ThreadPoolExecutor(1) as pool:
            shaking = pool.submit(door.shake)
            wait_until(lambda: others.places == ["tls:www.example.org"], "it is looked up")
            assert digest_in(door.shake("mine.example.org")) == digest_of("mine")
            others.answer("older.thumbprint", "newer.thumbprint")
            assert digest_in(shaking.result(PATIENCE)) == digest_of("newer")
        assert door.requests == ["mine"]

    def test_an_address(self, door: Door, others: OtherNode) -> None:
        """An address is looked up by its reverse name, and stands in the certificate as an address."""
        with ThreadPoolExecutor(1) as pool:
            shaking = pool.submit(door.shake, "7.2.0.192.in-addr.arpa")
            others.answer("token.thumbprint", name="192.0.2.7")
            shown = shaking.result(PATIENCE)
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]

    def test_the_same_again(self, door: Door, others: OtherNode) -> None:
        """Its certificate is made once."""
        shown = set()
        for _ in range(2):
            with ThreadPoolExecutor(1) as pool:
                shaking = pool.submit(door.shake)
                others.answer("token.thumbprint")
                shown.add(shaking.result(PATIENCE))
        assert len(shown) == 1

    @pytest.mark.parametrize("is_known", [True, False])
    def test_nothing_anywhere(self, door: Door, others: OtherNode, is_known: bool) -> None:
        """It is an alert, also where nobody knows whether there is something."""
        with ThreadPoolExecutor(1) as pool:
            shaking = pool.submit(door.shake)
            others.answer(is_known=is_known)
            with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
                shaking.result(PATIENCE)

    @pytest.mark.parametrize("name", [None, "no_name", "localhost.", "*.example.org"])
    def test_what_no_ca_asks_for_is_not_looked_up(
        self, door: Door, others: OtherNode, name: str | None
    ) -> None:
        """It is an alert at once."""
        with pytest.raises(ssl.SSLError):
            door.shake(name)
        assert others.places == []

    def test_a_lookup_that_never_ends(self, door: Door, others: OtherNode) -> None:
        """The connection is closed after five seconds, and what is found later hurts nobody."""
        with door.connect() as sock:
            sock.sendall(hello())
            wait_until(lambda: others.places != [], "it is looked up")
            door.time.now += 5.1
            look_around(door.service)
            assert sock.recv(1) == b""
        others.answer("token.thumbprint")
        look_around(door.service)
        assert door.open == 0
