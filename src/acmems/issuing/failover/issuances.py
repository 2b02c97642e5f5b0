"""The issuances of all accounts, and the way of a request from one CA to the next."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future

from acmems.challenges import Validator
from acmems.exceptions import AcmeException, CAUnavailable
from acmems.issuers.local.options import LOCAL
from acmems.issuing.contract import Workload, refuse_key_of_account
from acmems.issuing.failover.preparing import prepare
from acmems.issuing.failover.skipping import in_one, may_go_elsewhere
from acmems.issuing.issuance import Issuance
from acmems.issuing.preparing.preparation import PreparationRequest
from acmems.issuing.renewal.times import RenewalOutlook
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.issuing.running import stopping
from acmems.storages import Storage
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Signal, Steps
from acmems.x509.chain import Chain

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks whether a CA that has an order still answers."""
SILENCE_SECONDS = 15.0
"""For which a CA may leave all that is asked unanswered before a request goes to another."""


class Issuances:
    """Has each request issued by the first account of its block's list whose CA can.

    What is stored and fresh is delivered whichever of them has issued it: going back to the first is no
    reason to order anew. A request for which only one account may order is left to that.

    Args:
        by_name: the issuances, by the names of their accounts; the one without a name comes first.
        clock: for waits.
    """

    def __init__(self, by_name: Mapping[str, Issuance], clock: Clock) -> None:
        self._by_name = dict(by_name)
        self._clock = clock

    def __iter__(self) -> Iterator[Issuance]:
        """Iterate over the issuances."""
        return iter(self._by_name.values())

    def of(self, name: str) -> Issuance:
        """Return the issuance of an account."""
        return self._by_name[name]

    def identities(self, accepted: AcceptedRequest) -> dict[str, str]:
        """Return what makes requests the same as this one at each account that may order it, as digests.

        Returns:
            the names of the accounts, by the digests, best first.
        """
        digests = ((self._by_name[name].key(accepted.request).digest, name) for name in accepted.issuers)
        found: dict[str, str] = {}
        for digest, name in digests:
            found.setdefault(digest, name)
        return found

    def issue(self, accepted: AcceptedRequest) -> Future[Delivery]:
        """Return a chain for an accepted request, at once if it is stored and fresh.

        Returns:
            a future; it holds the chain, or an `AcmeException` that tells why there is none.

        Raises:
            PayloadInvalid: the CSR is for the key of an account, or for a compromised one.
            StorageUnavailable: the storage cannot tell what it holds.
            CAUnavailable: nothing is stored, and the server is stopping.
        """
        first = self._by_name[accepted.issuers[0]]
        if len(accepted.issuers) == 1:
            return first.issue(accepted)
        for each in self:
            refuse_key_of_account(accepted.request, each.issuer.key_digest)
        first.admit(accepted)
        future: Future[Delivery] = Future()
        if accepted.storage.is_local and (chain := self.fresh(accepted)) is not None:
            future.set_result(Delivery(chain, "stored"))
            return future
        attempt = _Passage(self._by_name, accepted, future, self._clock)
        try:
            first.issuer.loop.submit(attempt.run())
        except RuntimeError:  # the loop is closed
            raise stopping() from None
        return future

    def prepare(self, request: PreparationRequest) -> Future[None]:
        """Have names proved before there is a CSR, so that `issue` goes on with that order.

        Returns:
            a future, as `Preparations.begin` does.
        """
        return prepare(self._by_name, request)

    def fresh(self, accepted: AcceptedRequest) -> Chain | None:
        """Return the first chain that is stored for a request and needs no renewal; it blocks.

        Raises:
            StorageUnavailable: the storage cannot tell what it holds.
        """
        chains = (self._by_name[name].fresh(accepted) for name in accepted.issuers)
        return next((chain for chain in chains if chain is not None), None)

    @property
    def first(self) -> Issuance:
        """That of the account without a name, or of the only one."""
        return next(iter(self))

    def outlook(self, chain: Chain, storage: Storage, now: datetime.datetime) -> RenewalOutlook:
        """Return when a chain is to be renewed, whichever account has it from its CA."""
        return self.first.outlook(chain, storage, now)

    @property
    def workload(self) -> Workload:
        """What is to be done, and what is being done, by all together."""
        return functools.reduce(_added, (each.workload for each in self))

    def uses(self, validator: Validator) -> bool:
        """Tell whether an issuance that runs or waits for its turn may prove names by a validator."""
        return any(each.uses(validator) for each in self)

    def adapt(self, most_at_once: int, most_waiting: int) -> None:
        """Go by other limits from now on: how many issuances of each account may run, and may wait."""
        for each in self:
            each.adapt(most_at_once, most_waiting)

    def save_kept(self) -> None:
        """Try again to store the chains that could not be stored; called from time to time."""
        for each in self:
            each.save_kept()

    def let_go(self) -> None:
        """Answer all clients that seem to have hung up, so that a stop does not wait for their orders."""
        for each in self:
            each.let_go()

    def drain(self, deadline: Deadline) -> None:
        """Begin no further issuance, and wait for those that somebody waits for; others are refused."""
        for each in self:
            each.drain(deadline)

    def close(self, deadline: Deadline) -> None:
        """Begin no further issuance, and wait for those that run; those that have not begun are refused."""
        for each in self:
            each.close(deadline)


