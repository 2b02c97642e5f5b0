"""An ACME CA as an issuer: one account, opened when it is first needed, and its orders."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Self, TypeVar

from acmems.challenges import Validator
from acmems.challenges.presented.journal import ProofJournal
from acmems.challenges.presented.note_files import NoteFiles
from acmems.challenges.presented.proofs import PresentedProofs
from acmems.exceptions import AccountError, AcmeException, CAProblem
from acmems.issuers.acme.account import Account, AccountDirectory
from acmems.issuers.acme.clients.alternates import AlternateDownloads
from acmems.issuers.acme.clients.client import Client, make_client, session_with
from acmems.issuers.acme.clients.gate import OrderGate
from acmems.issuers.acme.clients.opening import SharedOpening
from acmems.issuers.acme.clients.rotation import KeyRotation
from acmems.issuers.acme.clients.running import run, stopping
from acmems.issuers.acme.clients.standing import judged
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.options import AccountOptions
from acmems.issuers.acme.ordering import Ordering
from acmems.issuers.acme.orders.open_orders import OpenOrders, OrderMemory
from acmems.issuers.acme.orders.placing import OrderTerms
from acmems.issuers.acme.problems import translating
from acmems.issuers.acme.registration import Registrar
from acmems.issuers.acme.session import Session
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.steps import StepLoop, Steps, pause
from acmems.x509.chain import OfferedChain
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier

logger = logging.getLogger(__name__)

T = TypeVar("T")

# What a CA may say of a request that is signed with a key that the account has not got any more.
_OF_KEY = frozenset({"malformed", "unauthorized"})
_KEY_SECONDS, _KEY_LOOK_SECONDS = 10.0, 0.2  # for another process to end its change of the key


class AcmeIssuer:
    """Turns certificate requests into chains at one CA.

    Methods that return steps run in `loop`; the others are for any thread but that of the loop, and wait.

    Args:
        options: the account and its CA.
        timeout: seconds that one conversation about the account, or one request about an order, may take.
        clock: for deadlines, waits and dates.
        memory: remembers unfinished orders over a restart, None for nothing.
        journal: where proofs are noted that are presented; None: in files in the directory of the account.
        processes: that speak to the CA from the same address, this one among them.

    Attributes:
        directory: where the account's key and registration lie.
        loop: runs the steps.
        alternates: gets further chains of certificates.
        on_new_key: called when the account has got another key, in a thread that may wait.
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
        self._processes = processes
        files = NoteFiles(options.dir / "presented")  # in which an earlier version may have left something
        self.on_new_key: Callable[[], None] = lambda: None
        self._proofs = PresentedProofs(clock, *([files] if journal is None else [journal, files]))
        self._open_orders = OpenOrders(clock, memory=memory)
        self._gate = OrderGate(self.loop)
        self.alternates = AlternateDownloads(self.admitted)
        self._opening = SharedOpening(lambda: self.account is not None, self._open)
        self._lock = threading.Lock()  # guards what follows
        self._client: Client | None = None
        self._is_stopped = False

    @property
    def account(self) -> Account | None:
        """The account as the CA last described it, None while it is not known."""
        return None if self._client is None else self._client.account

    @property
    def account_url(self) -> str | None:
        """The account's URL, also before the CA has confirmed it; None while it is not known."""
        account = self.account
        return self.directory.registered_url if account is None else account.url

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
    def silence(self) -> float:
        """Seconds for which the CA has answered nothing that was asked; 0 while nothing is."""
        return 0.0 if self._client is None else self._client.session.silence

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
        self.directory.create_key(self.options.key_type)

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
        return make_client(
            *(key, self._session_with(key), self.options, self._proofs, self._open_orders),
            loop=self.loop,
            exchange_seconds=self._timeout,
        )

    def _session_with(self, key: AccountKey) -> Session:
        return session_with(key, self.options, self.loop, self._processes)

    def _replace_client(self, client: Client) -> None:
        """Speak to the CA by this client from now on, unless another thread has made one with its key."""
        with self._lock:
            if self.key_digest == client.key.digest:
                return
            replaced, self._client = self._client, client
            is_stopped = self._is_stopped
        if replaced is not None:
            replaced.session.close()
            self.loop.soon(self._open_orders.note_new_key)
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
        client.reconfigure(options, timeout)
        if dataclasses.replace(options, subject=before.subject, pre_checks=before.pre_checks) != before:
            client.account = None

    def deactivate(self) -> Account:
        """Deactivate the account at the CA, for good (section 7.3.6).

        Raises:
            AccountError, CAError, RateLimited, DeadlinePassed: it could not be done.
        """
        client, deadline = self.client, self.clock.deadline(self._timeout)
        client.account = self.run(self._registrar(client).deactivate(deadline))
        client.is_refused = True
        return client.account

    def rotate_key(
        self, key_type: str | None = None, progress: Callable[[str], None] = lambda _: None
    ) -> Account:
        """Give the account another key (section 7.3.5), and go on with that.

        No order is begun at the CA meanwhile, because what proves names changes with the key; whoever asks
        for one waits. Orders that run are waited for, and begin again by the new key if that takes too long.

        Args:
            key_type: one of `KEY_TYPES`, None for the configured one.
            progress: told what is waited for.

        Raises:
            AccountError: the CA does not do it, or the files cannot be changed.
            FateUnknown: it is not known yet whether the CA has done it; both keys are kept.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        self.ensure_opened()
        if self.directory.has_next_key():
            self.refresh(register=False)
        with self.directory.changing_key():
            self.directory.require_no_next_key()
            self.run(self._rotation().url(self.client.session, self.clock.deadline(self._timeout)))
            key = AccountKey.generate(key_type or self.options.key_type)
            self.directory.save_next_key(key)
            with self._gate.closed(self.clock, progress):
                self.run(self._change_key(key))
                self.directory.use_next_key()
        self.on_new_key()
        return self._described()

    def _change_key(self, key: AccountKey) -> Steps[None]:
        before, deadline = self.client, self.clock.deadline(self._timeout)
        yield from self._rotation().change(before.session, before.key, key, deadline)
        client = self._client_with(key)
        client.account, client.session.kid = before.account, before.session.kid
        self._replace_client(client)
        logger.info("the key of the account was changed: its thumbprint is %s now", key.thumbprint)

    def _described(self) -> Account:
        """Return the account, as the CA describes it where that works."""
        try:
            return self.refresh(register=False)
        except AcmeException as error:
            if (account := self.account) is None:
                raise
            logger.warning("the account cannot be asked for with its new key: %s", error)
            return account

    def _rotation(self) -> KeyRotation:
        return KeyRotation(self.options, self.directory, self._session_with, self.clock.now)

    def _settle(self, deadline: Deadline) -> Steps[None]:
        """Find out which key the account has, where a change of it was begun and not ended."""
        with self.directory.changing_key():
            if self.directory.has_next_key():
                yield from self._rotation().settle(deadline)
        self.load_key()

    @property
    def preparing(self) -> Self:
        """Has names proved before there is a CSR."""
        return self

    def has_prepared(self, identity: str) -> bool:
        """Tell whether an order is open that was prepared for some names."""
        return self._open_orders.get(identity) is not None

    def prepare(
        self,
        identifiers: Sequence[Identifier],
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: str,
        terms: OrderTerms | None = None,
    ) -> Steps[None]:
        """Place an order for names and have them proved, and leave it to the next `obtain` for them.

        Args:
            identifiers: what is to be ordered.
            validators: as for `obtain`.
            deadline: as for `obtain`.
            identity: what makes two preparations the same; an open order for the same is continued.
            terms: as for `obtain`.

        Raises:
            AcmeException: as `obtain`.
        """
        yield from self._by_account(
            deadline, lambda orders: orders.prepare(identifiers, validators, deadline, identity, terms)
        )

    def obtain(
        self,
        request: CertificateRequest,
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: str,
        terms: OrderTerms | None = None,
        *,
        prepared: str | None = None,
    ) -> Steps[OfferedChain]:
        """Return a new chain for a request, as the CA sent it (PEM).

        Args:
            request: what is asked for.
            validators: what can prove the names, best first.
            deadline: when to give up; the order stays open then.
            identity: what makes two requests the same; an open order for the same is continued.
            terms: those of an order that has to be placed, None for none.
            prepared: what `prepare` was given for the same names: an order that it has left is taken.

        Raises:
            ClocksDiffer: this server's clock, or that of the CA, is wrong.
            AcmeException: one of the errors of `Ordering.obtain` or `open`.
        """

        def order(orders: Ordering) -> Steps[OfferedChain]:
            return orders.obtain(request, validators, deadline, identity, terms, prepared=prepared)

        return (yield from self._by_account(deadline, order))

    def _by_account(self, deadline: Deadline, order: Callable[[Ordering], Steps[T]]) -> Steps[T]:
        """Order something with the key that the account has."""
        while True:
            client = yield from self.admitted(deadline)
            try:
                with self._gate.under_way():
                    yield from client.clocks.check(deadline.within(self._timeout))
                    look = self._refresh(deadline.within(self._timeout), register=False)
                    ordered = yield from judged(order(client.ordering), client.key, self.directory, look)
            except AcmeException as error:
                if (yield from self._has_another_key(client, error, deadline)):
                    logger.info("the account has another key by now: the order begins again with that")
                    continue
                client.is_refused = client.is_refused or isinstance(error, AccountError)
                raise
            client.is_refused = False
            return ordered

    def admitted(self, deadline: Deadline) -> Steps[Client]:
        """Return what speaks to the CA, once the account is open and no change of its key goes on.

        Raises:
            AcmeException: one of the errors of `open`.
        """
        while True:
            yield from self._gate.pass_through(deadline)
            client = yield from self.opened(deadline.within(self._timeout))
            if self._gate.is_open:
                return client

    def _has_another_key(self, client: Client, error: AcmeException, deadline: Deadline) -> Steps[bool]:
        """Tell whether an error is by an account key that was changed meanwhile, here or elsewhere."""
        problem = error if isinstance(error, CAProblem) else error.__cause__
        if not isinstance(problem, CAProblem) or problem.code not in _OF_KEY:
            return self._client is not client
        looking = deadline.within(_KEY_SECONDS)
        while self._client is client:
            try:
                if self.directory.has_next_key():
                    yield from self._settle(looking)
                self.load_key()
                break
            except AcmeException as other:
                # Another process may be between the CA's answer and the renaming of the key.
                if not isinstance(other, AccountError) or other.retry_after is None or looking.passed:
                    logger.debug("whether the account has another key cannot be told: %s", other)
                    break
            yield pause(_KEY_LOOK_SECONDS)
        return self._client is not client

    def opened(self, deadline: Deadline) -> Steps[Client]:
        """Return what speaks to the CA; open the account first if need be, once however many wait for it.

        Raises:
            AcmeException: one of the errors of `open`.
        """
        yield from self._opening.wait(deadline)
        return self.client

    def probe(self, seconds: float) -> bool:
        """Tell whether the CA answers, and compare clocks with it; ask for the account if it is not known.

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
        return run(self.loop, steps)

    def _stop(self, client: Client) -> None:
        self.loop.soon(client.ordering.stop)
        self.loop.soon(client.proving.stop)
        client.session.close()

    def _open(self, deadline: Deadline) -> Steps[None]:
        if self._is_stopped:
            raise stopping()
        self.load_key()
        yield from self._refresh(deadline, register=True)

    def _refresh(self, deadline: Deadline, *, register: bool) -> Steps[Account]:
        if self.directory.has_next_key():
            yield from self._settle(deadline)
        client, options = self.client, self.options
        with translating(()):
            account = yield from self._registrar(client).refresh(deadline, register=register)
        if self.options is options:  # otherwise it is asked for anew, as it is to be by now
            client.account, client.is_refused = account, False
            self._open_orders.belong_to(account.url)
        return account

    def _registrar(self, client: Client) -> Registrar:
        return Registrar(self.options, self.directory, client.session, client.key)
