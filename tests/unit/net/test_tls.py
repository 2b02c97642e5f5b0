"""TLS on one connection, driven by hand: handshakes that do not end, and what is not TLS at all."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.client_certificates import ClientAuthority
from tests.listening import BIG, GRACE, Bench, Client, later, post, quiet_tls, reply, response, tls_material
from tests.peers.ca import make_tls_certificate

from acmems.exceptions import HttpRefusal
from acmems.net.http import Exchange
from acmems.net.listening import Readiness
from acmems.net.tls import ServerTls, TlsMaterial, TlsSocket, server_context


class Half:
    """A client's end of a TLS connection, whose bytes a test moves itself."""

    def __init__(self, *, version: ssl.TLSVersion | None = None, chain: Path | None = None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if chain is not None:
            context.load_cert_chain(chain)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)

    def hello(self) -> bytes:
        """Return the first flight."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def shake(self, sock: socket.socket, go: Callable[[], None]) -> None:
        """Come to the end of the handshake."""
        sock.sendall(self.hello())
        done = False
        while not done:
            go()
            self.incoming.write(sock.recv(65536))
            try:
                self.tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            sock.sendall(self.outgoing.read())
        go()


class RawBench(Bench):
    """A connection whose handshake has not begun."""

    def __init__(self, tls: ServerTls | None = None) -> None:
        self.refusals: list[str] = []
        super().__init__(tls or quiet_tls())
        self.application.on_refuse = lambda: None
        refuse = self.application.refuse

        def note(exchange: Exchange | None, error: Exception, client: str) -> bytes:
            self.refusals.append(str(error))
            assert isinstance(error, HttpRefusal)
            return refuse(exchange, error, client)

        self.application.refuse = note  # type: ignore[method-assign]  # what it is told is looked at

    def _client(self, sock: socket.socket) -> Client:
        return Client(sock)

    @property
    def raw(self) -> socket.socket:
        assert isinstance(self.client.socket, socket.socket)
        return self.client.socket


@pytest.fixture
def raw() -> Iterator[RawBench]:
    """A connection that has just been accepted, without a byte."""
    made = RawBench()
    yield made
    made.listener.close()
    made.raw.close()


class TestHandshakes:
    @pytest.mark.threat("http", "handshakes that do not end")
    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
    def test_they_have_a_deadline(self, raw: RawBench, share: float) -> None:
        """However far a handshake has come, and whatever trickles in, it ends with the time of a request."""
        hello = Half().hello()
        sent = hello[: int(share * len(hello))]
        raw.send(sent)
        raw.pass_(5)
        raw.send(hello[len(sent) : len(sent) + 1])
        raw.pass_(4.9)
        assert raw.is_open
        raw.pass_(0.1)
        assert not raw.is_open

    @pytest.mark.threat("fair shares", "thousands of connections")
    def test_they_make_room_for_others(self, raw: RawBench) -> None:
        """One that has begun cannot begin again with another connection, so it is ended and not parked."""
        more = [raw.connect("192.0.2.7") for _ in range(3)]
        raw.send(Half().hello()[:100])
        acceptor = raw.listener._acceptor
        for _ in more:
            assert acceptor._end_largest("192.0.2.8")
        assert raw.connection.is_closed
        assert acceptor.waiting == 2  # of which nothing has come: they lose only time
        for client in more:
            client.socket.close()

    def test_a_stop_waits_for_none_that_asks_for_nothing(self, raw: RawBench) -> None:
        """Who is connected and asks for nothing is let go of after its grace, handshake or not."""
        Half().shake(raw.raw, raw.go)
        raw.retire()
        assert raw.is_open
        raw.time.now += GRACE
        raw.retire()
        assert not raw.is_open

    def test_the_time_of_a_request_begins_with_its_own_first_byte(self, raw: RawBench) -> None:
        """A client whose handshake was slow may be as slow with its request."""
        half = Half()
        raw.pass_(9)
        half.shake(raw.raw, raw.go)
        half.tls.write(post()[:5])
        raw.send(half.outgoing.read())
        raw.pass_(9)
        half.tls.write(post()[5:])
        raw.send(half.outgoing.read())
        half.incoming.write(raw.raw.recv(65536))
        assert half.tls.read(12) == b"HTTP/1.1 200"

    def test_old_versions(self, raw: RawBench) -> None:
        """A client of TLS 1.1 gets an alert, the operator the reason, and the address a refusal."""
        hello = bytearray(Half(version=ssl.TLSVersion.TLSv1_2).hello())
        assert hello[9:11] == b"\x03\x03"
        hello[9:11] = b"\x03\x02"
        raw.send(bytes(hello))
        assert raw.raw.recv(7)[:1] == b"\x15"  # an alert
        assert not raw.is_open
        (reason,) = raw.refusals
        assert reason.startswith("the TLS handshake has failed: ")
        assert raw.listener._refusals.total() == 1

    @pytest.mark.threat("http", "handshakes that do not end")
    def test_one_that_is_too_long(self, raw: RawBench) -> None:
        """A handshake of which more and more comes is ended, with what is kept of it."""
        record = b"\x16\x03\x01\x40\x00" + b"\x01\x01\xf0\x00" + bytes(0x4000 - 4)
        for _ in range(4):
            if raw.is_open:
                raw.send(record)
        assert not raw.is_open

    @pytest.mark.parametrize(
        "data", [b"\x00" * 100, b"\x80\x2e\x01\x03\x01" + bytes(50), b"\x16\x03\x01\x00\x00"]
    )
    def test_what_is_neither(self, raw: RawBench, data: bytes) -> None:
        """Bytes that are neither TLS nor HTTP end the connection, at its deadline at the latest."""
        raw.send(data)
        raw.pass_(10)
        assert not raw.is_open
        assert raw.application.begun == []

    def test_who_goes_away_within_it(self, raw: RawBench) -> None:
        """It counts as a refusal: it has cost as much."""
        raw.send(Half().hello())
        raw.client.finish()
        raw.go()
        assert not raw.is_open
        assert raw.listener._refusals.total() == 1


class TestPlainHttp:
    def test_it_is_told(self, raw: RawBench) -> None:
        """Plain HTTP is answered in plain HTTP, and what follows is not looked at."""
        raw.send(post("/a", b"x"))
        assert raw.client.answer()[0] == "400"
        assert raw.refusals == ["this port speaks HTTPS, not plain HTTP: use https://"]
        assert raw.application.begun == []
        raw.send(post("/b"))
        raw.client.finish()
        raw.go()
        assert not raw.is_open


class TestRecords:
    def test_nothing_decrypted_is_left(self, raw: RawBench) -> None:
        """Many requests in one segment, and one in many records, are all answered."""
        half = Half()
        half.shake(raw.raw, raw.go)
        for _ in range(50):
            half.tls.write(post("/many"))
        for byte in post("/slow", b"body"):
            half.tls.write(bytes([byte]))
        raw.send(half.outgoing.read())
        assert [each.target for each in raw.application.running] == ["/many"] * 50 + ["/slow"]
        assert raw.application.running[-1].body == b"body"

    def test_a_broken_record_ends_the_connection(self, raw: RawBench) -> None:
        """Bytes that were changed on their way get an alert, and nobody sees them."""
        half = Half()
        half.shake(raw.raw, raw.go)
        half.tls.write(post())
        data = bytearray(half.outgoing.read())
        data[-1] ^= 1
        raw.send(bytes(data))
        assert not raw.is_open
        assert raw.application.begun == []

    @pytest.mark.threat("http", "handshakes that do not end")
    def test_a_client_that_asks_for_new_keys_and_does_not_read(self, raw: RawBench) -> None:
        """What waits for a client that does not read is bounded, whatever it makes this end say."""
        half = Half()
        half.shake(raw.raw, raw.go)
        channel = raw.connection.channel
        channel._rest = memoryview(bytes(10_000_000))
        half.tls.write(b"P")
        raw.raw.sendall(half.outgoing.read())
        with pytest.raises(OSError, match="buffer space"):
            channel.receive()

    def test_what_waits_is_sent_while_a_request_is_read(self, raw: RawBench) -> None:
        """Where the kernel does not take all of what TLS itself says, the listener waits for room."""
        half = Half()
        half.shake(raw.raw, raw.go)
        raw.connection.channel._rest = memoryview(bytes(10))
        raw.listener._watch(raw.connection)
        watched = [raw.connection.watched]
        raw.go()
        watched.append(raw.connection.watched)
        assert raw.connection.channel.pending == 0
        assert watched == [Readiness.READABLE_OR_WRITABLE, Readiness.READABLE]

    def test_large_answers(self, raw: RawBench) -> None:
        """An answer that the kernel does not take at once comes whole."""
        half = Half()
        half.shake(raw.raw, raw.go)
        raw.application.on_run = lambda exchange: exchange.answer(response("200", BIG))
        half.tls.write(post())
        raw.raw.sendall(half.outgoing.read())
        got = b""
        while len(got) < len(response("200", BIG)):
            raw.go()
            half.incoming.write(raw.raw.recv(1 << 20))
            while True:
                try:
                    got += half.tls.read(1 << 16)
                except ssl.SSLWantReadError:
                    break
        assert got == response("200", BIG)

    def test_the_end_is_announced(self, raw: RawBench) -> None:
        """A connection that is closed says so (RFC 8446 section 6.1), whoever has ended it."""
        half = Half()
        half.shake(raw.raw, raw.go)
        raw.pass_(10)
        half.incoming.write(raw.raw.recv(65536))
        assert half.tls.read(1) == b""
        assert raw.raw.recv(1) == b""

    def test_an_answer_by_another_thread(self, raw: RawBench) -> None:
        """It may come while the listener waits for nothing but a hangup."""
        half = Half()
        half.shake(raw.raw, raw.go)
        raw.application.on_run = later
        half.tls.write(post("/later"))
        raw.send(half.outgoing.read())
        reply(raw.application.running[0])
        half.incoming.write(raw.raw.recv(65536))
        assert b"/later" in half.tls.read(65536)


class TestClientCertificates:
    @pytest.fixture
    def authority(self) -> ClientAuthority:
        """Who signs them."""
        return ClientAuthority()

    @pytest.mark.parametrize("shown", [True, False])
    def test_what_was_shown_is_known(self, authority: ClientAuthority, tmp_path: Path, shown: bool) -> None:
        """A verified certificate is known to whoever answers; a client may have none."""
        authority.write(tmp_path / "client.pem", "a.example.org")
        bench = RawBench(quiet_tls(authority.pem))
        half = Half(chain=tmp_path / "client.pem" if shown else None)
        half.shake(bench.raw, bench.go)
        half.tls.write(post())
        bench.send(half.outgoing.read())
        found = bench.application.running[0].peer_certificate
        text = (tmp_path / "client.pem").read_text()
        assert found == (ssl.PEM_cert_to_DER_cert(text[: text.index("-----BEGIN PRIV")]) if shown else None)
        bench.listener.close()
        bench.raw.close()

    def test_a_stranger_is_sent_away(self, authority: ClientAuthority, tmp_path: Path) -> None:
        """One that nobody known has signed ends the connection, and no request is seen."""
        ClientAuthority().write(tmp_path / "client.pem", "a.example.org")
        bench = RawBench(quiet_tls(authority.pem))
        half = Half(chain=tmp_path / "client.pem")
        half.shake(bench.raw, bench.go)
        assert not bench.is_open
        assert "the client certificate is not accepted" in bench.refusals[0]
        bench.listener.close()
        bench.raw.close()


def test_a_context_is_replaced_for_new_connections(tmp_path: Path) -> None:
    """Who has begun goes on with the certificate of before, and who comes later gets the new one."""
    tls = quiet_tls()
    chain, key = tmp_path / "chain", tmp_path / "key"
    make_tls_certificate(chain, key)
    other = TlsMaterial.parse(chain.read_bytes(), key.read_bytes())
    ours, theirs = socket.socketpair()
    first = TlsSocket(ours, lambda: tls.context)
    halves = [Half(), Half()]
    theirs.sendall(halves[0].hello())
    assert first.receive() is None
    tls.context = server_context(other)
    ours2, theirs2 = socket.socketpair()
    second = tls(ours2)
    theirs2.sendall(halves[1].hello())
    assert second.receive() is None
    for half, sock, shown in ((halves[0], theirs, tls_material()), (halves[1], theirs2, other)):
        half.incoming.write(sock.recv(65536))
        half.tls.do_handshake()
        der = half.tls.getpeercert(binary_form=True)
        assert hashlib.sha256(der or b"").hexdigest() == shown.fingerprint
    for channel in (first, second):
        channel.close()
    theirs.close()
    theirs2.close()


class TestMaterial:
    def test_what_cannot_be_used(self) -> None:
        """The words say which of both is wrong, and quote neither."""
        good = tls_material()
        key = ec.generate_private_key(ec.SECP256R1())
        formats = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        other = key.private_bytes(*formats, serialization.NoEncryption())
        locked = key.private_bytes(*formats, serialization.BestAvailableEncryption(b"x"))
        for chain, private, words in (
            (b"nothing", good.key, "holds no certificate"),
            (good.chain, b"nothing", "holds no private key"),
            (good.chain, locked, "remove its passphrase"),
            (good.chain, other, "is not that of the first certificate"),
        ):
            with pytest.raises(ValueError, match=words):
                TlsMaterial.parse(chain, private)
        with pytest.raises(ValueError, match="holds no certificates in PEM"):
            server_context(good, b"nothing")

    def test_nothing_shows_the_key(self) -> None:
        """No repr has it."""
        assert "PRIVATE" not in repr(tls_material())

    def test_what_is_spoken(self) -> None:
        """TLS 1.2 or newer; no renegotiation, no compression; nothing is resumed where certificates count."""
        context = server_context(tls_material())
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION
        asking = server_context(tls_material(), ClientAuthority().pem)
        assert (asking.verify_mode, asking.num_tickets) == (ssl.CERT_OPTIONAL, 0)
        assert asking.options & ssl.OP_NO_TICKET
