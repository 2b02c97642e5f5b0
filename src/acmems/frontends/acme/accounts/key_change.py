"""keyChange (RFC 8555 section 7.3.5): the inner JWS shows that whoever asks has the new key as well."""

from __future__ import annotations

from concurrent.futures import Future

from acmems.frontends.acme.accounts.document import account_answer
from acmems.frontends.acme.accounts.parts import AccountParts
from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.envelope.envelope import Envelope
from acmems.frontends.acme.envelope.jwk import PublicJwk
from acmems.frontends.acme.envelope.members import object_of, text_of
from acmems.frontends.acme.problems import AcmeProblem, malformed
from acmems.frontends.acme.requests import SignedRequest
from acmems.net.http import Exchange
from acmems.state.acme.accounts import KeyChange
from acmems.system.steps.futures import after

_INNER = "the inner JWS"


class KeyChangeResource:
    """Gives the account that signs a request another key.

    Args:
        parts: what it needs.
    """

    def __init__(self, parts: AccountParts) -> None:
        self._parts = parts

    def __call__(self, request: SignedRequest, exchange: Exchange) -> Future[AcmeAnswer]:
        """Return the account with its new key.

        Raises:
            AcmeProblem: the request is not acceptable, or the key belongs to an account.
        """
        account = request.owner
        key = self._new_key(request)
        if key.thumbprint == account.thumbprint:
            raise malformed("the account has this key already")
        changed = self._parts.records.change_key(account.id, account.thumbprint, key.text, key.thumbprint)

        def answer(change: KeyChange) -> AcmeAnswer:
            linker = self._parts.linker()
            if change.owner is not None:
                raise AcmeProblem(
                    "malformed",
                    "another account has this key",
                    status=409,
                    headers={"Location": linker.url("account", change.owner)},
                )
            if change.account is None:
                raise AcmeProblem("unauthorized", "the account has another key by now, or was ended")
            self._parts.tell("key changed", change.account, request, exchange)
            return account_answer(self._parts.known.learn(change.account), linker)

        return after(changed, answer)

    def _new_key(self, request: SignedRequest) -> PublicJwk:
        """Return the key that the inner JWS brings along and is signed by.

        Raises:
            AcmeProblem: something is wrong with it.
        """
        inner = Envelope.from_members(object_of(request.payload, "the payload"), _INNER)
        if inner.jwk is None:
            raise malformed(f"the protected header of {_INNER} needs 'jwk': the new key")
        if inner.nonce is not None:
            raise malformed(f"the protected header of {_INNER} must have no 'nonce'")
        if inner.url != request.url:
            raise malformed(f"'url' in the protected header of {_INNER} must be that of the request")
        inner.verify(inner.jwk)
        members = object_of(inner.payload, f"the payload of {_INNER}")
        if text_of(members, "account", f"the payload of {_INNER}") != self._parts.linker().url(
            "account", request.owner.id
        ):
            raise malformed(f"'account' in the payload of {_INNER} must be the URL of the account")
        if PublicJwk.from_members(members.get("oldKey")).thumbprint != request.key.thumbprint:
            raise malformed(f"'oldKey' in the payload of {_INNER} must be the key that the account has")
        return inner.jwk
