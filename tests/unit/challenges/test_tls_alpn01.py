"""The tls-alpn-01 validator: its certificates, its handshakes, and whom it gives none."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tests.handshakes import LOOPBACK, NAME, Door, digest_in, digest_of, hello
from tests.listening import PATIENCE, Time, look_around
from tests.peers import wait_until

from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Listening, Proof, Validator
from acmems.challenges.tls_alpn01 import DEFAULT_LISTENERS, TlsAlpn01
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.net.listening import Listener, ListenerLimits
from acmems.net.tlsalpn import HANDSHAKE_LIMITS, ChallengeCertificates, HandshakeService, server_name
from acmems.settings.findings import Finding
from acmems.settings.grammar import read_sections
from acmems.settings.options import Options
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Identifier


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    with contextlib.closing(door.service):
        yield door


def handshakes(shown: ChallengeCertificates, limits: ListenerLimits, time: Time) -> Listener:
    service = HandshakeService(shown)
    return Listener("tls", [LOOPBACK], service, limits=limits, clock=time.clock).open()


def options_of(text: str, findings: list[Finding]) -> Options:
    return Options(read_sections(f'[verification "tls"]\n{text}', "acmems.ini", findings)[0], findings)


class TestOptions:
    """The section, and what the contract asks for."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", DEFAULT_LISTENERS),
            ("listener =", ()),
            (
                "listener = 192.0.2.1:443\nlistener = [::1]:443",
                (Address("192.0.2.1", 443), Address("::1", 443)),
            ),
        ],
    )
    def test_the_default_listener_is_port_1443_everywhere(
        self, text: str, expected: tuple[Address, ...]
    ) -> None:
        """It listens on port 1443 everywhere, on what is given, or, with an empty value, nowhere."""
        findings: list[Finding] = []
        made = TlsAlpn01.from_options("tls", options_of(text, findings), ValidatorContext())
        assert (made.listeners, findings) == (expected, [])
        assert f"'tls', {', '.join(map(str, expected))}" in repr(made)

    def test_a_bad_listener_is_reported(self) -> None:
        """What is no address is a finding."""
        findings: list[Finding] = []
        TlsAlpn01.from_options("tls", options_of("listener = 443", findings), ValidatorContext())
        assert "listener" in findings[0].message

    def test_the_contract_is_kept(self, door: Door) -> None:
        """It proves names and addresses but no wildcards, and is served."""
        validator: Validator = door.validator
        assert isinstance(validator, Listening)
        assert (validator.challenge_type, validator.sees_requests) == ("tls-alpn-01", True)
        assert not validator.leaves_traces
        names = [NAME, Identifier.ip("192.0.2.1"), Identifier.ip("2001:db8::1")]
        assert all(validator.proves(name) for name in names)
        assert not validator.proves(Identifier.dns("*.example.org"))


class TestCertificates:
    """What the CA is shown."""

    def test_the_certificate_has_the_name_and_the_digest(self, door: Door) -> None:
        """The certificate has the one name, the critical digest, a P-256 key, and is signed by itself."""
        door.validator.present([door.proof("token")])
        shown = door.shake()
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(names) == [x509.DNSName(NAME.value)]
        assert digest_in(shown) == digest_of("token")
        assert len(list(shown.extensions)) == 2
        key = shown.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
        shown.verify_directly_issued_by(shown)
        assert shown.not_valid_before_utc < SYSTEM.now() < shown.not_valid_after_utc

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
            (
                "2001:db8::1",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            ),
        ],
    )
    def test_addresses_are_asked_for_by_reverse_name(self, door: Door, text: str, name: str) -> None:
        """For an address the server name is its reverse name, and the certificate has the address itself."""
        identifier = Identifier.ip(text)
        assert server_name(identifier) == name
        door.validator.present([door.proof("token", identifier)])
        names = door.shake(name).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(value) for value in names.get_values_for_type(x509.IPAddress)] == [text]
        assert len(list(names)) == 1

    def test_two_names_share_no_key(self, door: Door) -> None:
        """Two names share no key."""
        other = Identifier.dns("other.example.org")
        door.validator.present([door.proof("one"), door.proof("two", other)])
        assert door.shake().public_key() != door.shake(other.value).public_key()


