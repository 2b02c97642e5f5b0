"""Authentication by a certificate that the client shows in its TLS handshake (RFC 8446 section 4.4.2)."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from cryptography import x509

from acmems.auth.methods.caller import Caller
from acmems.settings.options import Options
from acmems.system.clock import SYSTEM, Clock
from acmems.x509.identifiers import Glob, Identifier, IdentifierType

_NONE_SHOWN = "it requires a client certificate"


@dataclass(frozen=True, slots=True)
class CertifiedClient:
    """What counts of a client certificate; who has signed it was verified before.

    Args:
        identifiers: its names.
        not_before: since when it is valid.
        not_after: until when it is valid.
    """

    identifiers: tuple[Identifier, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime

    def covers(self, identifier: Identifier) -> bool:
        """Tell whether it would be good for a server of that name (RFC 9525 section 6.3)."""
        if identifier in self.identifiers:
            return True
        if identifier.type is not IdentifierType.DNS:
            return False
        parent = identifier.value.partition(".")[2]
        return Identifier(IdentifierType.DNS, f"*.{parent}") in self.identifiers


class ClientCertificateMethod:
    """Authentication by a client certificate: one of its names is known, or it covers all that is asked for.

    Args:
        globs: of which one must match one of its names; none: its names must cover those that are asked for.
        clock: time; a certificate may expire while its connection is open.
    """

    KEYS: ClassVar = ("client-certificate",)

    def __init__(self, globs: tuple[Glob, ...] = (), clock: Clock = SYSTEM) -> None:
        self.globs = globs
        self._clock = clock

    @classmethod
    def from_options(cls, options: Options) -> ClientCertificateMethod | None:
        """Return the method of a block, None where it has no good `client-certificate`."""
        given = options.many(
            "client-certificate",
            _parse,
            meaning="`yes`: the client must show a certificate whose names cover all that it asks for; or a "
            "glob that one of its names must match",
        )
        globs = tuple(glob for glob in given if glob is not None)
        if globs and len(globs) < len(given):
            options.report(
                "client-certificate: 'yes' and globs cannot be combined: remove one of them",
                "client-certificate",
            )
        return cls(globs) if given else None

    def may_accept(self, caller: Caller) -> bool:
        """Tell whether a certificate was shown that may be enough."""
        return self.refusal(caller, b"") is None

    def refusal(self, caller: Caller, body: bytes) -> str | None:  # noqa: ARG002 - the contract
        """Return why the client is not accepted for any name, None if it may be for some."""
        if caller.certificate is None:
            return _NONE_SHOWN
        if caller.is_revoked:
            return "the client certificate is revoked"
        certificate = read_client_certificate(caller.certificate)
        if certificate is None:
            return "the client certificate has other names than DNS names and IP addresses"
        if not certificate.not_before <= self._clock.now() <= certificate.not_after:
            return "the client certificate is not valid now"
        if not self.globs or any(
            glob.matches(name) for glob in self.globs for name in certificate.identifiers
        ):
            return None
        return f"none of the names of the client certificate ({_listed(certificate.identifiers)}) matches"

    def accepts(self, caller: Caller, body: bytes) -> bool:
        """Tell whether the client is accepted for some name."""
        return self.refusal(caller, body) is None

    def sample(self, identifiers: Iterable[Identifier]) -> list[Identifier]:
        """Return the names of a certificate that is accepted for some names."""
        stars = ("**", "*", "?")
        for glob in self.globs[:1]:
            text = functools.reduce(lambda text, star: text.replace(star, "a"), stars, glob.text)
            return [Identifier(IdentifierType.DNS, text)]
        return list(identifiers)

    def names_refusal(self, caller: Caller, identifiers: Iterable[Identifier]) -> str | None:
        """Return why an accepted client may not ask for these names, None if it may."""
        if self.globs:
            return None
        certificate = None if caller.certificate is None else read_client_certificate(caller.certificate)
        if certificate is None:
            return _NONE_SHOWN
        missing = [each for each in identifiers if not certificate.covers(each)]
        if not missing:
            return None
        return f"the client certificate does not cover {_listed(missing)}"


@functools.lru_cache(maxsize=1024)
def read_client_certificate(der: bytes) -> CertifiedClient | None:
    """Return what counts of a client certificate; None where its names are of other kinds, or none."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        identifiers = tuple(sorted({_identifier(name) for name in names}))
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.InvalidVersion):
        return None
    if not identifiers:
        return None
    return CertifiedClient(identifiers, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _identifier(name: x509.GeneralName) -> Identifier:
    if isinstance(name, x509.DNSName):
        return Identifier.dns(name.value)
    if isinstance(name, x509.IPAddress):
        return Identifier.ip(str(name.value))
    raise ValueError("neither a DNS name nor an IP address")


def _listed(identifiers: Iterable[Identifier]) -> str:
    first, *more = (each.value for each in identifiers)
    return f"{first} and {len(more)} more" if more else first


def _parse(text: str) -> Glob | None:
    if text == "yes":
        return None
    if text == "no":
        raise ValueError("'no' means nothing here: remove the line")
    return Glob.parse(text)
