"""The application that answers EST clients beside those of `/sign`."""

from __future__ import annotations

from collections.abc import Callable

from acmems.auth.processor import client_ip, client_name
from acmems.frontends.application import FrontEnd
from acmems.frontends.delivery import SigningParts
from acmems.frontends.est.authorities import CaCertificates
from acmems.frontends.est.enrollment import FRONT_END, Enrollment
from acmems.frontends.est.messages import certificates_response
from acmems.frontends.est.targets import EstOperation, EstTarget, is_est, parse
from acmems.net.http import Application, Exchange, Handling, HttpResponse


class EstFrontEnd(FrontEnd):
    """Answers EST clients (RFC 7030).

    Args:
        parts: what requests for certificates are answered with.
        authorities: knows the CAs that clients are to trust.
    """

    name = FRONT_END

    def __init__(self, parts: SigningParts, authorities: CaCertificates) -> None:
        super().__init__(parts.bus, parts.clock)
        self._parts = parts
        self._authorities = authorities

    def begin(self, exchange: Exchange) -> Handling:
        """Check a request by its path, method, address and the form of its headers."""
        target = parse(exchange.target, exchange.method)
        if target.operation is EstOperation.CA_CERTIFICATES:
            return Handling(0, lambda: self.send(exchange, self._certificates(target)))
        if target.operation is EstOperation.ATTRIBUTES:
            # RFC 7030 section 4.5.2: whatever a CSR holds beside its names is of no use here.
            return Handling(0, lambda: self.send(exchange, HttpResponse(204, b"")))
        enrollment = Enrollment(self._parts, exchange, target, self._authorities)
        return Handling(enrollment.admit(), enrollment.answer)

    def client_of(self, exchange: Exchange, peer: str) -> str:
        """Return what the log calls the client of a request, as a trusted proxy tells it."""
        proxies = self._parts.policy().auth.trusted_proxies
        return client_name(peer, client_ip(peer, exchange.headers, proxies))

    def _certificates(self, target: EstTarget) -> HttpResponse:
        blocks = self._parts.policy().auth.blocks
        chosen = [block for block in blocks if target.label in {None, block.name}]
        return certificates_response(self._authorities.of(chosen), is_enrolled=False)


class BesideEst:
    """An application at whose listeners EST clients ask as well.

    Args:
        other: answers all else.
        est: answers EST clients.
        is_wanted: tells whether the configuration has EST clients answered.
    """

    def __init__(self, other: Application, est: Application, is_wanted: Callable[[], bool]) -> None:
        self._other = other
        self._est = est
        self._is_wanted = is_wanted

    def begin(self, exchange: Exchange) -> Handling:
        """Look at a head and return how the request will be handled."""
        return self._of(exchange).begin(exchange)

    def refuse(self, exchange: Exchange | None, error: Exception, client: str) -> bytes:
        """Return the whole raw answer for an error."""
        return self._of(exchange).refuse(exchange, error, client)

    def _of(self, exchange: Exchange | None) -> Application:
        is_est_wanted = exchange is not None and is_est(exchange.target) and self._is_wanted()
        return self._est if is_est_wanted else self._other
