"""An ACME CA as an issuer: one account, opened when it is first needed, and its orders."""

from __future__ import annotations

import copy
import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from acmems.challenges import Validator
from acmems.challenges.presented.journal import ProofJournal
from acmems.challenges.presented.note_files import NoteFiles
from acmems.challenges.presented.proofs import PresentedProofs
from acmems.exceptions import AccountError, AcmeException, CAProblem, CAUnavailable, DeadlinePassed
from acmems.issuers.acme.account import Account, AccountDirectory
from acmems.issuers.acme.certificates.clocks import ClockComparison
from acmems.issuers.acme.certificates.renewal_info import RenewalInfo, fetch
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.options import AccountOptions
from acmems.issuers.acme.ordering import Ordering
from acmems.issuers.acme.orders.open_orders import OpenOrders, OrderMemory
from acmems.issuers.acme.orders.placing import OrderTerms
from acmems.issuers.acme.problems import translating
from acmems.issuers.acme.proving import Proving
from acmems.issuers.acme.registration import Registrar, key_refused
from acmems.issuers.acme.session import Session
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.steps import Signal, StepLoop, Steps
from acmems.x509.csr import CertificateRequest

logger = logging.getLogger(__name__)

T = TypeVar("T")

_QUESTION_SECONDS = 30.0  # for which an answer about a renewal is waited for; it is asked again later


@dataclass(slots=True, eq=False)
class Client:
    """What speaks to the CA with one key.

    Args:
        account: the account of this key as the CA last described it, None while it is not known.
        is_refused: whether an order has failed since because of the account.
    """

    key: AccountKey
    session: Session
    proving: Proving
    ordering: Ordering
    clocks: ClockComparison
    account: Account | None = None
    is_refused: bool = False


@dataclass(slots=True)
class _Opening:
    """An opening of the account that goes on, and how it ended."""

    ended: Signal = field(default_factory=Signal)
    error: BaseException | None = None


