"""What holds for whatever bytes a client sends."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from acmems.exceptions import HttpRefusal, PayloadToLarge
from acmems.net.http.framing import HeadLimits, RequestReader

LIMITS = HeadLimits(size=400, target=60, headers=6)
BODY = 40  # bytes that are taken at most

CHUNKED = (
    b"POST /sign HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nA: b\r\n\r\n"
)
GOOD = (
    b"POST /sign HTTP/1.1\r\nHost: a.example.org\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /.well-known/acme-challenge/x HTTP/1.0\r\n\r\n",
    CHUNKED,
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nX: y\r\nContent-Length: 0\r\n\r\n",
)
WORDS = """
    GET POST HEAD PRI CONNECT / /sign HTTP/1.1 HTTP/1.0 HTTP/2.0 Host: Content-Length: Transfer-Encoding:
    chunked Connection: close keep-alive upgrade Upgrade: Expect: 100-continue a.example.org 3 0003 -1
"""
MARKS = [b"\r\n", b"\r\n\r\n", b"\r", b"\n", b" ", b"\t", b":", b",", b"\0", b"\x16", b"\xff", b"x" * 70]
PIECES = st.sampled_from([*GOOD, *MARKS, b"\r\n", *(word.encode() for word in WORDS.split())])
LIKELY = st.lists(PIECES, max_size=30).map(b"".join)
# A good request with some bytes replaced.
BENT = st.tuples(
    st.sampled_from(GOOD),
    st.integers(0, 100),
    st.integers(0, 2),
    st.sampled_from([b"", b" ", b"\n"]) | PIECES,
).map(lambda parts: parts[0][: parts[1]] + parts[3] + parts[0][parts[1] + parts[2] :])
DATA = st.binary() | LIKELY | BENT | st.lists(BENT, max_size=3).map(b"".join)


def outcome(packets: list[bytes]) -> list[object]:
    """Return what these packets come to: every request, the refusal that ends them, and what is left."""
    reader = RequestReader(LIMITS)
    found: list[object] = []
    head = None
    try:
        for packet in packets:
            reader.feed(packet)
            while head is not None or (head := reader.head()) is not None:
                if head.length > BODY:
                    return [*found, "too large", head.length]
                body = reader.chunked_body(BODY) if head.is_chunked else reader.body(head.length)
                if body is None:
                    break
                fields = (head.method, head.target, head.version, head.keep_alive, head.expects_continue)
                found.append((*fields, head.headers.items(), body))
                head = None
    except HttpRefusal as refusal:
        return [*found, refusal.status, refusal.reason]
    except PayloadToLarge as refusal:
        return [*found, "too large", refusal.size]
    return [*found, reader.empty]


@given(DATA, st.lists(st.integers(1, 600), max_size=8))
@example(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", [])
@example(b"\r", [])
@example(GOOD[0][:23] + b"X: y\r\n" * 6 + b"Y\x89: z\r\n\r\n", [])
def test_packets_never_change_the_outcome(data: bytes, cuts: list[int]) -> None:
    """Any bytes are requests or refusals, nothing else is raised, and how they are cut changes nothing."""
    whole = outcome([data])
    ends = [0, *sorted(cuts), max(len(data), *cuts, 0)]
    assert outcome([data[start:end] for start, end in itertools.pairwise(ends)]) == whole
    assert outcome([data[at : at + 1] for at in range(len(data))]) == (whole if data else [True])
