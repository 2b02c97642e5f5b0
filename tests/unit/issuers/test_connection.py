"""HTTPS to one CA, against a server that does exactly what a test says."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from tests.steps import PATIENCE, DirectLoop, LoopTime, begin, wait_for
from tests.tls_server import (
    OK,
    Behaviour,
    Serve,
    Server,
    answering,
    answering_once,
    ask,
    asking,
    breaking_off,
    read_request,
)

from acmems.exceptions import CAProtocolError
from acmems.issuers.acme.session.connection import Failure
from acmems.issuers.acme.session.origin import Origin
from acmems.issuers.acme.session.transport import Transport
from acmems.system.clock import NEVER, SYSTEM

pytestmark = pytest.mark.timeout(30)

IDLE_LOOP = DirectLoop(SYSTEM)


class TestTls:
    def test_a_certificate_of_nobody_is_not_trusted(self, serve: Serve) -> None:
        """Without its anchor a CA's certificate is refused: nothing is sent, and no try will help."""
        server = serve()
        with pytest.raises(Failure, match=r"not trusted.*ca-file") as failed:
            ask(server.transport(ca_file=None), server.url)
        assert (failed.value.sent, failed.value.final) == (False, True)
        assert server.requests == []

    def test_a_certificate_of_another_name_is_not_trusted(self, serve: Serve) -> None:
        """A trusted certificate counts for its own names only."""
        server = serve()
        other = server.listen_on("127.0.0.2")
        with pytest.raises(Failure, match="not trusted"):
            ask(server.transport(origin=other), f"{other}/x")

    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_variables_of_other_programs_do_not_matter(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
    ) -> None:
        """What requests or curl trust is not what acmems trusts."""
        server = serve()
        monkeypatch.setenv(variable, str(server.ca_file))
        with pytest.raises(Failure, match="not trusted"):
            ask(server.transport(ca_file=None), server.url)
        monkeypatch.setenv(variable, str(tmp_path / "missing"))
        assert ask(server.transport(), server.url).status == 200

    @pytest.mark.parametrize("content", [None, b"", b"no PEM"])
    def test_unusable_anchors_are_an_error_at_once(self, tmp_path: Path, content: bytes | None) -> None:
        """A file without certificates is named in the error, before anything is sent."""
        file = tmp_path / "anchors.pem"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ValueError, match=r"anchors\.pem"):
            Transport(Origin("ca.example", 443), IDLE_LOOP, ca_file=file)


def stall(server: Server, connection: socket.socket) -> None:
    """Read the request, then say nothing."""
    server.requests.append(read_request(connection))
    server.closing.wait()


def stall_at_once(server: Server, _: socket.socket) -> None:
    """Take the connection, and read nothing."""
    server.closing.wait()


def drip(head: bytes) -> Behaviour:
    """Answer with a beginning, then with a byte now and then, without end."""

    def behave(server: Server, connection: socket.socket) -> None:
        server.requests.append(read_request(connection))
        connection.sendall(head)
        while not server.closing.wait(0.01):
            connection.sendall(b" ")

    return behave


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
KNOWN = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"
LATE = "no answer in time"
BROKEN = "the connection broke"

LOST: dict[str, tuple[Behaviour, str]] = {
    "no answer": (breaking_off(b""), BROKEN),
    "no answer in good order": (answering_once(b""), "without response"),
    "stall": (stall, LATE),
    "dripping header": (drip(b"HTTP/1.1 200 OK\r\nX: "), LATE),
    "dripping body": (drip(KNOWN), LATE),
    "half a status line": (breaking_off(b"HTTP/1.1 2"), BROKEN),
    "half a head": (breaking_off(b"HTTP/1.1 200 OK\r\nContent-Le"), BROKEN),
    "half a body": (breaking_off(KNOWN + b"{"), BROKEN),
    "half a body in good order": (answering_once(KNOWN + b"{"), "cut short"),
    "half a body until the end": (breaking_off(b"HTTP/1.1 200 OK\r\n\r\n{"), BROKEN),
    "half a chunk": (answering_once(CHUNKED + b"9\r\n{"), "cut short"),
    "bad chunk": (answering_once(CHUNKED + b"x\r\n{"), "not HTTP"),
    "no HTTP": (answering_once(b"nonsense\r\n\r\n"), "not HTTP"),
    "endless headers": (answering_once(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000), "too long"),
    "long header": (answering_once(b"HTTP/1.1 200 OK\r\na: " + b"b" * 700_000), "too long"),
}


