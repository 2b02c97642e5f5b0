"""Registering, finding and refreshing the account at the CA (RFC 8555 section 7.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from acmems.exceptions import AccountError, CAProblem, CAProtocolError, NeedToAgreeToTOS
from acmems.issuers.acme.account import Account, AccountDirectory
from acmems.issuers.acme.directory import Directory
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.options import AccountOptions
from acmems.issuers.acme.session import Response, Session
from acmems.issuers.acme.session.jws import external_account_binding
from acmems.issuers.acme.session.origin import Origin
from acmems.system.clock import Deadline
from acmems.system.steps import Steps
from acmems.text import one_line

logger = logging.getLogger(__name__)


class Registrar:
    """Keeps the account at the CA and the registration on disk the same.

    Args:
        options: what the configuration says of the account.
        directory: where key and registration lie.
        session: the way to the CA; its `kid` is set once the account is known.
        key: the account's key.
    """

    def __init__(
        self, options: AccountOptions, directory: AccountDirectory, session: Session, key: AccountKey
    ) -> None:
        self.options = options
        self.directory = directory
        self.session = session
        self.key = key

    def refresh(self, deadline: Deadline, *, register: bool = True) -> Steps[Account]:
        """Return the account as the CA knows it, registering it if it never was.

        An account that was registered before is never replaced: where the CA does not know it any
        more, or has deactivated it, a person must decide.

        Args:
            deadline: when to give up.
            register: whether a key that has no account yet gets one.

        Raises:
            NeedToAgreeToTOS: the CA's terms are not accepted by the configuration.
            AccountError: the CA does not accept the account.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        directory = yield from self.session.directory(deadline)
        terms = directory.terms_of_service
        self._check_terms(terms)
        known = self.directory.load_registration()
        if known is not None and _origin(known.url) == _origin(self.options.directory_url):
            return (yield from self._read(known.url, terms, deadline))
        url = yield from self._find(deadline)
        if url is None:
            if known is not None:
                raise AccountError(
                    f"{self.directory.registration_file} is of another CA ({_origin(known.url)}), and "
                    f"{self.options.directory_url} does not know its key: give this CA a 'dir' of its own"
                )
            if not register:
                raise AccountError("the CA knows no account with this key: run 'acmems account register'")
            return (yield from self._register(directory, deadline))
        logger.info("the CA knows the account already: %s", url)
        return (yield from self._read(url, terms, deadline))

    def deactivate(self, deadline: Deadline) -> Steps[Account]:
        """Deactivate the account, for good, and return what has become of it (section 7.3.6).

        Args:
            deadline: when to give up.

        Raises:
            AccountError: nobody has asked for the account yet.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        if self.session.kid is None:
            raise AccountError("the account is not known: call connect() first")
        answer = yield from self.session.post(self.session.kid, {"status": "deactivated"}, deadline=deadline)
        return self._save(answer, self.session.kid, None)

    def _check_terms(self, terms: str | None) -> None:
        accepted = self.options.accepted_terms
        if terms is not None and accepted is not True and terms not in accepted:
            raise NeedToAgreeToTOS(terms)

    def _find(self, deadline: Deadline) -> Steps[str | None]:
        """Return the URL of the account that belongs to the key, None if there is none (section 7.3.1)."""
        try:
            answer = yield from self._new_account({"onlyReturnExisting": True}, deadline)
        except CAProblem as problem:
            if problem.code == "accountDoesNotExist":
                return None
            if problem.code == "unauthorized":
                raise self._unauthorized("of this key", problem) from problem
            raise
        return answer.location

    def _register(self, directory: Directory, deadline: Deadline) -> Steps[Account]:
        terms = directory.terms_of_service
        payload: dict[str, Any] = {"termsOfServiceAgreed": True} if terms is not None else {}
        payload["contact"] = self._contact
        if self.options.eab_kid is not None and self.options.eab_hmac_key is not None:
            payload["externalAccountBinding"] = external_account_binding(
                self.key, self.options.eab_kid, self.options.eab_hmac_key, directory["newAccount"]
            )
        elif directory.external_account_required:
            raise AccountError(
                "the CA wants accounts bound to one of its customers: ask it for a key identifier and "
                "an HMAC key, and add them to [account] as eab-kid and eab-hmac-key"
            )
        answer = yield from self._new_account(payload, deadline)
        if answer.location is None or _origin(answer.location) != _origin(self.options.directory_url):
            raise CAProtocolError("the CA answered a new account without its URL, or with one of another CA")
        logger.info("registered a new account: %s", answer.location)
        return self._save(answer, answer.location, terms)

    def _read(self, url: str, terms: str | None, deadline: Deadline) -> Steps[Account]:
        self.session.kid = url
        try:
            answer = yield from self.session.post(url, None, deadline=deadline)
            if self._contact and answer.json().get("contact") != self._contact:
                answer = yield from self.session.post(url, {"contact": self._contact}, deadline=deadline)
        except CAProblem as problem:
            meaning = self._refused(url, problem)
            if meaning is None:
                raise
            raise meaning from problem
        status = answer.json().get("status")
        if status != "valid":
            raise AccountError(
                f"the account {url} is {one_line(status, 40)}: to begin a new one, move "
                f"{self.directory.both_files} away"
            )
        return self._save(answer, url, terms)

    def _refused(self, url: str, problem: CAProblem) -> AccountError | None:
        """Return what a CA's refusal of a registered account asks of a person, None if it is another's."""
        if problem.code == "unauthorized":
            return self._unauthorized(url, problem)
        if problem.code == "accountDoesNotExist":
            return AccountError(
                f"the CA does not know the account {url} ({problem.detail}). It is not replaced silently: "
                f"to begin a new one with the same key, move {self.directory.registration_file} away"
            )
        if problem.code in {"invalidContact", "unsupportedContact"}:
            return AccountError(
                f"the CA does not accept the contacts of the account: correct 'email' in [account] "
                f"({problem.detail})"
            )
        return None

    def _unauthorized(self, account: str, problem: CAProblem) -> AccountError:
        """Return the error for what only a deactivated or revoked account answers (section 7.3.6)."""
        return AccountError(
            f"the CA does not accept the account {account} ({problem.detail}). It is not replaced silently: "
            f"to begin a new one, with a new key, move {self.directory.both_files} away"
        )

    def _save(self, answer: Response, url: str, terms: str | None) -> Account:
        try:
            account = Account.of(url, answer.json(), terms)
        except ValueError as error:
            raise CAProtocolError("the CA's account resource cannot be read") from error
        self.session.kid = url
        if self.directory.load_registration() != account:
            self.directory.save_registration(account)
        return account

    def _new_account(self, payload: Mapping[str, Any], deadline: Deadline) -> Steps[Response]:
        url = (yield from self.session.directory(deadline))["newAccount"]
        # Section 7.3.1: repeating it finds the account that the first try made.
        return (yield from self.session.post(url, payload, deadline=deadline, use_jwk=True))

    @property
    def _contact(self) -> list[str]:
        return [f"mailto:{email}" for email in self.options.emails]


def _origin(url: str) -> str:
    """Return where a URL leads; a URL that no CA can have leads to itself."""
    try:
        return str(Origin.of(url))
    except ValueError:
        return one_line(url, 200)
