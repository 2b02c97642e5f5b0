"""EST by the letter of RFC 7030 and RFC 8951: requests and their answers."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable
from concurrent.futures import Future
from email.message import Message

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from tests.auth_blocks import block
from tests.chains import make_chain, make_request
from tests.listening import Bench
from tests.sections import load

from acmems.auth import Authenticator
from acmems.events import Bus, DeliveredEvent, Event, RefusedEvent
from acmems.exceptions import CAUnavailable, ConfigurationError, DeadlinePassed, HttpRefusal, PayloadInvalid
from acmems.frontends.delivery import SigningParts, SigningPolicy
from acmems.frontends.est.authorities import CaCertificates
from acmems.frontends.est.front_end import EstFrontEnd
from acmems.frontends.est.messages import basic_password, request_pem
from acmems.frontends.est.targets import EstOperation, EstTarget, is_est, parse
from acmems.issuing.renewal.times import RenewalOutlook, RenewalTimes
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.net.http import HttpService
from acmems.storages import Storage
from acmems.system.clock import SYSTEM
from acmems.x509 import csr
from acmems.x509.chain import Chain

REQUEST = make_request("www.example.org")
CHAIN = make_chain(REQUEST)
CLIENT, STRANGER = "192.0.2.8", "192.0.2.99"
BODY = base64.encodebytes(csr.parse(REQUEST.pem).der)
ENROLL = "/.well-known/est/simpleenroll"


class Outcome:
    """In the place of issuances: the test says what comes of a request."""

    def __init__(self) -> None:
        self.accepted: list[AcceptedRequest] = []
        self.futures: list[Future[Delivery]] = []

    def issue(self, accepted: AcceptedRequest) -> Future[Delivery]:
        self.accepted.append(accepted)
        self.futures.append(Future())
        return self.futures[-1]

    def identities(self, _: AcceptedRequest) -> dict[str, str]:
        raise NotImplementedError

    def outlook(self, chain: Chain, storage: Storage, now: datetime.datetime) -> RenewalOutlook:
        return RenewalTimes().outlook(chain, storage, now)


class House:
    """A listener for EST clients."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        bus = Bus()
        bus.subscribe(self.events.append)
        self.issuance = Outcome()
        blocks = (
            block(("domain", "**"), ("ip", CLIENT), name="machines"),
            block(("domain", "*.example.net"), ("all", "yes"), ("issuer", ""), name="others"),
        )
        policy = SigningPolicy(Authenticator(blocks), 100.0, "dropped")
        self.bench = Bench()
        parts = SigningParts(lambda: policy, self.issuance, bus, SYSTEM)
        self.bench.listener._service = HttpService(EstFrontEnd(parts, CaCertificates()))

    def ask(self, line: str, body: bytes = b"", source: str = CLIENT, headers: str = "") -> Callable[[], str]:
        client = self.bench.connect(source)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        client.send(f"{line} HTTP/1.1\r\nHost: a\r\n{headers}{length}\r\n".encode() + body)
        self.bench.go()

        def answer() -> str:
            self.bench.go()
            return str(client.socket.recv(65536), "latin-1")

        return answer


@pytest.fixture
def house() -> House:
    return House()


def certificates_in(answer: str) -> list[x509.Certificate]:
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.partition("\r\n\r\n")[2]))


@pytest.mark.parametrize(
    "body",
    [BODY, BODY.replace(b"\n", b"\r\n"), BODY.replace(b"\n", b""), REQUEST.pem],
    ids=["LF", "CR LF", "one line", "PEM"],
)
def test_an_enrolled_certificate_comes_alone_in_a_certs_only_message(house: House, body: bytes) -> None:
    """Base64 with line breaks or without (RFC 8951 section 3.1), whatever headers say of an encoding."""
    answer = house.ask(
        f"POST {ENROLL}",
        body,
        headers="Content-Type: application/pkcs10\r\nContent-Transfer-Encoding: 8bit\r\n",
    )
    house.issuance.futures[0].set_result(Delivery(CHAIN, "issued"))
    text = answer()
    assert text.startswith("HTTP/1.1 200 OK\r\n")
    assert "\r\nContent-Type: application/pkcs7-mime; smime-type=certs-only\r\n" in text
    (leaf,) = certificates_in(text)
    assert leaf == x509.load_pem_x509_certificate(CHAIN.pem)
    (delivered,) = (event for event in house.events if isinstance(event, DeliveredEvent))
    assert (delivered.front_end, delivered.client, delivered.block) == ("est", CLIENT, "machines")


