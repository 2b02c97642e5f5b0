"""What holds for whatever strangers answer to a validation: it is proof, or refused with a reason."""

from __future__ import annotations

import datetime
import hashlib

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given
from hypothesis import strategies as st

from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.http.answer import LONGEST_BODY, HttpAnswer
from acmems.frontends.acme.proving.http.url import HttpPorts, HttpUrl
from acmems.frontends.acme.proving.tls_alpn01 import certificate_fault
from acmems.net.tlsalpn.certificate import challenge_certificate
from acmems.x509.identifiers import named

KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
KEY_AUTHORIZATION = f"{'t' * 43}.{'k' * 43}"
PORTS = HttpPorts()
FIRST = HttpUrl.first(named("a.example.org"), "t" * 43, PORTS)
PROOF = challenge_certificate(
    named("a.example.org"), KEY_AUTHORIZATION, KEY, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
).public_bytes(Encoding.DER)
DIGEST = hashlib.sha256(KEY_AUTHORIZATION.encode()).digest()
GOOD_ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nok",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
)
VERSION_3 = b"\xa0\x03\x02\x01\x02"
_CHUNK = 4096


def check_answer(data: bytes) -> None:
    """See that bytes are an answer of bounded size, whose redirect leads to where one may, or are refused."""
    answer = HttpAnswer()
    try:
        for start in range(0, len(data), _CHUNK):
            if answer.is_enough:
                break
            answer.feed(data[start : start + _CHUNK])
        if not answer.is_enough:
            answer.feed(b"")
    except AcmeProblem:
        return
    assert answer.is_enough
    assert 200 <= answer.status <= 999
    assert len(answer.body) <= LONGEST_BODY + _CHUNK
    if answer.location is not None:
        check_redirect(answer.location)


def check_redirect(location: str) -> None:
    """See that a redirect leads to a name at one of two ports, by a request that is one line."""
    try:
        url = FIRST.redirected(location, PORTS)
    except AcmeProblem:
        return
    assert (url.scheme, url.port) in {("http", 80), ("https", 443)}
    assert named(url.host.value) == url.host
    assert url.target.startswith("/")
    assert all("!" <= character <= "~" for character in f"{url.target}{url.authority}")


@given(st.binary(max_size=200))
@example(GOOD_ANSWERS[0])
def test_any_bytes_are_an_answer_or_refused(data: bytes) -> None:
    """Nothing but the one error comes out of the parser."""
    check_answer(data)


@given(st.sampled_from(GOOD_ANSWERS), st.integers(0, 80), st.binary(max_size=8))
def test_answers_with_something_else_in_them_are_answers_or_refused(
    answer: bytes, place: int, more: bytes
) -> None:
    """The same for what is nearly right."""
    check_answer(answer[:place] + more + answer[place:])


@given(
    st.lists(
        st.sampled_from(
            [*"/:@?#[]\\%. \t\r\n0", "http:", "https://", "//", "b.example.org", "127.0.0.1", "::1", "é"]
        )
    ).map("".join)
)
@example("http://b.example.org/x?y#z")
def test_any_location_leads_to_a_name_or_nowhere(location: str) -> None:
    """However it is written."""
    check_redirect(location)


@given(st.integers(0, len(PROOF) - 1), st.integers(0, 255))
@example(PROOF.index(VERSION_3) + len(VERSION_3) - 1, 0x30)
def test_a_certificate_that_was_changed_is_read_or_refused(place: int, octet: int) -> None:
    """And it is no proof unless the digest stands in it."""
    changed = PROOF[:place] + bytes([octet]) + PROOF[place + 1 :]
    fault = certificate_fault(changed, named("a.example.org"), KEY_AUTHORIZATION)
    assert fault is None or fault.isprintable()
    assert fault is not None or DIGEST in changed
