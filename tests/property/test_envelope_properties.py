"""What holds for whatever body an ACME client sends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jws import JWSRegistry
from tests.acme_client import Key, algorithm_of, b64, flattened, jwk_of

from acmems.frontends.acme.envelope.envelope import Envelope
from acmems.frontends.acme.envelope.jwk import ALGORITHMS, PublicJwk
from acmems.frontends.acme.envelope.members import decoded
from acmems.frontends.acme.problems import AcmeProblem

T = TypeVar("T")

# It warns of EdDSA because another curve would go by the same name.
pytestmark = pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")

KEYS: list[Key] = [
    ec.derive_private_key(0x5EED, ec.SECP256R1()),
    ec.derive_private_key(0x5EED, ec.SECP384R1()),
    ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)),
    rsa.generate_private_key(65537, 2048),
]
URL = "https://acme.example.org/new-account"


def signed(key: Key, payload: bytes, **members: Any) -> bytes:
    """Return the body of a good request, but for members of the header that are given."""
    header = {"alg": algorithm_of(key), "jwk": jwk_of(key), "nonce": "abc", "url": URL} | members
    return json.dumps(flattened(key, header, payload)).encode()


GOOD = tuple(signed(key, payload) for key in KEYS for payload in (b"", b'{"contact":[]}'))
REGISTRY = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
REGISTRY.max_header_length = 8192
# A good request with some bytes replaced.
BENT = st.tuples(
    st.sampled_from(GOOD),
    st.integers(0, 900),
    st.integers(0, 3),
    st.sampled_from([b"", b'"', b"=", b"\\u0061", b"{", b'"a":1,', b"A", b" ", b"\xff", b"."]),
).map(lambda parts: parts[0][: parts[1]] + parts[3] + parts[0][parts[1] + parts[2] :])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["alg", "jwk", "kid", "nonce", "url", "crit", "b64", "typ", "x5u"])
HEADERS = st.tuples(st.sampled_from(KEYS), st.dictionaries(NAMES, VALUES, max_size=3)).map(
    lambda pair: signed(pair[0], b"{}", **pair[1])
)


def read(make: Callable[[], T]) -> T | None:
    """Return what is made of what a client sent, None where that is refused as it should be."""
    try:
        return make()
    except AcmeProblem as raised:
        problem = raised
    assert problem.kind in {"badPublicKey", "malformed"}
    assert problem.status == 400
    assert problem.reason.isprintable()
    return None


def check(body: bytes) -> None:
    """See that a body is refused as a problem, or read as joserfc reads it, with the same signature."""
    envelope = read(lambda: Envelope.from_body(body))
    if envelope is None:
        return
    members = json.loads(body)
    assert members.keys() == {"protected", "payload", "signature"}
    header = json.loads(decoded(members["protected"], "x"))
    assert {"crit", "b64"}.isdisjoint(header)
    assert (envelope.jwk is None) == ("kid" in header) != ("jwk" in header)
    if envelope.jwk is None:
        return
    try:
        envelope.verify(envelope.jwk)
    except AcmeProblem:
        return
    assert envelope.algorithm == envelope.jwk.algorithm
    if header.keys() != {"alg", "jwk", "nonce", "url"}:
        return  # what nobody asks for here the library may refuse
    by_library = jws.deserialize_json(members, envelope.jwk.key, registry=REGISTRY)
    assert (by_library.payload, by_library.headers()["url"]) == (envelope.payload, envelope.url)


@given(st.binary() | BENT | HEADERS | VALUES.map(lambda value: json.dumps(value).encode()))
@example(GOOD[0])
@example(GOOD[-1])
def test_bodies(body: bytes) -> None:
    """Whatever comes is refused by a problem, or is what the library reads as well."""
    check(body)


@given(st.sampled_from(KEYS), VALUES, st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "k"]))
def test_keys(key: Key, value: Any, name: str) -> None:
    """A key with any member replaced is refused by a problem, or is the same to whoever reads it again."""
    made = read(lambda: PublicJwk.from_members(jwk_of(key) | {name: value}))
    assert made is None or PublicJwk.from_text(made.text).thumbprint == made.thumbprint


@given(st.binary(max_size=100))
def test_base64url(data: bytes) -> None:
    """Each value has one spelling."""
    text = b64(data)
    assert decoded(text, "x") == data
    for other in (text + "=", text + "A" * (len(text) % 4 == 0), f" {text}", text + "\n"):
        if other != text:
            try:
                assert decoded(other, "x") != data
            except AcmeProblem:
                continue
