"""Bodies that come in chunks, as RFC 9112 section 7.1 has them."""

from __future__ import annotations

import pytest

from acmems.exceptions import HttpRefusal, PayloadToLarge
from acmems.net.http.chunks import ChunkedBody

MOST = 30


def taken(*packets: bytes) -> tuple[bytes | None, bytes]:
    """Return the body that some packets make, None if it is incomplete, and what is left of them."""
    body, buffer = ChunkedBody(MOST), bytearray()
    is_whole = False
    for packet in packets:
        buffer += packet
        is_whole = body.take(buffer)
    return body.content if is_whole else None, bytes(buffer)


@pytest.mark.threat("http", "chunked bodies")
@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
        (b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b'5;name=value;other="text"\r\nhello\r\n0;last\r\n\r\n', b"hello"),
        (b"5 ; name\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5\r\n\r\n0\r\n\r\n0\r\n\r\n", b"\r\n0\r\n"),
        (b"5\r\nhello\r\n0\r\nChecksum: x\r\nEmpty:\r\n\r\n", b"hello"),
    ],
)
def test_bodies_are_put_together(data: bytes, content: bytes) -> None:
    """Chunks become a body, however they are cut; what follows is left alone."""
    assert taken(data + b"POST /next") == (content, b"POST /next")
    assert taken(*(data[at : at + 1] for at in range(len(data)))) == (content, b"")
    assert taken(data[:-1])[0] is None


@pytest.mark.threat("http", "chunked bodies")
@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-5\r\n",
        b"+5\r\n",
        b"0x5\r\n",
        b"5_0\r\n",
        b" 5\r\n",
        b"5\n",
        b"5\rhello\r\n",
        b"5;a\rb\r\n",
        b"5;\0\r\n",
        b"000000005\r\n",
        b"5\r\nhelloworld",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nno trailer\r\n\r\n",
        b"5\r\nhello\r\n0\r\nA : b\r\n\r\n",
        b"5\r\nhello\r\n0\r\n folded\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5;" + b"x" * 2000,
        b"1" * 2000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    """Whatever another parser could read otherwise is 400, however it is cut."""
    for packets in ([data], [data[at : at + 1] for at in range(len(data))]):
        with pytest.raises(HttpRefusal) as caught:
            taken(*packets)
        assert caught.value.status == 400


@pytest.mark.threat("http", "chunked bodies")
@pytest.mark.parametrize("data", [b"1f\r\n", b"ffffffff\r\n", b"1e\r\n" + b"x" * 30 + b"\r\n1\r\n"])
def test_too_much_is_refused_by_its_announcement(data: bytes) -> None:
    """A chunk that makes the body too long is refused before it comes: 413."""
    with pytest.raises(PayloadToLarge) as caught:
        taken(data)
    assert caught.value.allowed == MOST


@pytest.mark.threat("http", "chunked bodies")
@pytest.mark.parametrize("line", [b"1;" + b"x" * 1000 + b"\r\na\r\n", b"0\r\n" + b"A: b\r\n" * 5000])
def test_what_stands_around_chunks_is_bounded(line: bytes) -> None:
    """A body of which nearly everything is extensions or trailers is refused."""
    with pytest.raises(HttpRefusal) as caught:
        taken(*[line] * 25)
    assert caught.value.status == 400
