"""Answers out of bytes: whole or not, however they are cut."""

from __future__ import annotations

import pytest

from acmems.exceptions import CAProtocolError
from acmems.issuers.acme.session.reading import BrokenResponse, ResponseReader

URL = "https://ca.example/x"
KNOWN = b"HTTP/1.1 200 OK\r\nReplay-Nonce: a\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n"
UNTIL_END = b"HTTP/1.1 200 OK\r\n\r\nok"
CLOSING = b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
OLD = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


def read(*parts: bytes, bodiless: bool = False) -> ResponseReader:
    reader = ResponseReader(URL, 10, bodiless=bodiless)
    for part in parts:
        reader.feed(part)
    return reader


@pytest.mark.parametrize(
    ("data", "status", "body", "keeps"),
    [
        (KNOWN, 200, b"ok", True),
        (CHUNKED, 200, b"ok", True),
        (UNTIL_END, 200, b"ok", False),
        (CLOSING, 503, b"ok", False),
        (OLD, 200, b"ok", False),
        (EMPTY, 204, b"", True),
    ],
    ids=["known length", "chunked", "until the end", "closing", "HTTP/1.0", "empty"],
)
def test_answers(data: bytes, status: int, body: bytes, keeps: bool) -> None:
    """An answer is the same wherever it is cut, and tells whether the connection can be used again."""
    for cut in range(1, len(data)):
        reader = read(data[:cut], data[cut:])
        if data is UNTIL_END:
            assert not reader.complete
            reader.feed(b"")
        response = reader.response()
        assert (reader.complete, response.status, response.body, reader.keeps) == (True, status, body, keeps)
        assert response.headers.field("X") is None


@pytest.mark.parametrize("data", [KNOWN, CHUNKED, CLOSING])
def test_an_early_end(data: bytes) -> None:
    """Wherever an answer of known length ends too early, it is none."""
    for cut in range(len(data) - 1):
        reader = ResponseReader(URL, 10)
        if cut:
            reader.feed(data[:cut])
        with pytest.raises(BrokenResponse):
            reader.feed(b"")


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize("bodiless", [False, True])
@pytest.mark.parametrize("data", [KNOWN, CHUNKED, EMPTY])
def test_interim_answers_are_read_past(data: bytes, bodiless: bool) -> None:
    """However many 1xx come before an answer, nothing of them is in it (RFC 9110 section 15.2)."""
    head = data[: data.index(b"\r\n\r\n") + 4]
    whole = INTERIM + (head if bodiless else data)
    expected = read(head if bodiless else data, bodiless=bodiless)
    for cut in range(1, len(whole)):
        reader = read(whole[:cut], bodiless=bodiless)
        assert not reader.complete
        reader.feed(whole[cut:])
        assert (reader.complete, reader.keeps) == (True, True)
        assert reader.response().status == expected.response().status
        assert reader.response().body == expected.response().body
        assert reader.response().headers.field("X") is None


def test_interim_answers_alone_are_no_answer() -> None:
    """A connection that ends after a 1xx was cut short, and 1xx without end are too much."""
    with pytest.raises(BrokenResponse, match="cut short"):
        read(INTERIM, b"")
    with pytest.raises(BrokenResponse, match="too long"):
        read(*[INTERIM] * 1000)


@pytest.mark.parametrize("extra", [KNOWN, b"nonsense", b"HTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("data", [KNOWN, CLOSING])
def test_what_follows_is_nobodys(data: bytes, extra: bytes) -> None:
    """Bytes after an answer change nothing of it, and nobody reads on where they came from."""
    reader = read(data + extra)
    assert (reader.complete, reader.response().body, reader.keeps) == (True, b"ok", False)
    assert reader.response().status == read(data).response().status


@pytest.mark.parametrize(("field", "keeps"), [(b"", True), (b"Connection: close\r\n", False)])
def test_an_answer_to_head(field: bytes, keeps: bool) -> None:
    """An answer to a HEAD ends with its head, whatever length it names."""
    for length in (b"", b"Content-Length: 500\r\n"):
        reader = read(b"HTTP/1.1 200 OK\r\n" + length + field + b"\r\n", bodiless=True)
        assert (reader.complete, reader.response().body, reader.keeps) == (True, b"", keeps)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + KNOWN, "101"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nx", "101"),
        (KNOWN.replace(b"Replay-Nonce: a", b"Content-Encoding: gzip"), "compressed"),
        (KNOWN.replace(b"Length: 2\r\n\r\nok", b"Length: 11\r\n\r\n" + b"x" * 11), "longer than 10 bytes"),
    ],
    ids=["another protocol", "an upgrade", "compressed", "too long"],
)
def test_answers_that_nobody_wants(data: bytes, reason: str) -> None:
    """What nobody asked for is refused as soon as it shows."""
    with pytest.raises(CAProtocolError, match=reason):
        read(data)
