"""http-01 (RFC 8555 section 8.3): the key authorization is fetched by HTTP, and redirects are followed."""

from __future__ import annotations

import hmac
import socket
import ssl
from http import HTTPStatus

from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.connecting import Connector
from acmems.frontends.acme.proving.http.answer import LONGEST_BODY, HttpAnswer
from acmems.frontends.acme.proving.http.url import HttpPorts, HttpUrl
from acmems.frontends.acme.proving.validation import Validation
from acmems.system.clock import Deadline
from acmems.text import one_line
from acmems.x509.identifiers import IdentifierType

MOST_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 4096
_PREFIX = 24  # characters of a wrong answer that are shown
_REQUEST = (
    "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: acmems (http-01)\r\nAccept: */*\r\n"
    "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
)


class Http01Check:
    """Fetches key authorizations.

    Args:
        connector: makes the connections.
        ports: those that may be connected to.
    """

    challenge_type = "http-01"

    def __init__(self, connector: Connector, ports: HttpPorts | None = None) -> None:
        self._connector = connector
        self._ports = ports or HttpPorts()
        self._context = unverified_context()

    def check(self, validation: Validation, deadline: Deadline) -> None:
        """Return if the name answers with the key authorization.

        Raises:
            AcmeProblem: it does not.
        """
        first = url = HttpUrl.first(validation.identifier, validation.token, self._ports)
        seen = {url}
        while True:
            answer = self._answer(url, validation.account, deadline)
            if answer.status not in _REDIRECTS:
                break
            if answer.location is None:
                raise AcmeProblem("incorrectResponse", f"{first} redirects without saying where")
            url = url.redirected(answer.location, self._ports)
            if url in seen:
                raise AcmeProblem("connection", f"{first} redirects in a circle")
            if len(seen) > MOST_REDIRECTS:
                raise AcmeProblem("connection", f"{first} redirects more than {MOST_REDIRECTS} times")
            seen.add(url)
        _judge(answer, validation.key_authorization, first, is_redirected=url != first)

    def _answer(self, url: HttpUrl, account: str, deadline: Deadline) -> HttpAnswer:
        sock = self._connector.connect(url.host, url.port, account, deadline)
        with sock:
            try:
                return _fetched(self._secured(sock, url, deadline), url, deadline)
            except TimeoutError:
                raise AcmeProblem("connection", f"{url.authority} takes too long to answer") from None
            except OSError:
                raise AcmeProblem("connection", f"{url.authority} breaks the connection off") from None

    def _secured(self, sock: socket.socket, url: HttpUrl, deadline: Deadline) -> socket.socket:
        if url.scheme == "http":
            return sock
        name = url.host.value if url.host.type is IdentifierType.DNS else None
        sock.settimeout(_left(deadline))
        try:
            return self._context.wrap_socket(sock, server_hostname=name)
        except ssl.SSLError:
            raise AcmeProblem("tls", f"there is no TLS with {url.authority}") from None


def unverified_context() -> ssl.SSLContext:
    """Return what makes TLS with a server that has no certificate yet, so that none is verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _fetched(sock: socket.socket, url: HttpUrl, deadline: Deadline) -> HttpAnswer:
    with sock:
        sock.settimeout(_left(deadline))
        sock.sendall(_REQUEST.format(target=url.target, authority=url.authority).encode("ascii"))
        answer = HttpAnswer()
        while not answer.is_enough:
            sock.settimeout(_left(deadline))
            answer.feed(sock.recv(_CHUNK))
        return answer


def _left(deadline: Deadline) -> float:
    remaining = deadline.remaining
    if remaining <= 0:
        raise TimeoutError
    return remaining


def _judge(answer: HttpAnswer, key_authorization: str, first: HttpUrl, *, is_redirected: bool) -> None:
    """Return if an answer is the key authorization; blanks after it do not matter."""
    after = " after redirects" if is_redirected else ""
    if answer.status != HTTPStatus.OK:
        raise AcmeProblem("incorrectResponse", f"{first} answers{after} with status {answer.status}, not 200")
    if answer.is_encoded:
        raise AcmeProblem("incorrectResponse", f"{first} answers{after} compressed, unasked")
    if len(answer.body) > LONGEST_BODY:
        raise AcmeProblem("incorrectResponse", f"{first} answers{after} with more than {LONGEST_BODY} octets")
    if not hmac.compare_digest(answer.body.rstrip(), key_authorization.encode("ascii")):
        # A redirect can lead to what the client itself cannot see, which is not to be read to it.
        shown = "" if is_redirected else f", but {_prefix(answer.body)}"
        raise AcmeProblem(
            "incorrectResponse", f"{first} answers{after}, not with the key authorization{shown}"
        )


def _prefix(body: bytes) -> str:
    text = one_line(body[:_PREFIX].decode("ascii", "replace").replace("\N{REPLACEMENT CHARACTER}", "?"))
    return f"with {text!r}{'...' if len(body) > _PREFIX else ''}" if text else "with nothing"