class TestFailures:
    @pytest.mark.parametrize("case", LOST)
    def test_an_answer_that_does_not_come_whole_is_lost(
        self, serve: Serve, time: LoopTime, case: str
    ) -> None:
        """What breaks after the request was sent may have been done; it breaks in time, and only once."""
        behave, reason = LOST[case]
        server = serve(behave)
        transport = server.transport(loop=time.loop)
        request = begin(time.loop, asking(transport, server.url, time.loop.clock.deadline(20)))
        if reason == LATE:
            wait_for(lambda: bool(server.requests))
            time.move(20)
        failure = request.exception(PATIENCE)
        assert isinstance(failure, Failure)
        assert reason in str(failure)
        assert (failure.sent, failure.final) == (True, False)
        assert str(failure).startswith(f"the CA at {server.origin}: ")
        server.behave = answering(OK)
        assert ask(transport, server.url).body == b"ok"

    def test_a_request_has_a_limit_of_its_own(self, serve: Serve) -> None:
        """Where no deadline is near, a silent CA holds a thread for as long as one request may take."""
        server = serve(stall)
        with pytest.raises(Failure, match=LATE):
            ask(server.transport(try_limit=0.3), server.url, NEVER)

    def test_a_silent_handshake_is_over_in_time(self, serve: Serve) -> None:
        """Before the handshake is done nothing was sent."""
        server = serve(stall_at_once, tls=False)
        with pytest.raises(Failure, match="no answer in time") as failed:
            ask(server.transport(try_limit=0.3), server.url)
        assert not failed.value.sent

    def test_a_broken_handshake_sends_nothing(self, serve: Serve) -> None:
        """A server that does not speak TLS gets no request."""
        server = serve(
            lambda _, connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), tls=False
        )
        with pytest.raises(Failure) as failed:
            ask(server.transport(), server.url)
        assert (failed.value.sent, failed.value.final) == (False, False)

    def test_a_port_that_nobody_listens_on_got_nothing(self, serve: Serve) -> None:
        """A refused connection is a request not sent, and says so in a person's words."""
        server = serve()
        server.stop_listening()
        with pytest.raises(
            Failure, match=r"^the CA at https://127\.0\.0\.1:\d+: Connection refused$"
        ) as failed:
            ask(server.transport(), server.url)
        assert not failed.value.sent

    @pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
    def test_a_name_that_is_none(self, serve: Serve, host: str) -> None:
        """A host that cannot be looked up is a request not sent, and no bug."""
        origin = Origin(host, 443)
        with pytest.raises(Failure, match="no host name") as failed:
            ask(serve().transport(origin=origin), f"{origin}/x")
        assert (failed.value.sent, failed.value.final) == (False, False)

    def test_one_of_several_addresses(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a CA does not answer at one of its addresses the next is tried."""
        server = serve()
        port = server.origin.port
        free = socket.create_server(("127.0.0.1", 0))
        refusing = ("127.0.0.1", free.getsockname()[1])
        free.close()
        found: list[tuple[str, int]] = [refusing, ("127.0.0.1", port), ("127.0.0.1", 1)]
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", place) for place in found]
        )
        assert ask(server.transport(), server.url).body == b"ok"
        del found[1:]
        with pytest.raises(Failure, match="refused"):
            ask(server.transport(), server.url)
        found.clear()
        with pytest.raises(Failure, match="no address"):
            ask(server.transport(), server.url)

    def test_a_passed_deadline_sends_nothing(self, serve: Serve) -> None:
        """Without time left, nothing is sent on a kept connection either."""
        server = serve()
        transport = server.transport()
        ask(transport, server.url)
        late = SYSTEM.deadline(0)
        with pytest.raises(Failure, match="no answer in time") as failed:
            server.loop.run(
                transport.use(
                    NEVER,
                    lambda kept: kept.exchange("GET", server.url, headers={}, deadline=late, max_size=9),
                )
            )
        assert len(server.requests) == 1
        assert not failed.value.sent


class TestLimits:
    @pytest.mark.threat("ca", "broken answers")
    @pytest.mark.parametrize(
        "head",
        [b"Content-Length: 1001\r\n\r\n", b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n"],
        ids=["known length", "until the end", "chunked"],
    )
    def test_a_body_over_the_limit_is_refused(self, serve: Serve, head: bytes) -> None:
        """No answer takes more memory than allowed, whatever it says of its length."""
        server = serve(answering_once(b"HTTP/1.1 200 OK\r\n" + head + b"x" * 1001 + b"\r\n0\r\n\r\n"))
        with pytest.raises(CAProtocolError, match="longer than 1000 bytes"):
            ask(server.transport(), server.url)

    @pytest.mark.parametrize(
        ("head", "tail"),
        [
            (b"Content-Length: 1000\r\n\r\n", b""),
            (b"\r\n", b""),
            (b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n", b"\r\n0\r\n\r\n"),
        ],
        ids=["known length", "until the end", "chunked"],
    )
    def test_a_body_at_the_limit_is_read(self, serve: Serve, head: bytes, tail: bytes) -> None:
        """The limit itself is allowed."""
        server = serve(answering_once(b"HTTP/1.1 200 OK\r\n" + head + b"x" * 1000 + tail))
        assert ask(server.transport(), server.url).body == b"x" * 1000

    def test_what_follows_a_refused_answer_is_not_the_next_one(self, serve: Serve) -> None:
        """After an answer that was not read to its end, the connection is given up."""
        server = serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000))
        transport = server.transport()
        for _ in range(2):
            with pytest.raises(CAProtocolError, match="longer"):
                ask(transport, server.url)
        assert server.connections == 2

    @pytest.mark.parametrize("encoding", [b"gzip", b"br", b"GZIP, gzip"])
    def test_a_compressed_answer_is_refused(self, serve: Serve, encoding: bytes) -> None:
        """Nobody asked for an encoding, so that no answer can blow up in memory."""
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: " + encoding + b"\r\nContent-Length: 0\r\n\r\n"
        server = serve(answering_once(head))
        with pytest.raises(CAProtocolError, match="compressed"):
            ask(server.transport(), server.url)

    def test_a_head_needs_no_body(self, serve: Serve) -> None:
        """The length that an answer to HEAD names is not waited for."""
        server = serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nReplay-Nonce: a\r\n\r\n"))
        transport = server.transport()
        answers = [ask(transport, server.url, method="HEAD", max_size=0) for _ in range(2)]
        assert [answer.headers.field("Replay-Nonce") for answer in answers] == ["a", "a"]
        assert server.connections == 1

    def test_an_early_answer_is_read_past(self, serve: Serve) -> None:
        """What a proxy says before the answer, such as 103, is not the answer to this request or the next."""
        server = serve(answering(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK))
        transport = server.transport()
        assert [ask(transport, server.url).body for _ in range(3)] == [b"ok"] * 3
        assert server.connections == 1


class TestBytes:
    """Requests and responses of every size, however the bytes come."""

    def test_a_large_request_is_sent_whole(self, serve: Serve) -> None:
        """What does not fit into the kernel's buffers is sent as the CA reads it."""
        server = serve()
        body = bytes(range(256)) * 40_000
        assert ask(server.transport(), server.url, method="POST", body=body).body == b"ok"
        assert server.requests[0].endswith(b"\r\n\r\n" + body)

    def test_a_large_request_to_one_who_does_not_read(self, serve: Serve, time: LoopTime) -> None:
        """A CA that does not take the request is given up in time; it may have seen the beginning."""
        began = threading.Event()

        def behave(server: Server, connection: socket.socket) -> None:
            began.set()  # the handshake is over
            stall_at_once(server, connection)

        server = serve(behave)
        transport = server.transport(loop=time.loop, try_limit=9.0)
        request = begin(time.loop, asking(transport, server.url, method="POST", body=b"x" * 10_000_000))
        assert began.wait(PATIENCE)
        time.move(9.0)
        failure = request.exception(PATIENCE)
        assert isinstance(failure, Failure)
        assert LATE in str(failure)
        assert failure.sent

    @pytest.mark.parametrize("size", [1, 1000, 16 * 1024, 100_000, 900_000])
    def test_a_response_in_pieces(self, serve: Serve, size: int) -> None:
        """A response is the same in one TLS record, in several, and byte by byte."""
        data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size

        def behave(server: Server, connection: socket.socket) -> None:
            while read_request(connection):
                step = max(1, len(data) // 50)
                for start in range(0, len(data), step):
                    connection.sendall(data[start : start + step])

        server = serve(behave)
        transport = server.transport()
        for _ in range(2):
            assert ask(transport, server.url, max_size=size).body == b"x" * size
        assert server.connections == 1

    def test_bytes_that_nobody_asked_for(self, serve: Serve) -> None:
        """What came in one packet with a response is not taken for the response to the next request."""

        def behave(server: Server, connection: socket.socket) -> None:
            while request := read_request(connection):
                server.requests.append(request)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                connection.sendall(OK)
                connection.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

        server = serve(behave)
        transport = server.transport()
        assert [ask(transport, server.url).status for _ in range(5)] == [200] * 5
        assert len(server.requests) == 5
