"""What holds for whatever bytes a client of tls-alpn-01 sends."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl

from hypothesis import given
from hypothesis import strategies as st

from acmems.net.listening import Listener
from acmems.net.tlsalpn import ChallengeCertificates, HandshakeService
from acmems.net.tlsalpn.hello import Hello, read_hello
from acmems.x509.identifiers import Identifier

NAME = Identifier.dns("www.example.org")


def first_flight(name: str, protocol: str) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols([protocol])
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


GOOD = (first_flight(NAME.value, "acme-tls/1"), first_flight("other.example.org", "h2"))
# A good message with some bytes replaced, cut off, or something behind it.
BENT = st.tuples(
    st.sampled_from(GOOD),
    st.integers(0, 600),
    st.integers(0, 4),
    st.binary(max_size=4),
    st.binary(max_size=9),
).map(lambda parts: parts[0][: parts[1]] + parts[3] + parts[0][parts[1] + parts[2] :] + parts[4])
DATA = st.binary() | BENT | BENT.map(lambda data: b"\x16\3\1" + len(data).to_bytes(2) + data)
SIZES = st.lists(st.integers(1, 600), max_size=8)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    cuts = [0, *itertools.accumulate(sizes), len(data)]
    return [piece for start, end in itertools.pairwise(cuts) if (piece := data[start:end])]


def outcome(data: bytes) -> Hello | str | None:
    try:
        return read_hello(data)
    except ValueError as error:
        return str(error)


@given(DATA)
def test_a_refusal_is_for_good(data: bytes) -> None:
    """Any bytes are a ClientHello, the beginning of one, or a ValueError that no further bytes take back."""
    outcomes = [outcome(data[:length]) for length in range(0, len(data) + 1, 7)]
    refused = [isinstance(one, str) for one in outcomes]
    assert refused == sorted(refused)


SHOWN = ChallengeCertificates()
TOLD: list[None] = []
LISTENER = Listener("tls", [], HandshakeService(SHOWN))
SHOWN.put(NAME, "token.thumbprint", lambda: TOLD.append(None))


@given(DATA, SIZES)
def test_a_connection_survives(data: bytes, sizes: list[int]) -> None:
    """Whatever comes in whatever pieces, nothing is raised, nobody is told, and the end closes it."""
    client, server = socket.socketpair()
    connection = LISTENER.admit(server, ("192.0.2.7", 4711))
    with client:
        for piece in pieces(data, sizes):
            with contextlib.suppress(BrokenPipeError):
                client.sendall(piece)
            if not connection.is_closed:
                connection.proceed()
    if not connection.is_closed:
        connection.proceed()
    assert connection.is_closed
    assert TOLD == []
