"""The documented manager, on the parts that `acmems serve` runs on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from acme import messages
from josepy.jwk import JWK, JWKEC, JWKRSA

from acmems.challenges import ChallengeResponses, Validator
from acmems.compat.validations import Validations
from acmems.config import Configuration
from acmems.exceptions import AccountError
from acmems.issuers.acme.account import Account
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.key import AccountKey
from acmems.system.clock import SYSTEM, Clock

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
        self.issuer = AcmeIssuer(config.account, config.mgmt.request_timeout, clock)
        self._validations = Validations(self.issuer, clock, config.mgmt.request_timeout)
        self.authzrs = self._validations.authzrs
        self.key: JWK | None = None
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
        self.issuer.refresh(register=register)

    def load_private_key(self) -> None:
        """Load our private key, the key to identify ourself against the ACME server.

        This key MUST NOT be used for certificates.

        Raises:
            AccountError: something is broken with our account (mostly: key not found).
        """
        self.key = _jwk(self.issuer.directory.load_key())

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
        self.issuer.directory.save_key(AccountKey.generate_rsa(key_size), force=force)

    def init_client(self) -> None:
        """Create the ACME client.

        Raises:
            AccountError: the key is not loaded, or `ca-file` cannot be used.
        """
        if self.key is None:
            raise AccountError("the account key is not loaded: call connect() first")
        self.issuer.load_key()

    def close(self) -> None:
        """End all that goes on with the CA, and let go of threads."""
        self.issuer.close()

    @property
    def registration(self) -> messages.RegistrationResource | None:
        """The account as the CA last described it, None while it is not known."""
        account = self.issuer.account
        return None if account is None else _registration(account)

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


def _jwk(key: AccountKey) -> JWK:
    return (JWKRSA if key.algorithm == "RS256" else JWKEC)(key=key.private)


def _registration(account: Account) -> messages.RegistrationResource:
    resource: messages.RegistrationResource = messages.RegistrationResource.from_json(account.to_json())
    return resource
