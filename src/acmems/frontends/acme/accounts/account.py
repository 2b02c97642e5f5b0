"""One account: what it is, its contacts, and its end (RFC 8555 sections 7.3.2 and 7.3.6)."""

from __future__ import annotations

from concurrent.futures import Future

from acmems.frontends.acme.accounts.contacts import read_contacts
from acmems.frontends.acme.accounts.document import account_answer
from acmems.frontends.acme.accounts.parts import AccountParts
from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.problems import AcmeProblem, malformed
from acmems.frontends.acme.requests import SignedRequest
from acmems.net.http import Exchange
from acmems.state.acme.accounts import AcmeAccount
from acmems.system.steps.futures import after


class AccountResource:
    """Shows, changes and ends the account that signs the request.

    Args:
        parts: what it needs.
    """

    def __init__(self, parts: AccountParts) -> None:
        self._parts = parts

    def __call__(self, request: SignedRequest, exchange: Exchange) -> AcmeAnswer | Future[AcmeAnswer]:
        """Return the account as it is, or as it is once it was changed.

        Raises:
            AcmeProblem: it is another's account, or the change is not acceptable.
        """
        account = own_account(request)
        if request.is_get:
            return account_answer(account, self._parts.linker())
        payload = request.json()
        if "status" in payload:
            if payload["status"] != "deactivated":
                raise malformed("'status' can only be changed to 'deactivated'")
            return after(
                self._parts.records.deactivate(account.id),
                lambda found: self._ended(found, request, exchange),
            )
        is_agreed = payload.get("termsOfServiceAgreed") is True
        if "contact" not in payload and not is_agreed:
            return account_answer(account, self._parts.linker())  # all else is ignored
        contacts = read_contacts(payload["contact"]) if "contact" in payload else account.contacts
        return after(
            self._parts.records.update(account.id, contacts, agreed=is_agreed),
            lambda found: self._changed(found, request, exchange),
        )

    def _changed(self, found: AcmeAccount | None, request: SignedRequest, exchange: Exchange) -> AcmeAnswer:
        if found is None or found.status != "valid":
            raise AcmeProblem("unauthorized", "the account was ended meanwhile", status=401)
        self._parts.tell("changed", found, request, exchange)
        return account_answer(self._parts.known.learn(found), self._parts.linker())

    def _ended(self, found: AcmeAccount | None, request: SignedRequest, exchange: Exchange) -> AcmeAnswer:
        if found is None:
            raise AcmeProblem("accountDoesNotExist", "there is no such account any more")
        self._parts.tell("deactivated", found, request, exchange)
        return account_answer(self._parts.known.learn(found), self._parts.linker())


def own_account(request: SignedRequest) -> AcmeAccount:
    """Return the account that signs a request, which must be the one that it is about.

    Raises:
        AcmeProblem: it is about another one.
    """
    account = request.owner
    if request.parameters != (account.id,):
        raise AcmeProblem("unauthorized", "this is the account of another client")
    return account
