"""newAccount (RFC 8555 section 7.3)."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from acmems.frontends.acme.accounts.binding import Binding
from acmems.frontends.acme.accounts.contacts import read_contacts
from acmems.frontends.acme.accounts.document import account_answer
from acmems.frontends.acme.accounts.parts import AccountParts
from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.problems import AcmeProblem, malformed
from acmems.frontends.acme.requests import SignedRequest
from acmems.net.http import Exchange
from acmems.state.acme.accounts import AcmeAccount, NewAccount
from acmems.system.steps.futures import chained


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a client asks for.

    Args:
        contacts: its contacts.
        agreed: whether it agrees to the terms of service.
        only_existing: whether it only wants to know the account that its key has.
        binding: ties the account to an external one; None where the client sent none.
    """

    contacts: tuple[str, ...]
    agreed: bool
    only_existing: bool
    binding: Binding | None

    @classmethod
    def of(cls, request: SignedRequest) -> _Wish:
        payload = request.json()
        binding = None
        if "externalAccountBinding" in payload:
            binding = Binding.from_member(payload["externalAccountBinding"], request.url, request.key)
        return cls(
            contacts=read_contacts(payload.get("contact", [])),
            agreed=_flag(payload, "termsOfServiceAgreed"),
            only_existing=_flag(payload, "onlyReturnExisting"),
            binding=binding,
        )


class NewAccountResource:
    """Makes accounts.

    A key that has an account gets that one, whatever else the request says: so clients find their account
    again, without the external account that it was made with.

    Args:
        parts: what it needs.
    """

    def __init__(self, parts: AccountParts) -> None:
        self._parts = parts

    def __call__(self, request: SignedRequest, exchange: Exchange) -> Future[AcmeAnswer]:
        """Return the account of the key, which is made if there is none.

        Raises:
            AcmeProblem: the request is not acceptable.
        """
        wish = _Wish.of(request)
        found = self._parts.known.of_key(request.key.thumbprint)

        def go_on(known: AcmeAccount | None) -> Future[AcmeAnswer]:
            if known is not None:
                return _done(self._shown(known))
            if wish.only_existing:
                raise AcmeProblem("accountDoesNotExist", "there is no account with this key: register first")
            return self._make(wish, request, exchange)

        return chained(found, go_on)

    def _make(self, wish: _Wish, request: SignedRequest, exchange: Exchange) -> Future[AcmeAnswer]:
        parts = self._parts
        policy = parts.policy()
        blocks = policy.signing.auth.blocks
        parts.rates.require_room(request.client)
        kid, once = None, False
        if wish.binding is not None:
            method = wish.binding.verify(blocks)
            kid, once = method.kid, method.is_for_one
        elif policy.requires_external_account:
            raise AcmeProblem(
                "externalAccountRequired",
                "register with an external account: ask the administrator of this server for a key "
                "identifier and an HMAC key",
            )
        elif not policy.may_register(request.caller):
            raise AcmeProblem(
                "unauthorized", "no auth block of this server accepts this client: ask its administrator"
            )
        parts.rates.count(request.client)
        account = AcmeAccount(
            id="",
            key=request.key.text,
            thumbprint=request.key.thumbprint,
            contacts=wish.contacts,
            external_account=kid,
            created=parts.clock.now(),
            client=request.client,
            agreed=wish.agreed,
        )

        def go_on(made: NewAccount) -> Future[AcmeAnswer]:
            if made.account is None:
                raise AcmeProblem(
                    "unauthorized",
                    "another account is bound to this external account already: use its key, or ask the "
                    "administrator of this server for another external account",
                )
            if made.is_new:
                parts.tell("made", made.account, request, exchange)
            return _done(self._shown(parts.known.learn(made.account), 201 if made.is_new else 200))

        return chained(parts.records.add(account, once=once), go_on)

    def _shown(self, account: AcmeAccount, status: int = 200) -> AcmeAnswer:
        if account.status != "valid":
            raise AcmeProblem(
                "unauthorized", f"the account of this key is {account.status}: use another key", status=401
            )
        return account_answer(account, self._parts.linker(), status)


def _flag(payload: dict[str, Any], name: str) -> bool:
    value = payload.get(name, False)
    if not isinstance(value, bool):
        raise malformed(f"'{name}' must be true or false")
    return value


def _done(answer: AcmeAnswer) -> Future[AcmeAnswer]:
    future: Future[AcmeAnswer] = Future()
    future.set_result(answer)
    return future