class _Passage:
    """The way of one request from one CA to the next, until one has issued it.

    Args:
        issuances: those of all accounts.
        accepted: the request.
        future: told the outcome.
        clock: for waits.
    """

    def __init__(
        self,
        issuances: Mapping[str, Issuance],
        accepted: AcceptedRequest,
        future: Future[Delivery],
        clock: Clock,
    ) -> None:
        self._issuances = {name: issuances[name] for name in accepted.issuers}
        self._accepted = accepted
        self._future = future
        self._clock = clock
        self._errors: dict[str, AcmeException] = {}  # by the account

    def run(self) -> Steps[None]:
        """Tell the outcome, whatever it is."""
        try:
            delivery = yield from self._pass()
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits must hear of it
            self._future.set_exception(stopping() if isinstance(error, CancelledError) else error)
        else:
            self._future.set_result(delivery)

    def _pass(self) -> Steps[Delivery]:
        if not self._accepted.storage.is_local:
            for issuance in self._issuances.values():
                chain = yield from issuance.look_up(self._accepted)
                if chain is not None:
                    return Delivery(chain, "stored")
        try:
            return (yield from self._try_each())
        except AcmeException as error:
            for issuance in self._issuances.values() if self._accepted.takes_stale else ():
                stale = yield from issuance.stale(self._accepted, error)
                if stale is not None:
                    return stale
            raise

    def _try_each(self) -> Steps[Delivery]:
        running = [name for name, each in self._issuances.items() if each.is_running(self._accepted)]
        left = list(dict.fromkeys([*running, *self._issuances]))
        are_all_down = not any(name in running or self._is_ready(name) for name in left)
        while left:
            name = left.pop(0)
            # Only now: a CA that may be tried again is tried once, which a request must not use up that may
            # never come to it.
            if not (are_all_down or name in running or self._issuances[name].breaker.admit()):
                continue
            is_last = not (left if are_all_down else any(map(self._is_ready, left)))
            delivery = yield from self._attempt(name, is_last=is_last)
            if delivery is not None:
                return delivery
        errors = {name: self._errors.get(name) or self._skipped(name) for name in self._issuances}
        raise in_one({self._called(name): error for name, error in errors.items()})

    def _is_ready(self, name: str) -> bool:
        return self._issuances[name].breaker.is_ready

    def _skipped(self, name: str) -> AcmeException:
        breaker = self._issuances[name].breaker
        return CAUnavailable("its CA did not answer lately", retry_after=breaker.seconds_left)

    def _attempt(self, name: str, *, is_last: bool) -> Steps[Delivery | None]:
        """Return what an account delivers; None where another one is to be tried.

        Raises:
            AcmeException: no other account would deliver more.
        """
        issuance, has_left = self._issuances[name], False

        def gone() -> bool:
            return has_left or self._accepted.gone()

        accepted = dataclasses.replace(self._accepted, gone=gone, takes_stale=False)
        try:
            future = issuance.attempt(accepted)
            if (yield from self._wait(issuance, future, is_last=is_last)):
                return future.result()
            has_left = True
            directory = issuance.identity.directory
            raise CAUnavailable(f"{directory} has not answered for {SILENCE_SECONDS:.0f} seconds")
        except AcmeException as error:
            if not may_go_elsewhere(error):
                raise
            self._errors[name] = error
            names = ", ".join(self._accepted.request.names)
            logger.warning("%s is not issued by %s: %s", names, self._called(name), error)
            return None

    def _called(self, name: str) -> str:
        return called(name, self._issuances[name].identity.directory)

    def _wait(self, issuance: Issuance, future: Future[Delivery], *, is_last: bool) -> Steps[bool]:
        """Wait for an attempt, and return whether it has ended; False where its CA has fallen silent."""
        ended, loop = Signal(), self._issuances[self._accepted.issuers[0]].issuer.loop
        future.add_done_callback(lambda _: loop.soon(ended.set))
        while not (yield ended.wait(None if is_last else LOOK_SECONDS)):
            if issuance.issuer.silence >= SILENCE_SECONDS:
                issuance.breaker.trip()
                return False
        return True


def called(name: str, directory: str = "") -> str:
    """Return what an account or a local CA is called in words for a person: its section.

    Args:
        name: its name.
        directory: the URL of the directory of its CA, or what stands for a local CA.
    """
    if directory.startswith(LOCAL):
        return f'[local-ca "{name}"]'
    return f'[account "{name}"]' if name else "[account]"


def _added(one: Workload, other: Workload) -> Workload:
    values = (a + b for a, b in zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True))
    return Workload(*values)
