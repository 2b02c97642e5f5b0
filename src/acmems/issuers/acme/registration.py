"""Registering, finding and refreshing the account at the CA (RFC 8555 section 7.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from acmems.exceptions import (
    AccountError,
    AcmeException,
    CAError,
    CAProblem,
    CAProtocolError,
    NeedToAgreeToTOS,
    RateLimited,
)
from acmems.issuers.acme.account import Account, AccountDirectory
from acmems.issuers.acme.directory import Directory
from acmems.issuers.acme.key import AccountKey, key_types_for
from acmems.issuers.acme.options import AccountOptions
from acmems.issuers.acme.session import Response, Session
from acmems.issuers.acme.session.jws import external_account_binding
from acmems.issuers.acme.session.origin import Origin
from acmems.system.clock import Deadline
from acmems.system.steps import Steps
from acmems.text import one_line

logger = logging.getLogger(__name__)

# Whether an order may be placed is decided by newOrder: that the account cannot be read or changed is no
# reason not to ask.
_REFUSALS = (CAError, RateLimited)
KEY_REFUSED = frozenset({"badPublicKey", "badSignatureAlgorithm"})
"""What a CA says of a request whose signature or key is of a kind that it does not take (section 6.7)."""


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
        more, or has deactivated it, a person must decide. Where the CA merely does not let it be read, or
        its contacts be changed, that is logged, and the account is used as it was known.

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
        if known is not None and self._is_of_ca(known.url):
            return (yield from self._read(known, terms, deadline))
        try:
            found = yield from self.find(directory, deadline)
        except CAProblem as problem:
            if known is not None or not register or problem.code == "userActionRequired":
                raise
            # Registering finds an account as well (section 7.3.1).
            logger.warning("the CA does not say whether it knows the account key: %s", problem)
            found = None
        if found is None:
            if known is not None:
                raise AccountError(
                    f"{self.directory.registration_file} is of another CA ({_origin(known.url)}), and "
                    f"{self.options.directory_url} does not know its key: give this CA a 'dir' of its own"
                )
            if not register:
                raise AccountError("the CA knows no account with this key: run 'acmems account register'")
            return (yield from self._register(directory, deadline))
        logger.info("the CA knows the account already: %s", found.url)
        return (yield from self._read(found, terms, deadline))

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
        return self._keep(self._account(answer, self.session.kid, None))

    def _check_terms(self, terms: str | None) -> None:
        accepted = self.options.accepted_terms
        if terms is not None and accepted is not True and terms not in accepted:
            raise NeedToAgreeToTOS(terms)

    def find(self, directory: Directory, deadline: Deadline) -> Steps[Account | None]:
        """Return the account that belongs to the key, None if there is none (section 7.3.1).

        Args:
            directory: the CA's.
            deadline: when to give up.

        Raises:
            AccountError: the account has ended, or the CA wants a binding that is not configured.
            CAProblem: the CA does not take the question.
        """
        question: dict[str, Any] = {"onlyReturnExisting": True}
        try:
            try:
                answer = yield from self._new_account(question, deadline)
            except CAProblem as problem:
                if problem.code != "externalAccountRequired":
                    raise
                logger.warning(
                    "the CA wants an external account binding even to say whether it knows the key (%s)",
                    problem.detail,
                )
                answer = yield from self._new_account(question | self._binding(directory), deadline)
        except CAProblem as problem:
            if problem.code == "accountDoesNotExist":
                return None
            if _is_unauthorized(problem):
                raise self._unauthorized("of this key", problem) from problem
            self._check_key(problem)
            raise
        url = self._located(answer)
        try:
            return self._account(answer, url, None)
        except CAProtocolError:
            return Account(url)  # its description is read later

    def _register(self, directory: Directory, deadline: Deadline) -> Steps[Account]:
        terms = directory.terms_of_service
        payload: dict[str, Any] = {"termsOfServiceAgreed": True} if terms is not None else {}
        payload["contact"] = self._contact
        if directory.external_account_required or self.options.eab_kid is not None:
            payload |= self._binding(directory)
        try:
            answer = yield from self._new_account(payload, deadline)
        except CAProblem as problem:
            self._check_key(problem)
            raise
        url = self._located(answer)
        logger.info("registered a new account: %s", url)
        return self._keep(self._account(answer, url, terms))

    def _binding(self, directory: Directory) -> dict[str, Any]:
        """Return the member of a newAccount request that binds the account (section 7.3.4).

        Raises:
            AccountError: the configuration has no key for it, or it cannot be read.
        """
        hmac_key = self.options.binding_key()
        if self.options.eab_kid is None or hmac_key is None:
            raise AccountError(
                f"the CA wants accounts bound to one of its customers: ask it for a key identifier and "
                f"an HMAC key, and add them to {self.options.section} as eab-kid and eab-hmac-key"
            )
        url = directory["newAccount"]
        binding = external_account_binding(self.key, self.options.eab_kid, hmac_key, url)
        return {"externalAccountBinding": binding}

    def _is_of_ca(self, url: str) -> bool:
        """Tell whether a URL is one of this CA: of the origin of its directory, or of an `acme-host`."""
        return self.options.is_of_ca(url)

    def _located(self, answer: Response) -> str:
        """Return the URL of the account that an answer is about."""
        if answer.location is None or not self._is_of_ca(answer.location):
            raise CAProtocolError("the CA answered for an account without its URL, or with one of another CA")
        return answer.location

    def _read(self, known: Account, terms: str | None, deadline: Deadline) -> Steps[Account]:
        """Return an account as the CA describes it, as it is known already where the CA does not."""
        url = self.session.kid = known.url
        try:
            answer = yield from self.session.post(url, None, deadline=deadline)
            account = self._account(answer, url, terms)
        except _REFUSALS as error:
            yield from self._check_refusal(url, error, deadline)
            logger.warning(
                "the CA does not tell about the account %s, which is used as it was: %s", url, error
            )
            account = known
        if account.status != "valid":
            raise AccountError(
                f"the account {url} is {one_line(account.status, 40)}: to begin a new one, move "
                f"{self.directory.both_files} away"
            )
        if account is not known and self._contact and list(account.contacts) != self._contact:
            account = yield from self._update_contacts(account, terms, deadline)
        return self._keep(account)

    def _update_contacts(self, account: Account, terms: str | None, deadline: Deadline) -> Steps[Account]:
        """Return the account with the configured contacts, as it is where the CA does not take them."""
        try:
            answer = yield from self.session.post(account.url, {"contact": self._contact}, deadline=deadline)
            return self._account(answer, account.url, terms)
        except _REFUSALS as error:
            self._check_usable(account.url, error)
            logger.warning(
                "the CA did not take the contacts that 'email' in [account] says; the account is used with "
                "those it has: %s",
                error,
            )
            return account

    def _check_refusal(self, url: str, error: AcmeException, deadline: Deadline) -> Steps[None]:
        """Raise what a refusal to show the account means, if it means that no order will be taken.

        `unauthorized` is what a deactivated account answers to everything (section 7.3.6), and some CAs
        to this request alone; `malformed` is said of the signature of another key, and of much else. Whether
        they know the key of an account in use tells these apart.
        """
        self._check_usable(url, error)
        if not isinstance(error, CAProblem) or error.code not in {"unauthorized", "malformed"}:
            return
        directory = yield from self.session.directory(deadline)
        is_said = True
        try:
            found = yield from self.find(directory, deadline)
        except (*_REFUSALS, AccountError):
            found, is_said = None, False
        if error.code == "unauthorized":
            if found is None or found.url != url or found.status != "valid":
                raise self._unauthorized(url, error) from error
        elif is_said and (found is None or found.url != url):
            whose = "no account" if found is None else f"another account, {found.url}"
            raise AccountError(
                f"the key in {self.directory.key_file} is that of {whose}, and not of {url} ({error}): put "
                f"that of the account there, which another server or a backup may have; to go on with this "
                f"key, move {self.directory.registration_file} away"
            ) from error

    def _check_usable(self, account: str, error: AcmeException) -> None:
        """Raise what a refusal asks of a person; return where the account can be used nevertheless."""
        if not isinstance(error, CAProblem):
            return
        if error.code == "accountDoesNotExist":
            raise AccountError(
                f"the CA does not know the account {account} ({error.detail}). It is not replaced silently: "
                f"to begin a new one with the same key, move {self.directory.registration_file} away"
            ) from error
        if error.code == "userActionRequired":
            raise error
        self._check_key(error)

    def _check_key(self, problem: CAProblem) -> None:
        if problem.code in KEY_REFUSED:
            raise key_refused(problem, self.key, self.directory) from problem

    def _unauthorized(self, account: str, error: AcmeException) -> AccountError:
        """Return the error for what only a deactivated or revoked account answers (section 7.3.6)."""
        return AccountError(
            f"the CA does not accept the account {account} ({error}). It is not replaced silently: "
            f"to begin a new one, with a new key, move {self.directory.both_files} away"
        )

    def _account(self, answer: Response, url: str, terms: str | None) -> Account:
        """Return the account that the CA describes; CAProtocolError where it cannot be read."""
        try:
            return Account.of(url, answer.json(), terms)
        except ValueError as error:
            raise CAProtocolError("the CA's account resource cannot be read") from error

    def _keep(self, account: Account) -> Account:
        """Use an account from now on, and write it down if it is not as it was."""
        self.session.kid = account.url
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


def key_refused(problem: CAProblem, key: AccountKey, directory: AccountDirectory) -> AccountError:
    """Return what to do where a CA does not take the account's key or its signatures (RFC 8555 section 6.2).

    Args:
        problem: the CA's problem, of one of the types in `KEY_REFUSED`.
        key: the account's key.
        directory: where it lies.
    """
    if problem.algorithms:
        types = key_types_for(problem.algorithms)
        listed = f"it lists {', '.join(problem.algorithms)}"
        advice = f"{listed}: set 'key-type' in [account] to {' or '.join(types)}"
        if not types:
            advice = f"{listed}, of which acmems has none; if that changes, set 'key-type' in [account]"
    else:
        advice = "it does not list what it takes: set another 'key-type' in [account]"
    return AccountError(
        f"the CA does not take the account key {directory.key_file}, {key.kind} with {key.algorithm} "
        f"({problem.detail}); {advice}, move {directory.both_files} away, and run 'acmems account register'"
    )


def _is_unauthorized(error: AcmeException) -> bool:
    return isinstance(error, CAProblem) and error.code == "unauthorized"


def _origin(url: str) -> str:
    """Return where a URL leads; a URL that no CA can have leads to itself."""
    try:
        return str(Origin.of(url))
    except ValueError:
        return one_line(url, 200)