class TestPresenting:
    """What is on show when."""

    def test_the_newest_wins(self, door: Door) -> None:
        """Of two proofs for a name the newest is shown and told; withdrawn, it leaves the other."""
        first, second = door.proof("first"), door.proof("second")
        door.validator.present([first])
        door.validator.present([second])
        assert digest_in(door.shake()) == digest_of("second")
        door.validator.withdraw([second])
        assert digest_in(door.shake()) == digest_of("first")
        wait_until(lambda: door.requests == ["second", "first"], "both were told")

    def test_withdrawing_the_older_leaves_the_newer(self, door: Door) -> None:
        """The older of two proofs goes without harm to the newer."""
        first, second = door.proof("first"), door.proof("second")
        door.validator.present([first, second])
        door.validator.withdraw([first])
        assert digest_in(door.shake()) == digest_of("second")

    def test_repeating_is_harmless(self, door: Door) -> None:
        """A proof presented twice is gone when it is withdrawn once; once more is no error."""
        mine = door.proof("token")
        door.validator.present([mine])
        door.validator.present([mine])
        door.shake()
        wait_until(lambda: door.requests == ["token"], "it was told once")
        door.validator.withdraw([mine])
        door.validator.withdraw([mine])
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            door.shake()

    def test_orders_that_share_a_proof_are_all_told(self, door: Door) -> None:
        """Two orders with one authorization both learn of a handshake, and one may go before the other."""
        one, other = door.proof("shared"), door.proof("shared")
        door.validator.present([one, other])
        door.shake()
        wait_until(lambda: door.requests == ["shared"] * 2, "both were told")
        door.validator.withdraw([other])
        door.shake()
        wait_until(lambda: door.requests == ["shared"] * 3, "the one that is left was told")

    def test_a_certificate_that_cannot_be_made_is_told(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where no certificate can be made, the client learns why, and the operator what to do."""

        def fail(*_: object) -> int:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(os, "memfd_create", fail)
        with pytest.raises(
            ValidatorUnavailable, match=r"www\.example\.org .*: Too many open files"
        ) as raised:
            door.validator.present([door.proof("token")])
        assert "LimitNOFILE" in raised.value.advice


class TestHandshakes:
    """Who gets a handshake, and who does not."""

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_tls_1_2_and_1_3_get_the_certificate(self, door: Door, version: ssl.TLSVersion) -> None:
        """TLS 1.2 and 1.3 work, whatever the case of the name, and end with nothing but close_notify."""
        door.validator.present([door.proof("token")])
        door.shake("WWW.example.ORG", version=version)
        wait_until(lambda: door.requests == ["token"], "the order was told")
        wait_until(lambda: not door.open, "the connection is closed")

    @pytest.mark.threat("proving", "hostile TLS clients")
    @pytest.mark.parametrize(
        ("name", "alpn", "reason"),
        [
            (NAME.value, (), "no.application.protocol"),
            (NAME.value, ("h2", "http/1.1"), "no.application.protocol"),
            ("other.example.org", ("acme-tls/1",), "unrecognized.name"),
            ("a.www.example.org", ("acme-tls/1",), "unrecognized.name"),
            (None, ("acme-tls/1",), "unrecognized.name"),
        ],
    )
    def test_handshakes_for_other_protocols_or_names_get_an_alert(
        self, door: Door, name: str | None, alpn: tuple[str, ...], reason: str
    ) -> None:
        """Without `acme-tls/1`, or for a name that is not on show, there is an alert that says so."""
        door.validator.present([door.proof("token")])
        with pytest.raises(ssl.SSLError, match=f"(?i){reason}"):
            door.shake(name, alpn=alpn)
        assert door.requests == []

    def test_openssl_sees_the_proof(self, door: Door) -> None:
        """`openssl s_client` gets the certificate with acmeIdentifier; TLS 1.1 gets none."""
        door.validator.present([door.proof("token")])
        asked = ["openssl", "s_client", "-connect", f"127.0.0.1:{door.place[1]}", "-alpn", "acme-tls/1"]
        asked += ["-servername", NAME.value]

        def ask(*more: str) -> bytes:
            return subprocess.run(
                [*asked, *more], input=b"", capture_output=True, check=False, timeout=PATIENCE
            ).stdout

        answer = ask()
        assert b"ALPN protocol: acme-tls/1" in answer
        assert digest_in(x509.load_pem_x509_certificate(answer)) == digest_of("token")
        assert b"BEGIN CERTIFICATE" not in ask("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")

    def test_an_unfinished_handshake_is_not_told(self, door: Door) -> None:
        """A client that leaves after the server's part has proved nothing."""
        door.validator.present([door.proof("token")])
        context = ssl.create_default_context()
        context.set_alpn_protocols(["acme-tls/1"])
        with door.connect() as sock, pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(sock, server_hostname=NAME.value)
        wait_until(lambda: not door.open, "the connection is closed")
        assert door.requests == []

    @pytest.mark.threat("proving", "hostile TLS clients")
    @pytest.mark.parametrize(
        ("data", "answer"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", b""),
            (b"\x16\3\1\0\4\2\0\0\0", b"\x15\3\3\0\2\2\x32"),
            (b"\x16GET", b"\x15\3\3\0\2\2\x32"),
        ],
    )
    def test_broken_hellos_get_an_alert_or_nothing(self, door: Door, data: bytes, answer: bytes) -> None:
        """Broken TLS gets decode_error, and what is no TLS gets nothing."""
        with door.connect() as sock:
            sock.sendall(data)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := sock.recv(100):
                    received += piece
        assert received == answer


class TestLimits:
    """What the slow and the many come to."""

    def test_a_stalled_connection_is_closed_after_five_seconds(self, door: Door) -> None:
        """Whoever sends nothing, or byte by byte, is closed when five seconds have passed; not before."""
        with door.connect() as silent, door.connect() as slow:
            slow.sendall(b"\x16")
            wait_until(lambda: door.open == 2, "both are accepted")
            door.time.now += 4.9
            slow.sendall(b"\3")
            look_around(door.service)
            wait_until(lambda: door.open == 2, "nobody else is left")
            door.time.now += 0.2
            assert silent.recv(1) == b""
            with contextlib.suppress(ConnectionResetError):
                assert slow.recv(1) == b""
        wait_until(lambda: not door.open, "both are forgotten")

    @pytest.mark.threat("proving", "hostile TLS clients")
    def test_a_stalled_handshake_is_closed_after_five_seconds(self, door: Door) -> None:
        """A client that never answers the server's part of a handshake is closed as well."""
        door.validator.present([door.proof("token")])
        with door.connect() as sock:
            sock.sendall(hello())
            assert sock.recv(1) == b"\x16"
            door.time.now += 5.1
            while sock.recv(65536):
                pass
        assert door.requests == []

    @pytest.mark.threat("proving", "hostile TLS clients")
    @pytest.mark.threat("fair shares", "thousands of connections")
    @pytest.mark.parametrize("addresses", [1, 40])
    @pytest.mark.parametrize("is_silent", [True, False], ids=["silent", "after a ClientHello"])
    def test_others_find_a_place(self, door: Door, addresses: int, is_silent: bool) -> None:
        """Whatever hundreds of connections do, the CA's handshake is made at once."""
        door.validator.present([door.proof("token")])
        with contextlib.ExitStack() as stack:
            for number in range(400):
                sock = stack.enter_context(door.connect(f"127.0.1.{number % addresses + 1}"))
                if not is_silent:
                    sock.sendall(hello())
            wait_until(lambda: door.open >= HANDSHAKE_LIMITS.connections * 4 // 5, "the places are taken")
            for _ in range(10):
                door.shake()
        wait_until(lambda: len(door.requests) == 10, "all handshakes were the CA's")

    def test_there_is_a_most(self) -> None:
        """No more connections than the limit are open; the next is served when one has ended."""
        time = Time()
        limits = dataclasses.replace(HANDSHAKE_LIMITS, connections=2)
        service = handshakes(ChallengeCertificates(time.clock), limits, time)
        place = ("127.0.0.1", service.addresses[0].port)
        with contextlib.closing(service), contextlib.ExitStack() as stack:
            for number in range(2):
                source = (f"127.0.0.{number + 2}", 0)
                stack.enter_context(socket.create_connection(place, PATIENCE, source))
            wait_until(lambda: len(service.connections) == 2, "both are there")
            third = stack.enter_context(socket.create_connection(place, PATIENCE))
            third.sendall(b"x")
            wait_until(lambda: service.is_crowded, "no more are accepted")
            assert len(service.connections) == 2
            time.now += 5.1
            assert third.recv(1) == b""

    def test_much_is_not_read(self, door: Door) -> None:
        """A client that goes on sending after its alert is closed, long before its time is over."""
        with door.connect() as sock:
            sock.sendall(b"\x16GET")
            assert sock.recv(1) == b"\x15"
            with contextlib.suppress(OSError):
                sock.sendall(b"x" * 1_000_000)
            wait_until(lambda: not door.open, "it is closed")


class TestService:
    """Beginning and end."""

    def test_a_taken_address_is_named(self, door: Door) -> None:
        """An address that is in use is an error that names it."""
        taken = door.service.addresses[0]
        with pytest.raises(OSError, match="cannot listen") as raised:
            Listener.of(TlsAlpn01("tls", [LOOPBACK, taken]).plan()).open()
        assert (raised.value.errno, raised.value.filename) == (errno.EADDRINUSE, str(taken))

    def test_a_closed_service_has_no_thread_and_no_connection(self) -> None:
        """Closed, it has no thread and no connection; closing again changes nothing."""
        door = Door()
        assert door.service.is_healthy()
        assert door.service.name == "tls-alpn01 tls"
        with door.connect() as sock:
            wait_until(lambda: door.open == 1, "it is accepted")
            door.service.close()
            door.service.close()
            assert not door.service.is_healthy()
            assert sock.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            door.connect()

    def test_a_bug_hurts_no_other(self, door: Door, caplog: pytest.LogCaptureFixture) -> None:
        """Where telling an order fails, that is logged, and the next handshake works."""

        def fail() -> None:
            raise RuntimeError

        broken = Proof(NAME, "token", "token.thumbprint", fail)
        door.validator.present([broken])
        door.shake()
        wait_until(lambda: "a bug" in caplog.text, "it is logged")
        door.shake()
        assert door.service.is_healthy()
