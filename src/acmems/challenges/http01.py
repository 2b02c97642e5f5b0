"""http-01: the CA fetches the proof over plain HTTP from the name itself (RFC 8555 section 8.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Self

from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Proof, is_token
from acmems.challenges.responses import ChallengeResponses
from acmems.net.address import Address, IPNetwork, parse_address, parse_network
from acmems.settings.options import Options
from acmems.state.proofs import Found, ProofLookups
from acmems.x509.identifiers import Identifier, is_name

__all__ = ["ChallengeResponses", "Http01"]

DEFAULT_LISTENERS = (Address("0.0.0.0", 1380), Address("::", 1380))  # noqa: S104 - CAs ask from anywhere
CHALLENGE_PATH = "/.well-known/acme-challenge/"


class Http01:
    """Proves names by answers in a table that http-01 listeners deliver from.

    Args:
        listeners: where requests for this table are taken; the server opens them.
        responses: the table.
        trusted_proxies: whose `X-Forwarded-Host` and `X-Forwarded-For` are believed; none: those of `[mgmt]`.
        lookups: finds what other nodes present; nothing by default.
    """

    challenge_type = "http-01"
    sees_requests = True
    leaves_traces = False
    is_immediate = True
    shows_one_at_a_time = False

    def __init__(
        self,
        name: str,
        listeners: Sequence[Address],
        responses: ChallengeResponses,
        trusted_proxies: Sequence[IPNetwork] = (),
        lookups: ProofLookups | None = None,
    ) -> None:
        self.name = name
        self.trusted_proxies = tuple(trusted_proxies)
        self.listeners = tuple(listeners)
        self.responses = responses
        self._lookups = lookups or ProofLookups()

    @classmethod
    def from_options(cls, name: str, options: Options, context: ValidatorContext) -> Self:
        """Make the validator that a section describes."""
        listeners = options.many(
            "listener",
            parse_address,
            DEFAULT_LISTENERS,
            empty_is_none=True,
            meaning="`host:port` or `[v6]:port` on which the CA's requests are accepted; empty: none",
        )
        proxies = options.many(
            "trusted-proxy",
            parse_network,
            meaning="address or network of a web server that forwards challenges, whose `X-Forwarded-Host` "
            "and `X-Forwarded-For` are trusted; without this key: those of `[mgmt]`",
        )
        return cls(name, listeners, context.responses, proxies, context.lookups)

    def proves(self, identifier: Identifier) -> bool:
        """Tell whether the CA takes http-01 for a name: for all but wildcards (section 8.3, RFC 8738)."""
        return not identifier.is_wildcard

    def locate(self, proofs: Sequence[Proof]) -> Mapping[Proof, str]:
        """Return the URLs that the CA will fetch."""
        return {proof: _url(*_place(proof)) for proof in proofs}

    def look_elsewhere(self, asked: Sequence[tuple[str, str]], found: Callable[[str | None], None]) -> bool:
        """Look up what other nodes present; return False where there is nothing to look up.

        Args:
            asked: hosts and paths, of which the first that is found counts.
            found: called with the answer, in another thread or at once; None if there is none.
        """
        urls = [_url(host, path) for host, path in asked if _is_plausible(host, path)]
        if not urls or not self._lookups.is_active:
            return False

        def choose(proofs: Found | None) -> None:
            known = proofs or {}
            found(next((known[url][-1].key_authorization for url in urls if url in known), None))

        self._lookups.find(urls, choose)
        return True

    def present(self, proofs: Sequence[Proof]) -> None:
        """Answer requests for the proofs from now on."""
        for proof in proofs:
            host, path = _place(proof)
            self.responses.put(host, path, proof.key_authorization, proof.on_request)

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        """Answer no more."""
        for proof in proofs:
            host, path = _place(proof)
            self.responses.remove(host, path, proof.on_request)

    def __repr__(self) -> str:
        return f"Http01({self.name!r}, {', '.join(map(str, self.listeners))})"


def _place(proof: Proof) -> tuple[str, str]:
    return proof.identifier.base.lower(), CHALLENGE_PATH + proof.token


def _url(host: str, path: str) -> str:
    return f"http://{host}{path}"


def _is_plausible(host: str, path: str) -> bool:
    """Tell whether a CA may ask so, which most strangers do not."""
    return is_token(path.removeprefix(CHALLENGE_PATH)) and is_name(host)
