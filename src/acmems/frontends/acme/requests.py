"""Requests of ACME clients, once it is known who sent them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from acmems.auth import Caller
from acmems.frontends.acme.envelope.jwk import PublicJwk
from acmems.frontends.acme.envelope.members import object_of
from acmems.frontends.acme.problems import AcmeProblem, malformed
from acmems.state.acme.accounts import AcmeAccount


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """A request that nobody has signed.

    Args:
        parameters: what the template of its path leaves open, in order.
    """

    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request whose signature and nonce were checked.

    Args:
        url: the URL that it was sent to.
        parameters: what the template of its path leaves open, in order.
        payload: the signed content; empty for POST-as-GET (RFC 8555 section 6.3).
        key: the key that has signed it.
        account: whose key that is; None where the request is signed by a key alone (`jwk`).
        caller: what is known of the client, for auth blocks.
        client: what the log calls the client.
        query: what follows the `?` of its URL; empty where there is none.
    """

    url: str
    parameters: tuple[str, ...]
    payload: bytes = field(repr=False)
    key: PublicJwk
    account: AcmeAccount | None
    caller: Caller = field(repr=False)
    client: str
    query: str = ""

    @property
    def is_get(self) -> bool:
        """Whether it only asks for what there is (POST-as-GET)."""
        return not self.payload

    @property
    def owner(self) -> AcmeAccount:
        """The account that has signed it.

        Raises:
            AcmeProblem: it is signed by a key alone.
        """
        if self.account is None:
            raise malformed("sign this request as an account, with 'kid' and without 'jwk'")
        return self.account

    def json(self) -> dict[str, Any]:
        """Return the payload as a JSON object.

        Raises:
            AcmeProblem: it is none.
        """
        return object_of(self.payload, "the payload")

    def require_get(self) -> None:
        """Refuse a request that has a payload where none has a meaning.

        Raises:
            AcmeProblem: it has one.
        """
        if self.payload:
            raise AcmeProblem("malformed", "ask for this with an empty payload (POST-as-GET)")
