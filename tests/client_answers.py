"""A server with answers that acmems never gives, and a CA beside it that issues whatever a test wants."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.script import serving

ISSUER_KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another CA")])
DAY = datetime.timedelta(days=1)
LOGIN_PAGE = b"<!DOCTYPE html>\n<html><body>Please log in.</body></html>\n"


@dataclass(frozen=True)
class RawAnswer:
    """What is answered to one request."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class AnswerServer:
    """A running server, what it was asked, and what it answers: the last answer for ever."""

    url: str = ""
    answers: list[Callable[[bytes], RawAnswer]] = field(default_factory=list)
    requests: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)

    def answer(self, headers: Mapping[str, str], body: bytes) -> RawAnswer:
        self.requests.append((headers, body))
        current = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return current(body)


@contextlib.contextmanager
def answering(*answers: RawAnswer | Callable[[bytes], RawAnswer]) -> Iterator[AnswerServer]:
    """Run a server that gives these answers in turn; each is an answer, or makes one of a CSR."""

    def constant(answer: RawAnswer) -> Callable[[bytes], RawAnswer]:
        return lambda _: answer

    running = AnswerServer(
        answers=[constant(each) if isinstance(each, RawAnswer) else each for each in answers]
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            given = running.answer(dict(self.headers.items()), body)
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(given.body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # a client may have had enough
                self.wfile.write(given.body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        running.url = f"http://127.0.0.1:{port}/sign"
        yield running


def certificate(
    key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    names: x509.SubjectAlternativeName | None = None,
    *,
    left: datetime.timedelta = 89 * DAY,
    lifetime: datetime.timedelta = 90 * DAY,
    signer: ec.EllipticCurvePrivateKey = ISSUER_KEY,
) -> bytes:
    """Return a certificate in PEM: for names, or of a CA.

    Args:
        key: what it is for.
        subject: its subject.
        names: its names; without them it is a CA's.
        left: of its lifetime; negative where it has expired.
        lifetime: how long it is valid in all.
        signer: the key that signs it.
    """
    end = datetime.datetime.now(datetime.UTC) + left
    builder = x509.CertificateBuilder(
        ISSUER_NAME, subject, key, x509.random_serial_number(), end - lifetime, end
    )
    builder = builder.add_extension(names or x509.BasicConstraints(True, None), critical=True)
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)


def issue(
    csr: bytes,
    names: Sequence[str] = (),
    *,
    key: ec.EllipticCurvePublicKey | None = None,
    left: datetime.timedelta = 89 * DAY,
    lifetime: datetime.timedelta = 90 * DAY,
) -> bytes:
    """Return a chain of two for a CSR, or for other names or another key than those in it."""
    request = x509.load_pem_x509_csr(csr)
    san = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if names:
        san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    public = key or request.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return certificate(public, x509.Name([]), san, left=left, lifetime=lifetime) + issuer_certificate()


def issuer_certificate() -> bytes:
    """Return the certificate of the CA, valid for longer than all others."""
    return certificate(ISSUER_KEY.public_key(), ISSUER_NAME, left=900 * DAY, lifetime=1000 * DAY)


def issued(left: datetime.timedelta = 89 * DAY) -> Callable[[bytes], RawAnswer]:
    """Return what answers a CSR with its chain, of whose 90 days so much is left."""
    return lambda csr: RawAnswer(body=issue(csr, left=left))
