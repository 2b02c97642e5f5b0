"""Whatever comes in a datagram, the name server stays up and its answers stay small."""

from __future__ import annotations

import dns.message
import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmems.dns.server import MOST_UDP, NameServer, Zone, answer
from acmems.dns.server.answer import truncated

ORIGIN = dns.name.from_text("acme.example.org")
ZONE = Zone(ORIGIN, [NameServer(dns.name.from_text("ns.example.org"))])
ZONE.add(dns.name.from_text("www", ORIGIN), "value", lambda: None)
QUERY = dns.message.make_query("www.acme.example.org", "TXT", use_edns=0).to_wire()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a good query with some bytes changed, cut, or added."""
    data = bytearray(QUERY)
    for _ in range(draw(st.integers(1, 6))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=20))


@pytest.mark.threat("proving", "hostile queries to the name server")
@given(st.one_of(st.binary(max_size=600), damaged()))
def test_any_bytes(data: bytes) -> None:
    """No bytes make it raise; an answer keeps the ID and its limit, and answers are never answered."""
    for reply in (answer(data, ZONE), truncated(data)):
        if reply is None:
            continue
        assert reply[:2] == data[:2]
        assert len(reply) <= MOST_UDP
        assert reply[2] & 0x80
        assert answer(reply, ZONE) is None
