"""tls-alpn-01 (RFC 8737, RFC 8738): the name shows a certificate made for this challenge in a handshake."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
import ssl

from cryptography import x509

from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.connecting import Connector
from acmems.frontends.acme.proving.http.check import unverified_context
from acmems.frontends.acme.proving.validation import Validation
from acmems.net.tlsalpn.certificate import ACME_IDENTIFIER, OCTET_STRING, PROTOCOL, server_name
from acmems.system.clock import Deadline
from acmems.system.openssl import words_of
from acmems.x509.identifiers import Identifier, IdentifierType

PORT = 443


class TlsAlpn01Check:
    """Makes handshakes.

    Args:
        connector: makes the connections.
        port: where handshakes are made.
    """

    challenge_type = "tls-alpn-01"

    def __init__(self, connector: Connector, port: int = PORT) -> None:
        self._connector = connector
        self._port = port
        self._context = unverified_context()
        self._context.set_alpn_protocols([PROTOCOL])

    def check(self, validation: Validation, deadline: Deadline) -> None:
        """Return if the name shows the certificate.

        Raises:
            AcmeProblem: it does not.
        """
        identifier = validation.identifier
        sock = self._connector.connect(identifier, self._port, validation.account, deadline)
        with sock:
            try:
                der = self._certificate(sock, identifier, deadline)
            except TimeoutError:
                raise AcmeProblem("connection", f"{identifier} takes too long for a handshake") from None
            except ssl.SSLError as error:
                raise AcmeProblem(
                    "tls", f"the handshake with {identifier} fails: {words_of(error)}"
                ) from None
            except OSError:
                raise AcmeProblem("connection", f"{identifier} breaks the handshake off") from None
        fault = certificate_fault(der, identifier, validation.key_authorization)
        if fault is not None:
            raise AcmeProblem("incorrectResponse", f"the certificate that {identifier} shows {fault}")

    def _certificate(self, sock: socket.socket, identifier: Identifier, deadline: Deadline) -> bytes:
        if deadline.passed:
            raise TimeoutError
        sock.settimeout(deadline.remaining)
        with self._context.wrap_socket(sock, server_hostname=server_name(identifier)) as secured:
            if secured.selected_alpn_protocol() != PROTOCOL:
                raise AcmeProblem("tls", f"{identifier} does not choose the protocol {PROTOCOL} (ALPN)")
            return secured.getpeercert(binary_form=True) or b""


def certificate_fault(der: bytes, identifier: Identifier, key_authorization: str) -> str | None:
    """Return what is wrong with a certificate as proof of a name (RFC 8737 section 3), None if nothing is."""
    try:
        extensions = x509.load_der_x509_certificate(der).extensions
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return "has no subjectAltName"
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension):
        return "cannot be read"
    if len(names) != 1 or not _is_name(names[0], identifier):
        return f"has another subjectAltName than {identifier} alone"
    try:
        proof = extensions.get_extension_for_oid(ACME_IDENTIFIER)
    except x509.ExtensionNotFound:
        return "has no acmeIdentifier extension"
    if not proof.critical:
        return "has an acmeIdentifier extension that is not critical"
    expected = OCTET_STRING + hashlib.sha256(key_authorization.encode("ascii")).digest()
    value = proof.value.value if isinstance(proof.value, x509.UnrecognizedExtension) else b""
    return None if hmac.compare_digest(value, expected) else "was made for another key authorization"


def _is_name(name: x509.GeneralName, identifier: Identifier) -> bool:
    if identifier.type is IdentifierType.IP:
        return isinstance(name, x509.IPAddress) and name.value == ipaddress.ip_address(identifier.value)
    return isinstance(name, x509.DNSName) and name.value.lower() == identifier.value
