"""What OpenSSL says, as a person reads it."""

from __future__ import annotations

import ssl

import pytest

from acmems.system.openssl import words_of


def plain_http() -> ssl.SSLError:
    """Return what a server meets that a client asks without TLS."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    incoming = ssl.MemoryBIO()
    incoming.write(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError) as caught:
        server.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return caught.value


def test_what_has_a_name() -> None:
    """It is the name, as words."""
    assert words_of(plain_http()) == "http request"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("[SSL] tlsv1 alert No_application protocol (_ssl.c:1006)", "tlsv1 alert no application protocol"),
        ("[SSL] (_ssl.c:1006)", "no reason is known"),
        ("", "no reason is known"),
    ],
)
def test_what_has_none(said: str, words: str) -> None:
    """It is what OpenSSL says, without where Python has met it."""
    error = ssl.SSLError(1, said)
    error.reason = ""
    assert words_of(error) == words
