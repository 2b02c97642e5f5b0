"""Validations of names one step at a time, as the documented API takes them (RFC 8555 section 7.5)."""

from __future__ import annotations

import contextlib
import datetime
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from acme import messages

from acmems.challenges import Validator
from acmems.exceptions import (
    AcmeException,
    AuthorizationNotYetProcessed,
    AuthorizationNotYetRequested,
    CAProblem,
    CAProtocolError,
    ChallengeFailed,
    ChallengesUnknownStatus,
    InvalidDomainName,
)
from acmems.issuers.acme import authorization as authz
from acmems.issuers.acme.order import Orders, translating
from acmems.issuers.acme.proving import Attempt, Authorizations
from acmems.issuers.acme.session import Session
from acmems.issuers.acme.worker_pool import WorkerPool
from acmems.system.clock import Clock, Deadline
from acmems.x509.identifiers import Identifier


@dataclass(frozen=True, slots=True)
class Client:
    """What speaks to the CA for one key."""

    session: Session
    authorizations: Authorizations
    orders: Orders


class Validations:
    """The authorizations that a script has asked for, and their proofs.

    Args:
        connected: returns the way to the CA, and connects first if need be.
        workers: who makes several requests at once.
        clock: for deadlines and dates.
        seconds: how long one step may take.

    Attributes:
        authzrs: the authorizations by name, wildcards under their `*.` name.
    """

    def __init__(
        self, connected: Callable[[Deadline], Client], workers: WorkerPool, clock: Clock, seconds: float
    ) -> None:
        self.authzrs: dict[str, messages.AuthorizationResource] = {}
        self._attempts: dict[str, Attempt] = {}
        self._connected = connected
        self._workers = workers
        self._clock = clock
        self._seconds = seconds

    def acquire(self, validator: Validator, domains: Sequence[str]) -> list[messages.AuthorizationResource]:
        """Do what `ACMEManager.acquire_domain_validations` says."""
        deadline = self._deadline()
        names = [_identifier(domain) for domain in domains]
        missing = [name for name in dict.fromkeys(names) if not self._is_proved(name)]
        if missing:
            authzrs = self._workers.each(lambda name: self._request(name, deadline), missing)
            urls = [authzr.uri for authzr in authzrs]
            try:
                proved = self._authorizations(deadline).prove(urls, missing, [validator], deadline)
            except ChallengeFailed:
                self._keep_invalid(urls, deadline)
                raise
            for authzr in proved:
                self.authzrs[authz.name_of(authzr)] = authzr
        return [self.authzrs[name.value] for name in names]

    def _keep_invalid(self, urls: Sequence[str], deadline: Deadline) -> None:
        """Remember which authorizations failed, so that the CA is not asked for the same again."""
        for url in urls:
            with contextlib.suppress(AcmeException):
                authzr, _ = self._authorizations(deadline).fetch(url, deadline)
                if authzr.body.status == messages.STATUS_INVALID:
                    self.authzrs[authz.name_of(authzr)] = authzr

    def evaluate(
        self,
        authzr: messages.AuthorizationResource,
        validator: Validator,
        refresh_timer: float | None = None,
    ) -> messages.AuthorizationResource:
        """Do what `ACMEManager.evaluate_domain_authorization` says."""
        name = authz.name_of(authzr)
        status = authzr.body.status
        if status in authz.ENDED:
            self._settle(name)
            return self.new(validator, name)
        self.authzrs[name] = authzr
        if status not in authz.KNOWN:
            self._settle(name)
            raise ChallengesUnknownStatus(f"the authorization of {name} has the unknown status {status}")
        deadline = self._deadline()
        authorizations = self._authorizations(deadline)
        if not authz.is_open(authzr):
            self._settle(name)
            authz.is_valid(authzr)
            return authzr
        attempt = self._attempts.get(name)
        if attempt is None or attempt.authzr.uri != authzr.uri:
            self._settle(name)
            try:
                attempt = authorizations.begin(
                    authzr, validator, deadline, functools.partial(self._attempts.__setitem__, name)
                )
            except AcmeException:
                self._settle(name)
                raise
        if not attempt.requested.is_set() and attempt.sees_requests:
            raise AuthorizationNotYetRequested(attempt.requested)
        wait = authorizations.seen.expected if refresh_timer is None else refresh_timer
        raise AuthorizationNotYetProcessed(self._clock.now() + datetime.timedelta(seconds=wait))

    def refresh(self, validator: Validator, domain: str) -> messages.AuthorizationResource:
        """Do what `ACMEManager.refresh_domain_authorization` says."""
        name = _identifier(domain).value
        known = self.authzrs.get(name)
        if known is None:
            return self.new(validator, name)
        deadline = self._deadline()
        try:
            authzr, retry_after = self._authorizations(deadline).fetch(known.uri, deadline)
        except (CAProblem, ChallengesUnknownStatus):
            self._settle(name)
            raise
        return self.evaluate(authzr, validator, retry_after)

    def new(self, validator: Validator, domain: str) -> messages.AuthorizationResource:
        """Do what `ACMEManager.new_domain_authorization` says."""
        authzr = self._request(_identifier(domain), self._deadline())
        return self.evaluate(authzr, validator)

    def _request(self, name: Identifier, deadline: Deadline) -> messages.AuthorizationResource:
        """Return a new authorization: by newAuthz where the CA has it (section 7.4.1), else by an order."""
        client = self._connected(deadline)
        with translating([name.value]):
            directory = client.session.directory(deadline)
            if "newAuthz" in directory.to_partial_json() and not name.is_wildcard:
                authzr = _new_authz(client.session, directory["newAuthz"], name, deadline)
            else:
                order = client.orders.create([name], deadline)
                authzr, _ = client.authorizations.fetch(order.body.authorizations[0], deadline)
        if authz.identifier_of(authzr) != name:
            raise CAProtocolError("the CA answered with an authorization for another name than was asked for")
        return authzr

    def _is_proved(self, name: Identifier) -> bool:
        authzr = self.authzrs.get(name.value)
        if authzr is None or authzr.body.status in authz.ENDED:
            return False
        expired = authzr.body.expires is not None and authzr.body.expires <= self._clock.now()
        return not expired and authz.is_valid(authzr)

    def _settle(self, name: str) -> None:
        attempt = self._attempts.pop(name, None)
        if attempt is not None:
            self._authorizations(self._deadline()).withdraw(attempt)

    def _authorizations(self, deadline: Deadline) -> Authorizations:
        return self._connected(deadline).authorizations

    def _deadline(self) -> Deadline:
        return self._clock.deadline(self._seconds)


def _new_authz(
    session: Session, url: str, name: Identifier, deadline: Deadline
) -> messages.AuthorizationResource:
    """Ask for an authorization without an order (section 7.4.1)."""
    payload = {"identifier": {"type": name.type.value, "value": name.value}}
    answer = session.post(url, payload, deadline=deadline, repeatable=False)
    if answer.location is None:
        raise CAProtocolError("the CA answered a new authorization without its URL")
    return authz.parse(answer, answer.location)


def _identifier(domain: str) -> Identifier:
    try:
        return Identifier.dns(domain)
    except ValueError as error:
        raise InvalidDomainName(domain, str(error)) from None