def test_after_an_enrollment_the_intermediates_of_its_chain_are_the_ca_certificates(house: House) -> None:
    """Before, there is no way to know those of a CA outside, and the answer says what to do."""
    before = house.ask("GET /.well-known/est/cacerts")()
    assert before.startswith("HTTP/1.1 404")
    assert "trust the roots of your system" in before
    answer = house.ask(f"POST {ENROLL}", BODY)
    house.issuance.futures[0].set_result(Delivery(CHAIN, "issued"))
    answer()
    text = house.ask("GET /.well-known/est/cacerts")()
    assert "\r\nContent-Type: application/pkcs7-mime\r\n" in text
    assert certificates_in(text) == x509.load_pem_x509_certificates(CHAIN.pem)[1:]
    assert house.ask("GET /.well-known/est/others/cacerts")().startswith("HTTP/1.1 404")
    assert house.ask("GET /.well-known/est/machines/cacerts")().startswith("HTTP/1.1 200")


def test_the_certificates_of_a_local_ca_are_known_at_once() -> None:
    """Root and intermediate, each once though two blocks have it."""
    known = x509.load_pem_x509_certificates(CHAIN.pem)
    authorities = CaCertificates(lambda name: known if name == "" else ())
    assert authorities.of([block(("domain", "**"), ("all", "yes"))] * 2) == known
    with pytest.raises(HttpRefusal):
        authorities.of([])


def test_while_the_ca_takes_its_time_the_client_is_told_to_come_again(house: House) -> None:
    """With the same request, which then joins the order (RFC 7030 section 4.2.3)."""
    answer = house.ask(f"POST {ENROLL}", BODY)
    house.issuance.futures[0].set_exception(DeadlinePassed("not yet"))
    text = answer()
    assert text.startswith("HTTP/1.1 202 Accepted\r\n")
    assert "\r\nRetry-After: 15\r\n" in text
    assert house.issuance.accepted[0].seconds == 20.0


def test_errors_are_those_of_the_table(house: House) -> None:
    """In plain words, as for `/sign`; or as a problem document."""
    answer = house.ask(f"POST {ENROLL}", BODY, headers="Accept: application/json\r\n")
    house.issuance.futures[0].set_exception(CAUnavailable("the CA is down", retry_after=5))
    text = answer()
    assert text.startswith("HTTP/1.1 503")
    assert "\r\nRetry-After: 5\r\n" in text
    assert json.loads(text.partition("\r\n\r\n")[2])["status"] == 503


def test_a_label_is_the_name_of_an_auth_block(house: House) -> None:
    """Only that one is asked; one that there is not is a block that accepts nobody."""
    assert house.ask("POST /.well-known/est/others/simpleenroll", BODY)().startswith("HTTP/1.1 401")
    assert house.ask("POST /.well-known/est/none/simpleenroll", BODY)().startswith("HTTP/1.1 401")
    house.ask("POST /.well-known/est/machines/simpleenroll", BODY)
    assert [each.block for each in house.issuance.accepted] == ["machines"]


def test_whoever_has_said_nothing_of_himself_is_asked(house: House) -> None:
    """401, since some clients send a password only then; 403 for all others, whatever the reason."""
    text = house.ask(f"POST {ENROLL}", BODY, STRANGER)()
    assert text.startswith("HTTP/1.1 401")
    assert '\r\nWWW-Authenticate: Basic realm="EST", charset="UTF-8"\r\n' in text
    credentials = base64.b64encode(b"user:wrong").decode()
    text = house.ask(f"POST {ENROLL}", BODY, STRANGER, f"Authorization: Basic {credentials}\r\n")()
    assert text.startswith("HTTP/1.1 403")
    assert house.issuance.accepted == []
    refused = [event for event in house.events if isinstance(event, RefusedEvent)]
    assert {event.front_end for event in refused} == {"est"}


def test_reenrollment_needs_the_certificate_that_is_renewed(house: House) -> None:
    """Without one, it would be an enrollment."""
    text = house.ask("POST /.well-known/est/simplereenroll", BODY)()
    assert text.startswith("HTTP/1.1 400")
    assert "as the certificate of the TLS client" in text
    assert house.issuance.accepted == []


