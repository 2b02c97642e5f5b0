"""The ACME manager: one account at one CA, its authorizations and its orders, on RFC 8555."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from acme import messages
from josepy.jwk import JWK

from acmems.challenges import ChallengeResponses, Validator
from acmems.challenges.presented.journal import Journal
from acmems.compat.validations import Client, Validations
from acmems.config import Configuration
from acmems.exceptions import AccountError, DeadlinePassed
from acmems.issuers.acme import account
from acmems.issuers.acme.account import AccountDirectory
from acmems.issuers.acme.order import Orders, translating
from acmems.issuers.acme.proving import Authorizations
from acmems.issuers.acme.registration import Registrar
from acmems.issuers.acme.session import Session
from acmems.issuers.acme.worker_pool import WorkerPool
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.x509.csr import CertificateRequest

logger = logging.getLogger(__name__)


class ACMEManager:
    """ACME manager - high level ACME client; process authorizations via http01 automatically.

    Any number of threads may use one manager at once.

    Args:
        config: the configuration to work by.
        connect: connect at once; otherwise call `connect` before anything that needs the CA.
        clock: for deadlines, waits and dates.

    Attributes:
        responses: what http-01 listeners answer, `responses[host][path] = value`.
        authzrs: the authorizations in play, by name (wildcards under their `*.` name).
        config: the active configuration.

    Raises:
        AccountError, NeedToAgreeToTOS, CAError: as `connect`, where it is asked for.
    """

    def __init__(self, config: Configuration, connect: bool = True, *, clock: Clock = SYSTEM) -> None:
        self.config = config
        self.clock = clock
        self.responses: ChallengeResponses = config.responses
        self.directory = AccountDirectory(config.account.dir)
        self._journal = Journal(config.account.dir / "presented")
        self.registration: messages.RegistrationResource | None = None
        self.key: JWK | None = None
        self.key_digest: str | None = None
        self._client: Client | None = None
        self._workers = WorkerPool()
        self._validations = Validations(self._connected, self._workers, clock, config.mgmt.request_timeout)
        self.authzrs = self._validations.authzrs
        self._lock = threading.Lock()  # guards what follows; never held while the CA is asked
        self._connecting: Future[None] | None = None
        if connect:
            self.connect()

    def log(self, *args: object) -> None:
        """Log something.

        Args:
            args: what to log; joined by blanks.
        """
        logger.info("%s", " ".join(str(arg) for arg in args))

    # The account (RFC 8555 section 7.3)

    def connect(self, *, register: bool = True) -> None:
        """Initialize ourself: load the private key, create the ACME client, refresh our registration.

        Args:
            register: whether a key that has no account yet gets one.

        Raises:
            AccountError: the account cannot be loaded, or the CA does not accept it.
            NeedToAgreeToTOS: the terms of service are not accepted; nothing can be done without.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        self.load_private_key()
        self.init_client()
        self.refresh_registration(register=register)

    def refresh_registration(self, *, register: bool = True) -> None:
        """Ask the CA for our account, and register it if there is none.

        Args:
            register: whether a key that has no account yet gets one.

        Raises:
            AcmeException: as `connect`, but for what concerns the key.
        """
        registrar = Registrar(self.config.account, self.directory, self.session, self.account_key)
        with translating(()):
            self.registration = registrar.refresh(self._deadline(), register=register)

    def load_private_key(self) -> None:
        """Load our private key, the key to identify ourself against the ACME server.

        This key MUST NOT be used for certificates.

        Raises:
            AccountError: something is broken with our account (mostly: key not found).
        """
        self.key = self.directory.load_key()
        self.key_digest = account.key_digest(self.key)

    def create_private_key(self, force: bool = False, key_size: int = 4096) -> None:
        """Create a new private key (RSA) to identify ourself against the ACME server.

        The key is read by `load_private_key` afterwards.

        Args:
            force: create a new key even if there is one already.
            key_size: its size in bits, at least 2048.

        Raises:
            AccountError: the account directory does not exist, or the key will not be overwritten.
            ValueError: the size is too small.
        """
        if key_size < 2048:  # noqa: PLR2004 - the bound that the documentation names
            raise ValueError(f"an account key needs at least 2048 bits, not {key_size}")
        self.directory.save_key(account.generate_rsa_key(key_size), force=force)

    def create_account_key(self) -> None:
        """Create a new private key of the configured `key-type`.

        Raises:
            AccountError: the account directory does not exist, or there is a key or registration already.
        """
        if self.directory.has_registration():
            raise AccountError(
                f"{self.directory.registration_file} exists, but its key does not: a lost account key is "
                f"never replaced silently. Restore account.pem, or remove registration.json to begin anew"
            )
        self.directory.save_key(account.generate_key(self.config.account.key_type))

    def init_client(self) -> None:
        """Create the ACME client.

        Raises:
            AccountError: `ca-file` cannot be used.
        """
        options, key = self.config.account, self.account_key
        try:
            session = Session(options.directory_url, key, ca_file=options.ca_file, clock=self.clock)
        except ValueError as error:
            raise AccountError(f"the CA cannot be spoken to as [account] says: {error}") from error
        authorizations = Authorizations(session, key, self._workers, self.clock, self._journal)
        orders = Orders(session, authorizations, self.clock, profile=options.profile)
        self._client = Client(session, authorizations, orders)

    def deactivate(self) -> None:
        """Deactivate the account at the CA, for good (section 7.3.6).

        Raises:
            AccountError, CAError, RateLimited, DeadlinePassed: it could not be done.
        """
        registrar = Registrar(self.config.account, self.directory, self.session, self.account_key)
        self.registration = registrar.deactivate(self._deadline())

    def sweep(self, on_progress: Callable[[], None] = lambda: None) -> None:
        """Withdraw the proofs that a crash, or a validator that did not work, has left.

        Args:
            on_progress: called after each batch of proofs.
        """
        if self._client is not None:
            self._client.authorizations.proofs.sweep(self.config.validators, on_progress)

    def stop(self) -> None:
        """End all that goes on with the CA, now and from now on; unfinished orders stay open there."""
        if self._client is not None:
            self._client.orders.stop()
            self._client.authorizations.stop()
            self._client.session.close()

    def close(self) -> None:
        """Stop, and let go of threads."""
        self.stop()
        self._workers.close()

    @property
    def account_key(self) -> JWK:
        """The account's key.

        Raises:
            AccountError: it is not loaded.
        """
        if self.key is None:
            raise AccountError("the account key is not loaded: call connect() first")
        return self.key

    @property
    def session(self) -> Session:
        """The way to the CA.

        Raises:
            AccountError: there is none yet.
        """
        if self._client is None:
            raise AccountError("not connected to the CA: call connect() first")
        return self._client.session

    @property
    def account_url(self) -> str | None:
        """The account's URL, None while it is not known."""
        return self.registration.uri if self.registration else None

    # Orders (section 7.4)

    def obtain(
        self, request: CertificateRequest, validators: Sequence[Validator], deadline: Deadline, key: object
    ) -> bytes:
        """Return a new chain for a request, as the CA sent it (PEM); connect first if need be.

        Args:
            request: what is asked for.
            validators: what can prove the names, best first.
            deadline: when to give up; the order stays open then.
            key: what makes two requests the same; an open order for the same is continued.

        Raises:
            AcmeException: one of the errors of `Orders.obtain` or `connect`.
        """
        return self._connected(deadline).orders.obtain(request, validators, deadline, key)

    def _connected(self, deadline: Deadline) -> Client:
        """Return the way to the CA; connect first if need be, once however many wait for it."""
        if self.registration is None:
            with self._lock:
                attempt, mine = self._connecting, self._connecting is None
                if attempt is None:
                    attempt = self._connecting = Future()
            if mine:
                self._connect_for(attempt)
            try:
                error = attempt.exception(min(deadline.remaining, threading.TIMEOUT_MAX))
            except TimeoutError:
                raise DeadlinePassed("the account could not be opened at the CA in time") from None
            if error is not None:
                raise copy.copy(error)  # each who waits gets its own, with a traceback of its own
        if self._client is None:
            raise AccountError("not connected to the CA: call connect() first")
        return self._client

    def _connect_for(self, attempt: Future[None]) -> None:
        """Connect, and tell all who wait for this attempt how it went."""
        try:
            self.connect()
        except BaseException as error:  # noqa: BLE001 - all who wait must hear of it
            outcome: BaseException | None = error
        else:
            outcome = None
        with self._lock:
            self._connecting = None
        if outcome is None:
            attempt.set_result(None)
        else:
            attempt.set_exception(outcome)

    # Validations, one step at a time (section 7.5)

    def acquire_domain_validations(
        self, validator: Validator, domains: Sequence[str]
    ) -> list[messages.AuthorizationResource]:
        """Request domain validations for all given domains, and wait for them.

        Valid ones in `authzrs` are used again; expired ones are renewed; invalid ones stay until
        somebody removes them.

        Args:
            validator: what proves the domains.
            domains: the domains to validate.

        Returns:
            the valid authorizations, one a domain, in order.

        Raises:
            ChallengeFailed, InvalidDomainName, NoChallengeMethodsSupported: a domain cannot be had.
            ValidatorUnavailable, AccountError, RateLimited, CAError, DeadlinePassed: not now.
        """
        return self._validations.acquire(validator, domains)

    def evaluate_domain_authorization(
        self,
        authzr: messages.AuthorizationResource,
        validator: Validator,
        refresh_timer: float | None = None,
    ) -> messages.AuthorizationResource:
        """Process an authorization by its state: prove a pending one, renew an ended one.

        Args:
            authzr: the authorization in question.
            validator: what proves its name.
            refresh_timer: seconds until the next refresh makes sense, if that is known.

        Returns:
            a valid authorization.

        Raises:
            AuthorizationNotYetProcessed: the CA still works on it.
            AuthorizationNotYetRequested: its challenge is installed; nobody has come for it yet.
            ChallengesUnknownStatus: its state is unknown.
            NoChallengeMethodsSupported: the CA offers no challenge that the validator can answer.
            ChallengeFailed: its challenge failed.
        """
        return self._validations.evaluate(authzr, validator, refresh_timer)

    def refresh_domain_authorization(
        self, validator: Validator, domain: str
    ) -> messages.AuthorizationResource:
        """Refresh an authorization for status changes.

        Args:
            validator: what proves the domain.
            domain: domain name of the authorization.

        Returns:
            a valid authorization.

        Raises:
            AcmeException: as `evaluate_domain_authorization`.
        """
        return self._validations.refresh(validator, domain)

    def new_domain_authorization(self, validator: Validator, domain: str) -> messages.AuthorizationResource:
        """Request a complete new authorization for the given domain.

        Args:
            validator: what proves the domain.
            domain: domain name for the authorization.

        Returns:
            a valid authorization.

        Raises:
            AcmeException: as `evaluate_domain_authorization`.
        """
        return self._validations.new(validator, domain)

    def _deadline(self) -> Deadline:
        return self.clock.deadline(self.config.mgmt.request_timeout)
