"""tls-alpn-01: the CA makes a TLS handshake with the name itself (RFC 8737, RFC 8738)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Self

from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Proof
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address, parse_address
from acmems.net.listening import ListenerPlan
from acmems.net.tlsalpn import HANDSHAKE_LIMITS, ChallengeCertificates, HandshakeService, server_name
from acmems.settings.options import Options
from acmems.state.proofs import Found, ProofLookups
from acmems.text import one_line
from acmems.x509.identifiers import Identifier, is_name, named

DEFAULT_LISTENERS = (Address("0.0.0.0", 1443), Address("::", 1443))  # noqa: S104 - CAs ask from anywhere


class _SharedProofs:
    """Proofs that other nodes present, by the names in handshakes: `OtherProofs`."""

    def __init__(self, lookups: ProofLookups) -> None:
        self._lookups = lookups

    def find(self, name: str, found: Callable[[tuple[Identifier, str] | None], None]) -> bool:
        if not self._lookups.is_active or not is_name(name):
            return False
        place = _place(name)

        def choose(proofs: Found | None) -> None:
            newest = (proofs or {}).get(place, ())[-1:]
            found((named(newest[0].name), newest[0].key_authorization) if newest else None)

        self._lookups.find([place], choose)
        return True


class TlsAlpn01:
    """Proves names by certificates, with which a listener of its own answers whoever speaks `acme-tls/1`.

    Args:
        listeners: where it is asked.
        certificates: the table that listeners answer from; one of its own by default.
        lookups: finds what other nodes present; nothing by default.
    """

    challenge_type = "tls-alpn-01"
    sees_requests = True
    leaves_traces = False
    is_immediate = True
    shows_one_at_a_time = True

    def __init__(
        self,
        name: str,
        listeners: Sequence[Address],
        certificates: ChallengeCertificates | None = None,
        lookups: ProofLookups | None = None,
    ) -> None:
        self.name = name
        self.listeners = tuple(listeners)
        self._certificates = certificates or ChallengeCertificates()
        self._others = _SharedProofs(lookups or ProofLookups())

    @classmethod
    def from_options(cls, name: str, options: Options, context: ValidatorContext) -> Self:
        """Make the validator that a section describes."""
        listeners = options.many(
            "listener",
            parse_address,
            DEFAULT_LISTENERS,
            empty_is_none=True,
            meaning="`host:port` or `[v6]:port` on which the CA's TLS connections are accepted; empty: none",
        )
        return cls(name, listeners, context.certificates, context.lookups)

    def proves(self, identifier: Identifier) -> bool:
        """Tell whether the CA takes tls-alpn-01 for a name: for all but wildcards (RFC 8737 section 3)."""
        return not identifier.is_wildcard

    def plan(self, descriptors: int | None = None) -> ListenerPlan:
        """Return what its listener is to be.

        Args:
            descriptors: how many connections may be open; None: as many as the protocol's limits say.
        """
        return ListenerPlan(
            f"tls-alpn01 {self.name}",
            self.listeners,
            HandshakeService(self._certificates, self._others),
            limits=HANDSHAKE_LIMITS if descriptors is None else HANDSHAKE_LIMITS.within(descriptors),
            defaults=DEFAULT_LISTENERS,
        )

    def locate(self, proofs: Sequence[Proof]) -> Mapping[Proof, str]:
        """Return the names that the CA will say in its handshakes."""
        return {proof: _place(server_name(proof.identifier)) for proof in proofs}

    def present(self, proofs: Sequence[Proof]) -> None:
        """Make handshakes for the names from now on."""
        for proof in proofs:
            try:
                self._certificates.put(proof.identifier, proof.key_authorization, proof.on_request)
            except OSError as error:
                raise ValidatorUnavailable(
                    f"the certificate that proves {proof.identifier.value} by tls-alpn-01 cannot be made: "
                    f"{one_line(error.strerror)}",
                    advice="the process needs /proc, and room below its limit of open files (LimitNOFILE)",
                ) from error

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        """Make no more handshakes for the names."""
        for proof in proofs:
            self._certificates.remove(proof.identifier, proof.key_authorization, proof.on_request)

    def __repr__(self) -> str:
        return f"TlsAlpn01({self.name!r}, {', '.join(map(str, self.listeners))})"


def _place(name: str) -> str:
    return f"tls:{name}"
