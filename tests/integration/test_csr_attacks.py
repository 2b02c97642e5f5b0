"""Hostile and odd signing requests to a whole server: each gets its status, and none becomes an order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests import der
from tests.der import Draft, with_attribute, with_extension, with_names, with_san
from tests.fault_proxy import FaultProxy
from tests.faults import NEW_ORDER
from tests.peers import Acmems, Pebble, Settings, curl, names_of

GOOD = Draft()
PRIVATE = der.ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
AUTH = """
[auth "all"]
all = yes
domain = *.example.org
"""


def case(threat: str, id: str, body: Draft | bytes, status: int = 415) -> object:  # noqa: A002 - as pytest has it
    """Return the parameters of a case, with the marker of its threat."""
    data = body.pem if isinstance(body, Draft) else body
    return pytest.param(data, status, id=id, marks=pytest.mark.threat("csr", threat))


def nested(depth: int) -> bytes:
    """Return sequences within sequences."""
    encoded = b""
    for _ in range(depth):
        encoded = der.sequence(encoded)
    return encoded


@pytest.fixture(scope="module")
def proxy(pebble: Pebble) -> Iterator[FaultProxy]:
    """A way to the CA on which orders are counted."""
    with FaultProxy(pebble) as running:
        yield running


@pytest.fixture(scope="module")
def acmems(pebble: Pebble, proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acmems]:
    """A server for all tests of this file; none of them may lead it to a bug."""
    settings = proxy.before(Settings.of(pebble, tmp_path_factory.mktemp("csrs")))
    settings.auth = AUTH
    settings.mgmt = "max-size = 64k"
    with Acmems(settings) as running:
        yield running
        log = running.log
    assert "Traceback" not in log
    assert "status=500" not in log


def send(acmems: Acmems, folder: Path, body: bytes) -> tuple[int, bytes]:
    """Send a request, and return the status and the body of the answer."""
    (folder / "body").write_bytes(body)
    reply = curl(acmems.sign_url, "--data-binary", f"@{folder / 'body'}")
    return reply.status, reply.body


@pytest.mark.parametrize(
    ("body", "status"),
    [
        case("no names", "neither SAN nor CN", Draft(extensions=())),
        case("no names", "empty SAN", with_names()),
        case("no names", "empty SAN and a CN", Draft(der.subject(b"a.example.org"), extensions=(der.san(),))),
        case("names other than DNS names", "e-mail", with_san(der.tlv(0x81, b"a@example.org"))),
        case("names other than DNS names", "URI", with_san(der.tlv(0x86, b"https://example.org/"))),
        case(
            "names other than DNS names",
            "behind a DNS name",
            with_san(der.dns(b"a.example.org"), der.tlv(0x81, b"a")),
        ),
        case("names other than DNS names", "IP address", with_san(der.tlv(0x87, b"\xc0\0\2\1")), 403),
        case("common names beside the SAN", "one of others", Draft(der.subject(b"a.example.net")), 403),
        case(
            "common names beside the SAN", "two", Draft(der.subject(b"a.example.org", b"a.example.net")), 403
        ),
        case("names that are no host names", "trailing dot", with_names(b"a.example.org.")),
        case("names that are no host names", "long label", with_names(b"a" * 64 + b".example.org")),
        case("names that are no host names", "NUL", with_names(b"a.example.org\0.example.net")),
        case(
            "names that are no host names", "A-label that does not decode", with_names(b"xn--a.example.org")
        ),
        case("wildcards", "http-01 cannot prove it", with_names(b"*.example.org"), 403),
        case("a star elsewhere than in front", "within", with_names(b"a.*.example.org")),
        case("a star elsewhere than in front", "two", with_names(b"*.*.example.org")),
        case(
            "too many names, or one twice", "101", with_names(*(b"n%d.example.org" % n for n in range(101)))
        ),
        case("anything but one PEM request", "nothing in it", b" \n"),
        case("anything but one PEM request", "DER", GOOD.der),
        case("anything but one PEM request", "two", GOOD.pem + GOOD.pem),
        case("anything but one PEM request", "a private key in front", PRIVATE + GOOD.pem),
        case("anything but one PEM request", "no END", GOOD.pem.partition(b"-----END")[0]),
        case(
            "anything but one PEM request",
            "a thousand BEGIN",
            b"-----BEGIN CERTIFICATE REQUEST-----\n" * 1000,
        ),
        case("what parsers read differently", "two SANs", with_extension(der.dns_san(b"a.example.net"))),
        case(
            "what parsers read differently",
            "two extension requests",
            with_attribute(der.requested(der.dns_san(b"a.example.net"))),
        ),
        case("what parsers read differently", "bytes left over", der.pem(GOOD.der + b"\0")),
        case("a parser that fails", "deep nesting", der.pem(nested(5000))),
        case(
            "a parser that fails",
            "a key usage that is none",
            with_extension(der.extension(der.KEY_USAGE, der.NULL)),
        ),
        case(
            "a parser that fails",
            "a key that is none",
            Draft(spki=der.sequence(der.sequence(der.oid("1.2.3.4")), der.bits(b"k"))),
        ),
        case(
            "a wrong signature", "another key", Draft(spki=der.spki(ec.generate_private_key(ec.SECP256R1())))
        ),
        case("a wrong signature", "another name", der.pem(GOOD.der.replace(b"a.example", b"b.example"))),
        case("weak keys", "e is 3", Draft(key=der.rsa_key(exponent=3))),
        case("weak keys", "P-521", Draft(key=der.ec_key(ec.SECP521R1))),
        case(
            "extensions that ask for more",
            "CA:TRUE",
            with_extension(der.extension(der.BASIC_CONSTRAINTS, der.sequence(der.TRUE))),
        ),
        case(
            "extensions that ask for more",
            "unknown and critical",
            with_extension(der.extension("1.2.3.4", der.NULL, critical=True)),
        ),
        case(
            "extensions that ask for more",
            "acmeIdentifier",
            with_extension(der.extension(der.ACME_IDENTIFIER, der.octets(bytes(32)))),
        ),
        case(
            "extensions that ask for more",
            "must-staple",
            with_extension(der.extension(der.TLS_FEATURE, der.sequence(der.integer(5)))),
        ),
    ],
)
def test_refused_requests_get_their_status_and_no_order(
    acmems: Acmems, proxy: FaultProxy, tmp_path: Path, body: bytes, status: int
) -> None:
    """What must not be certified gets its status and one line that says why; nothing is ordered."""
    before = proxy.count(path=NEW_ORDER)
    answered, words = send(acmems, tmp_path, body)
    assert answered == status
    assert words.count(b"\n") == 1
    assert proxy.count(path=NEW_ORDER) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        case("a SAN and no common name", "as most are", GOOD, 200),
        case("anything but one PEM request", "UTF-16", GOOD.pem.decode().encode("utf-16"), 200),
        case("anything but one PEM request", "text in front", b"Certificate Request:\n" + GOOD.pem, 200),
        case("capital letters", "in a name", with_names(b"A.Example.ORG"), 200),
        case("too many names, or one twice", "twice", with_names(b"a.example.org", b"A.example.org"), 200),
    ],
)
def test_other_spellings_are_certified(acmems: Acmems, tmp_path: Path, body: bytes, status: int) -> None:
    """What is merely written in another way is certified."""
    answered, chain = send(acmems, tmp_path, body)
    assert answered == status
    assert names_of(chain) == {"a.example.org"}
