"""What is read from the first message of a TLS client."""

from __future__ import annotations

import ssl
import struct

import pytest

from acmems.net.tlsalpn.hello import LARGEST, Hello, read_hello


def vector(octets: int, data: bytes) -> bytes:
    return len(data).to_bytes(octets) + data


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">H", kind) + vector(2, data)


def hello(*extensions: bytes, after: bytes = b"") -> bytes:
    """Return a ClientHello message with these extensions."""
    body = b"\3\3" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0")
    return b"\1" + vector(3, body + vector(2, b"".join(extensions)) + after)


def record(data: bytes) -> bytes:
    return b"\x16\3\1" + vector(2, data)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def protocols(*names: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, name) for name in names)))


NAME = server_name(b"www.example.org")
ALPN = protocols(b"acme-tls/1")


def of_openssl(name: str | None, *names: str) -> bytes:
    """Return what OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if names:
        context.set_alpn_protocols(list(names))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_openssl_is_understood() -> None:
    """Name and protocols are found in what OpenSSL sends; without them they are empty."""
    data = of_openssl("WWW.Example.org", "acme-tls/1", "h2")
    assert read_hello(data) == Hello("www.example.org", (b"acme-tls/1", b"h2"))
    assert read_hello(of_openssl(None)) == Hello("", ())


def test_every_part_waits_for_the_rest() -> None:
    """However little of a ClientHello has come, it is neither read nor refused."""
    data = of_openssl("www.example.org", "acme-tls/1")
    assert {read_hello(data[:length]) for length in range(len(data))} == {None}


def test_records_may_cut_anywhere() -> None:
    """A message that comes in two records is the same message."""
    message = hello(NAME, ALPN)
    found = {read_hello(record(message[:cut]) + record(message[cut:])) for cut in range(1, len(message))}
    assert found == {Hello("www.example.org", (b"acme-tls/1",))}


def test_what_follows_in_later_records_is_left_alone() -> None:
    """Once the message is complete, records behind it are not looked at."""
    assert read_hello(record(hello(NAME, ALPN)) + b"\x17\3\3\0\1x") == Hello(
        "www.example.org", (b"acme-tls/1",)
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "is not TLS"),
        (b"\x16\2", "is not TLS"),
        (b"\x15\3\3\0\2\2\0", "is not TLS"),
        (record(b""), "impossible length"),
        (b"\x16\3\1\xff\xff", "impossible length"),
        (record(b"\2\0\0\0"), "does not begin with a ClientHello"),
        (record(b"\1\xff\xff\xff"), "too long"),
        (b"\x16" * (LARGEST + 1), "too long"),
        (b"".join(record(bytes([octet])) for octet in hello(NAME, ALPN)), "too many records"),
        (record(hello(NAME) + b"x"), "behind the ClientHello"),
        (record(hello(NAME, after=b"x")), "behind its extensions"),
        (record(b"\1\0\0\x05abcde"), "cut off"),
        (record(hello(NAME, NAME)), "twice"),
        (record(hello(extension(0, b""))), "cut off"),
        (record(hello(server_name())), "cut off"),
        (record(hello(server_name(b""))), "that is none"),
        (record(hello(server_name(b"\xff"))), "that is none"),
        (record(hello(server_name(b"a", kind=1))), "unknown kind"),
        (record(hello(server_name(b"a", b"b"))), "several server names"),
        (record(hello(extension(16, vector(2, b"\5h2")))), "cut off"),
        (record(hello(extension(16, vector(2, b"") + b"x"))), "behind a list"),
    ],
)
def test_what_is_wrong_is_refused(data: bytes, reason: str) -> None:
    """Each way in which bytes are no ClientHello has its reason."""
    with pytest.raises(ValueError, match=reason):
        read_hello(data)


def test_a_client_without_extensions_asks_for_nothing() -> None:
    """A ClientHello that ends before its extensions is one without name and protocols."""
    body = b"\3\3" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0")
    assert read_hello(record(b"\1" + vector(3, body))) == Hello("", ())
