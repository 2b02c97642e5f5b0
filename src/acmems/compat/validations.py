"""Validations of names one step at a time, as the documented API takes them (RFC 8555 section 7.5)."""

from __future__ import annotations

import contextlib
import datetime
import functools
from collections.abc import Sequence
from typing import TypeVar

from acme import messages

from acmems.challenges import Validator
from acmems.compat import resources
from acmems.exceptions import (
    AcmeException,
    AuthorizationNotYetProcessed,
    AuthorizationNotYetRequested,
    CAProblem,
    CAProtocolError,
    ChallengeFailed,
    ChallengesUnknownStatus,
    DeadlinePassed,
    InvalidDomainName,
)
from acmems.issuers.acme.authorization import Authorization, parse
from acmems.issuers.acme.clients.client import Client
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.problems import translating
from acmems.issuers.acme.proving import Attempt
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Signal, Steps, gather
from acmems.x509.identifiers import Identifier

T = TypeVar("T")


class Validations:
    """The authorizations that a script has asked for, and their proofs.

    Args:
        issuer: speaks to the CA.
        clock: for deadlines and dates.
        seconds: how long one step may take.

    Attributes:
        authzrs: the authorizations by name, wildcards under their `*.` name.
    """

    def __init__(self, issuer: AcmeIssuer, clock: Clock, seconds: float) -> None:
        self.authzrs: dict[str, messages.AuthorizationResource] = {}
        self._attempts: dict[str, Attempt] = {}
        self._beginning: dict[str, Signal] = {}  # by name, set once the proof is presented
        self._issuer = issuer
        self._clock = clock
        self._seconds = seconds

    def acquire(self, validator: Validator, domains: Sequence[str]) -> list[messages.AuthorizationResource]:
        """Do what `ACMEManager.acquire_domain_validations` says."""
        deadline = self._deadline()
        names = [_identifier(domain) for domain in domains]
        missing = [name for name in dict.fromkeys(names) if not self._is_validated(name)]
        if missing:
            for authorization in self._run(self._acquire(validator, missing, deadline)):
                self.authzrs[authorization.name] = resources.to_resource(authorization)
        return [self.authzrs[name.value] for name in names]

    def _acquire(
        self, validator: Validator, names: Sequence[Identifier], deadline: Deadline
    ) -> Steps[list[Authorization]]:
        client = yield from self._issuer.opened(deadline)
        requested = yield from gather(self._request(client, name, deadline) for name in names)
        urls = [authorization.url for authorization in requested]
        try:
            return (yield from client.proving.prove(urls, names, [validator], deadline))
        except ChallengeFailed:
            # So that the CA is not asked for the same again.
            for url in urls:
                with contextlib.suppress(AcmeException):
                    authorization, _ = yield from client.proving.fetch(url, deadline)
                    if authorization.status == "invalid":
                        self.authzrs[authorization.name] = resources.to_resource(authorization)
            raise

    def evaluate(
        self,
        authzr: messages.AuthorizationResource,
        validator: Validator,
        refresh_timer: float | None = None,
    ) -> messages.AuthorizationResource:
        """Do what `ACMEManager.evaluate_domain_authorization` says."""
        name = resources.name_of(authzr)
        status = authzr.body.status
        if status in resources.ENDED:
            self._settle(name)
            return self.new(validator, name)
        self.authzrs[name] = authzr
        if status not in resources.KNOWN:
            self._settle(name)
            raise ChallengesUnknownStatus(f"the authorization of {name} has the unknown status {status}")
        authorization = resources.from_resource(authzr)
        if not authorization.is_undecided:
            self._settle(name)
            authorization.is_valid()
            return authzr
        attempt, expected = self._run(self._prove(authorization, validator, self._deadline()))
        if not attempt.requested.is_set() and attempt.sees_requests:
            raise AuthorizationNotYetRequested(attempt.requested)
        wait = expected if refresh_timer is None else refresh_timer
        raise AuthorizationNotYetProcessed(self._clock.now() + datetime.timedelta(seconds=wait))

    def _prove(
        self, authorization: Authorization, validator: Validator, deadline: Deadline
    ) -> Steps[tuple[Attempt, float]]:
        """Begin to prove a name unless that has begun; return the attempt and how long it usually takes."""
        client = yield from self._issuer.opened(deadline)
        name = authorization.name
        while (other := self._beginning.get(name)) is not None:  # of two, one would never be withdrawn
            if not (yield other.wait(deadline.remaining)):
                raise DeadlinePassed(f"the proof for {name} could not be presented in time")
        ended = self._beginning[name] = Signal()
        try:
            attempt = yield from self._attempt(client, authorization, validator, deadline)
        finally:
            del self._beginning[name]
            ended.set()
        return attempt, client.proving.after_request.expected

    def _attempt(
        self, client: Client, authorization: Authorization, validator: Validator, deadline: Deadline
    ) -> Steps[Attempt]:
        name = authorization.name
        attempt = self._attempts.get(name)
        if attempt is not None and attempt.authorization.url == authorization.url:
            return attempt
        yield from self._settle_steps(name)
        register = functools.partial(self._attempts.__setitem__, name)
        try:
            return (yield from client.proving.begin(authorization, validator, deadline, register))
        except AcmeException:
            yield from self._settle_steps(name)
            raise

    def refresh(self, validator: Validator, domain: str) -> messages.AuthorizationResource:
        """Do what `ACMEManager.refresh_domain_authorization` says."""
        name = _identifier(domain).value
        known = self.authzrs.get(name)
        if known is None:
            return self.new(validator, name)
        try:
            authorization, retry_after = self._run(self._fetch(known.uri, self._deadline()))
        except (CAProblem, ChallengesUnknownStatus):
            self._settle(name)
            raise
        return self.evaluate(resources.to_resource(authorization), validator, retry_after)

    def _fetch(self, url: str, deadline: Deadline) -> Steps[tuple[Authorization, float | None]]:
        client = yield from self._issuer.opened(deadline)
        return (yield from client.proving.fetch(url, deadline))

    def new(self, validator: Validator, domain: str) -> messages.AuthorizationResource:
        """Do what `ACMEManager.new_domain_authorization` says."""
        deadline, name = self._deadline(), _identifier(domain)

        def request() -> Steps[Authorization]:
            client = yield from self._issuer.opened(deadline)
            return (yield from self._request(client, name, deadline))

        return self.evaluate(resources.to_resource(self._run(request())), validator)

    def _request(self, client: Client, name: Identifier, deadline: Deadline) -> Steps[Authorization]:
        """Return a new authorization: by newAuthz where the CA has it (section 7.4.1), else by an order."""
        with translating([name.value]):
            directory = yield from client.session.directory(deadline)
            if "newAuthz" in directory and not name.is_wildcard:
                authorization = yield from _new_authz(client, directory["newAuthz"], name, deadline)
            else:
                order = yield from client.ordering.create([name], deadline)
                authorization, _ = yield from client.proving.fetch(order.authorizations[0], deadline)
        if authorization.identifier != name:
            raise CAProtocolError("the CA answered with an authorization for another name than was asked for")
        return authorization

    def _is_validated(self, name: Identifier) -> bool:
        authzr = self.authzrs.get(name.value)
        if authzr is None or authzr.body.status in resources.ENDED:
            return False
        expired = resources.has_expired(authzr, self._clock.now())
        return not expired and resources.from_resource(authzr).is_valid()

    def _settle(self, name: str) -> None:
        if name in self._attempts:
            self._run(self._settle_steps(name))

    def _settle_steps(self, name: str) -> Steps[None]:
        attempt = self._attempts.pop(name, None)
        if attempt is not None:
            client = yield from self._issuer.opened(self._deadline())
            yield from client.proving.withdraw(attempt)

    def _run(self, steps: Steps[T]) -> T:
        return self._issuer.run(steps)

    def _deadline(self) -> Deadline:
        return self._clock.deadline(self._seconds)


def _new_authz(client: Client, url: str, name: Identifier, deadline: Deadline) -> Steps[Authorization]:
    """Ask for an authorization without an order (section 7.4.1)."""
    payload = {"identifier": {"type": name.type.value, "value": name.value}}
    response = yield from client.session.post(url, payload, deadline=deadline, repeatable=False)
    if response.location is None:
        raise CAProtocolError("the CA answered a new authorization without its URL")
    return parse(response, response.location)


def _identifier(domain: str) -> Identifier:
    try:
        return Identifier.dns(domain)
    except ValueError as error:
        raise InvalidDomainName(domain, str(error)) from None