def test_a_csr_needs_no_attributes(house: House) -> None:
    """204 says so (RFC 7030 section 4.5.2), without a body or its length."""
    text = house.ask("GET /.well-known/est/csrattrs")()
    assert text.startswith("HTTP/1.1 204 No Content\r\n")
    assert "Content-" not in text


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("GET /.well-known/est/simpleenroll", 405, "Allow: POST"),
        ("POST /.well-known/est/cacerts", 405, "Allow: GET"),
        ("HEAD /.well-known/est/cacerts", 405, "Allow: GET"),
        ("POST /.well-known/est/serverkeygen", 501, "no serverkeygen"),
        ("POST /.well-known/est/fullcmc", 501, "no fullcmc"),
        ("GET /.well-known/est", 404, "404"),
        ("GET /.well-known/est/", 404, "404"),
        ("GET /.well-known/est/a/b/cacerts", 404, "404"),
        ("GET /.well-known/est//cacerts", 404, "404"),
        ("GET /.well-known/est/../cacerts", 404, "404"),
        ("GET /.well-known/est/cacerts?x", 404, "404"),
    ],
)
def test_other_requests_are_refused(house: House, line: str, status: int, words: str) -> None:
    """As the path or the method says; what is optional and not there is 501."""
    text = house.ask(line, b"x" if line.startswith("POST") else b"")()
    assert text.startswith(f"HTTP/1.1 {status}")
    assert words in text


def test_bodies_that_are_too_large_are_refused_before_they_are_read(house: House) -> None:
    """By their announced length; and a GET has none."""
    large = house.ask(f"POST {ENROLL}", headers="Content-Length: 1000000\r\n")()
    assert large.startswith("HTTP/1.1 413")
    assert house.ask("GET /.well-known/est/cacerts", b"x")().startswith("HTTP/1.1 413")


@pytest.mark.parametrize(
    "body",
    [b"", b"not base64!", csr.parse(REQUEST.pem).der, b"AAA", b"{}"],
    ids=["nothing", "words", "DER", "too short", "JSON"],
)
def test_bodies_that_are_no_base64_are_refused(body: bytes) -> None:
    """The reader of CSRs never sees them, or refuses them."""
    with pytest.raises(PayloadInvalid):
        csr.parse(request_pem(body))


def test_the_same_csr_is_the_same_request_however_its_base64_is_written() -> None:
    """So that whoever comes again joins what is running."""
    assert request_pem(BODY) == request_pem(BODY.replace(b"\n", b"\r\n \t"))
    assert csr.parse(request_pem(BODY)) == csr.parse(REQUEST.pem)


@pytest.mark.parametrize(
    ("header", "password"),
    [
        ("Basic dXNlcjpwYXNz", "pass"),
        ("basic dXNlcjpwYTpzcw==", "pa:ss"),
        ("Basic OnBhc3M=", "pass"),
        ("Basic dXNlcg==", None),
        ("Basic dXNlcjo=", None),
        ("Basic dXNlcjpwYXNz=", None),
        ("Basic /////w==", None),
        ("Basic", None),
        ("Bearer dXNlcjpwYXNz", None),
        ("Digest username=x", None),
        ("Basic " + "A" * 2000, None),
    ],
)
def test_the_password_of_http_basic(header: str, password: str | None) -> None:
    """The user's name does not matter; what is malformed is as good as nothing."""
    headers = Message()
    headers["Authorization"] = header
    found = basic_password(headers)
    assert (None if found is None else found.reveal()) == password


def test_two_headers_are_none() -> None:
    """Nobody knows which one a proxy has looked at."""
    headers = Message()
    headers["Authorization"] = "Basic dXNlcjpwYXNz"
    headers["Authorization"] = "Basic dXNlcjpwYXNz"
    assert basic_password(headers) is None


def test_paths_are_read_in_one_way() -> None:
    """With a label or without."""
    assert parse("/.well-known/est/cacerts", "GET") == EstTarget(EstOperation.CA_CERTIFICATES)
    assert parse("/.well-known/est/a%20b/simpleenroll", "POST") == EstTarget(EstOperation.ENROLL, "a b")
    assert is_est("/.well-known/est/x")
    assert not is_est("/.well-known/estx")


def test_est_is_for_tls_only() -> None:
    """Without a TLS listener, `est` is a mistake; with one, it is off unless it is wanted."""
    with pytest.raises(ConfigurationError, match="EST clients speak TLS only"):
        load("[mgmt]\nest = yes\n")
    tls = "[mgmt]\ntls-listener = 127.0.0.1:0\ntls-certificate = /a.pem\ntls-key = /a.key\n"
    assert not load(tls).mgmt.est
    assert load(f"{tls}est = yes\n").mgmt.est