class AcmeIssuer:
    """Turns certificate requests into chains at one CA.

    Methods that return steps run in `loop`; the others are for any thread but that of the loop, and wait.

    Args:
        options: the account and its CA.
        timeout: how long one conversation about the account, and one request about an order, may take, in
            seconds.
        clock: for deadlines, waits and dates.
        memory: remembers unfinished orders over a restart, None for nothing.
        journal: where proofs are noted that are presented; None: in files in the directory of the account.
        processes: that speak to the CA from the same address, this one among them.

    Attributes:
        directory: where the account's key and registration lie.
        loop: runs the steps.
    """

    def __init__(
        self,
        options: AccountOptions,
        timeout: float,
        clock: Clock = SYSTEM,
        memory: OrderMemory | None = None,
        *,
        journal: ProofJournal | None = None,
        processes: int = 1,
    ) -> None:
        self.options = options
        self.clock = clock
        self.directory = AccountDirectory(options.dir)
        self.loop = StepLoop(clock, name="acmems-issuer")
        self._timeout = timeout
        self._memory = memory
        self._processes = processes
        files = NoteFiles(options.dir / "presented")  # in which an earlier version may have left something
        self._proofs = PresentedProofs(clock, *([files] if journal is None else [journal, files]))
        self._opening: _Opening | None = None  # for the loop's thread
        self._lock = threading.Lock()  # guards what follows
        self._client: Client | None = None
        self._is_stopped = False

    # The account (RFC 8555 section 7.3)

    @property
    def account(self) -> Account | None:
        """The account as the CA last described it, None while it is not known."""
        return None if self._client is None else self._client.account

    @property
    def account_url(self) -> str | None:
        """The account's URL, None while it is not known."""
        account = self.account
        return None if account is None else account.url

    @property
    def is_account_known(self) -> bool:
        """Whether the CA has confirmed the account, and has refused no order because of it since."""
        client = self._client
        return client is not None and client.account is not None and not client.is_refused

    @property
    def key(self) -> AccountKey | None:
        """The account's key, None while it is not loaded."""
        return None if self._client is None else self._client.key

    @property
    def key_digest(self) -> str | None:
        """The SHA-256 of the account's public key as a CSR would show it, None while it is not loaded."""
        return None if self._client is None else self._client.key.digest

    @property
    def clock_ahead(self) -> timedelta | None:
        """How far the CA's clock is ahead of this server's, None where that is not known."""
        return None if self._client is None else self._client.clocks.ahead

    @property
    def client(self) -> Client:
        """What speaks to the CA.

        Raises:
            AccountError: the key is not loaded.
        """
        if self._client is None:
            raise AccountError("the account key is not loaded yet")
        return self._client

    def create_key(self) -> None:
        """Create a new private key of the configured `key-type`.

        Raises:
            AccountError: the account directory does not exist, or there is a key or registration already.
        """
        if self.directory.has_registration():
            raise AccountError(
                f"{self.directory.registration_file} exists, but its key does not: a lost account key is "
                f"never replaced silently. Restore account.pem, or remove registration.json to begin anew"
            )
        self.directory.save_key(AccountKey.generate(self.options.key_type))

    def load_key(self) -> AccountKey:
        """Load the account's key, and get ready to speak to the CA with it.

        Raises:
            AccountError: the key cannot be used, or `ca-file` cannot.
        """
        key = self.directory.load_key()
        if self.key_digest != key.digest:
            self._replace_client(self._client_with(key))
        return key

    def _client_with(self, key: AccountKey) -> Client:
        try:
            session = Session(
                self.options.directory_url,
                key,
                self.loop,
                ca_file=self.options.ca_file,
                hosts=self.options.hosts,
                processes=self._processes,
            )
        except ValueError as error:
            raise AccountError(f"the CA cannot be spoken to as [account] says: {error}") from error
        proving = Proving(session, key, self.loop, self._proofs, exchange_seconds=self._timeout)
        ordering = Ordering(
            session,
            proving,
            self.clock,
            open_orders=OpenOrders(self.clock, key.digest, self._memory),
            profile=self.options.profile,
            exchange_seconds=self._timeout,
            preferred_chain=self.options.preferred_chain,
        )
        return Client(key, session, proving, ordering, ClockComparison(session, self.clock))

    def _replace_client(self, client: Client) -> None:
        """Speak to the CA by this client from now on, unless another thread has made one with its key."""
        with self._lock:
            if self.key_digest == client.key.digest:
                return
            replaced, self._client = self._client, client
            is_stopped = self._is_stopped
        if replaced is not None:
            replaced.session.close()
        if is_stopped:
            self._stop(client)

    def open(self, *, register: bool = True) -> Account:
        """Load the key, and ask the CA for the account.

        Args:
            register: whether a key that has no account yet gets one.

        Raises:
            AccountError: the account cannot be loaded, or the CA does not accept it.
            NeedToAgreeToTOS: the terms of service are not accepted.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        self.load_key()
        return self.refresh(register=register)

    def refresh(self, *, register: bool = True) -> Account:
        """Ask the CA for the account, and register it if there is none; errors are those of `open`."""
        return self.run(self._refresh(self.clock.deadline(self._timeout), register=register))

    def ensure_opened(self) -> None:
        """Open the account unless it is open, together with the orders that wait for it; as `open`."""
        self.run(self.opened(self.clock.deadline(self._timeout)))

    def reconfigure(self, options: AccountOptions, timeout: float) -> None:
        """Go by other options from now on; what goes on ends as it has begun.

        The account is asked for anew before the next order if it, or what was agreed with the CA, may be
        another by these options. `AccountOptions.fixed` must be the same.

        Args:
            options: the account and its CA.
            timeout: as for the constructor.
        """
        before, self.options, self._timeout = self.options, options, timeout
        client = self._client
        if client is None:
            return
        client.proving.exchange_seconds = client.ordering.exchange_seconds = timeout
        if dataclasses.replace(options, subject=before.subject) != before:
            client.account = None

    def deactivate(self) -> Account:
        """Deactivate the account at the CA, for good (section 7.3.6).

        Raises:
            AccountError, CAError, RateLimited, DeadlinePassed: it could not be done.
        """
        client, deadline = self.client, self.clock.deadline(self._timeout)
        client.account = self.run(self._registrar(client).deactivate(deadline))
        return client.account

    # Orders (section 7.4)

    def obtain(
        self,
        request: CertificateRequest,
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: str,
        terms: OrderTerms | None = None,
    ) -> Steps[bytes]:
        """Return a new chain for a request, as the CA sent it (PEM); open the account first if need be.

        Args:
            request: what is asked for.
            validators: what can prove the names, best first.
            deadline: when to give up; the order stays open then.
            identity: what makes two requests the same; an open order for the same is continued.
            terms: those of an order that has to be placed, None for none.

        Raises:
            ClocksDiffer: this server's clock, or that of the CA, is wrong.
            AcmeException: one of the errors of `Ordering.obtain` or `open`.
        """
        client = yield from self.opened(deadline.within(self._timeout))
        yield from client.clocks.check(deadline.within(self._timeout))
        ordering = client.ordering.obtain(request, validators, deadline, identity, terms)
        try:
            pem = yield from self._judged(client, ordering, deadline)
        except AccountError:
            client.is_refused = True
            raise
        client.is_refused = False
        return pem

    def renewal_info(self, certificate: str) -> Steps[RenewalInfo | None]:
        """Ask the CA when a certificate should be renewed; None where it offers no such information.

        Args:
            certificate: as `certificate_id` returns it.

        Raises:
            AccountError: the key is not loaded, without which the CA is not spoken to.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        deadline = self.clock.deadline(min(self._timeout, _QUESTION_SECONDS))
        return (yield from fetch(self.client.session, certificate, deadline, self.clock.now()))

    def _judged(self, client: Client, ordering: Steps[bytes], deadline: Deadline) -> Steps[bytes]:
        """Order, and raise what is the account's as an error of the account."""
        try:
            return (yield from ordering)
        except AcmeException as error:
            yield from self._check_account(client, error, deadline.within(self._timeout))
            raise

    def _check_account(self, client: Client, error: AcmeException, deadline: Deadline) -> Steps[None]:
        """Raise what an error of an order is, if it is the account's.

        `unauthorized` is what a name is answered that could not be validated, and a deactivated account
        (sections 6.7, 7.3.6): where no identifier is named, the account itself tells.
        """
        problem = error if isinstance(error, CAProblem) else error.__cause__
        if not isinstance(problem, CAProblem):
            return
        if problem.code == "badSignatureAlgorithm":
            raise key_refused(problem, client.key, self.directory) from problem
        if problem.code != "unauthorized" or any(name for name, *_ in problem.subproblems):
            return
        try:
            yield from self._refresh(deadline, register=False)
        except AccountError as meaning:
            raise meaning from problem
        except AcmeException as other:
            logger.debug("whether the account is valid cannot be told: %s", other)

    def opened(self, deadline: Deadline) -> Steps[Client]:
        """Return what speaks to the CA; open the account first if need be, once however many wait for it.

        Raises:
            AcmeException: one of the errors of `open`.
        """
        while self.account is None:
            opening = self._opening
            if opening is None:
                yield from self._open(deadline)
                continue
            if not (yield opening.ended.wait(deadline.remaining)):
                raise DeadlinePassed("the account could not be opened at the CA in time")
            if opening.error is not None and not isinstance(opening.error, DeadlinePassed):
                raise copy.copy(opening.error)  # each who waits gets one with a traceback of its own
            # Where only the time of somebody else was over, it is tried again.
        return self.client

    def probe(self, seconds: float) -> bool:
        """Tell whether the CA answers, and compare clocks with it; ask for the account if it is not known.

        For any thread but that of the loop.

        Args:
            seconds: after which the CA does not answer.
        """
        try:
            return self.run(self._probe(self.clock.deadline(seconds)))
        except AcmeException as error:
            logger.debug("whether the CA answers cannot be told: %s", error)
            return False

    def _probe(self, deadline: Deadline) -> Steps[bool]:
        answers = yield from self.client.clocks.compare(deadline)
        if answers and not self.is_account_known:
            try:
                yield from self.opened(deadline)
                if not self.is_account_known:
                    yield from self._refresh(deadline, register=False)
            except AcmeException as error:
                logger.warning("the account is not known: %s", error)
        return answers

    def sweep(
        self, validators: Mapping[str, Validator], on_progress: Callable[[], None] = lambda: None
    ) -> None:
        """Withdraw the proofs that a crash, or a validator that did not work, has left behind.

        Args:
            validators: what may have presented them, by name.
            on_progress: called after each batch of proofs.
        """
        self._proofs.sweep(validators, on_progress)

    def stop(self) -> None:
        """End all that goes on with the CA, now and from now on; unfinished orders stay open there."""
        with self._lock:
            self._is_stopped = True
            client = self._client
        if client is not None:
            self._stop(client)

    def close(self) -> None:
        """Stop, and let go of threads."""
        self.stop()
        self.loop.close()

    def run(self, steps: Steps[T]) -> T:
        """Run steps in the loop, and wait for their outcome, which is also what they raise.

        Raises:
            CAUnavailable: this issuer is closed, or was closed before they ended.
        """
        try:
            future = self.loop.submit(steps)
        except RuntimeError:
            raise _stopping() from None
        try:
            return future.result()
        except CancelledError:
            raise _stopping() from None

    def _stop(self, client: Client) -> None:
        self.loop.soon(client.ordering.stop)
        self.loop.soon(client.proving.stop)
        client.session.close()

    def _open(self, deadline: Deadline) -> Steps[None]:
        if self._is_stopped:
            raise _stopping()
        opening = self._opening = _Opening()
        try:
            self.load_key()
            yield from self._refresh(deadline, register=True)
        except BaseException as error:
            opening.error = error
            raise
        finally:
            self._opening = None
            opening.ended.set()

    def _refresh(self, deadline: Deadline, *, register: bool) -> Steps[Account]:
        client, options = self.client, self.options
        with translating(()):
            account = yield from self._registrar(client).refresh(deadline, register=register)
        if self.options is options:  # otherwise it is asked for anew, as it is to be by now
            client.account, client.is_refused = account, False
        return account

    def _registrar(self, client: Client) -> Registrar:
        return Registrar(self.options, self.directory, client.session, client.key)


def _stopping() -> CAUnavailable:
    return CAUnavailable("this server is stopping; ask again")
