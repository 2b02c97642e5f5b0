"""How a server gets its account: from its directory, from others that share its state, or by making it."""

from __future__ import annotations

import json
import logging

from acmems.exceptions import AccountError, StateUnavailable
from acmems.issuers.acme.account import Account
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.state.sharing.accounts import AccountRecord, SharedAccounts
from acmems.system.clock import Clock

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5  # between two looks whether another server has registered the account


class AccountFounding:
    """Finds the account of a server, or makes it.

    Args:
        issuer: has its directory, and speaks to the CA.
        shared: what other servers know of it, None where there are none.
        clock: for waits.
    """

    def __init__(self, issuer: AcmeIssuer, shared: SharedAccounts | None, clock: Clock) -> None:
        self._issuer = issuer
        self._directory = issuer.directory
        self._shared = shared
        self._clock = clock
        self._is_unpublished = False  # whether the others do not know yet which key the account has
        issuer.on_new_key = self.publish

    def find(self) -> bool:
        """Load the account's key, or make an account; tell whether one was known before.

        Raises:
            AccountError, NeedToAgreeToTOS: there is none yet, or its key cannot be used.
            CAError, RateLimited, DeadlinePassed: there is none yet, and the CA does not give one.
            StateUnavailable: it cannot be told what other servers use.
        """
        directory, shared = self._directory, self._shared
        if shared is not None and not directory.has_key():
            known = shared.records.get(*self._place)
            if known is not None:
                self._take(known, shared)
        is_made = not directory.has_key()
        if is_made:
            self._make_key()
        self._issuer.load_key()
        if shared is not None:
            self._agree(shared, is_made=is_made)
        if directory.has_registration():
            return True
        if shared is None:
            self._issuer.refresh()
        else:
            self._register_once(shared)
        return False

    def follow(self) -> None:
        """Use another key where another server has changed that of the account; called from time to time.

        Raises:
            AccountError: it cannot be written.
        """
        key = self._issuer.key
        if self._shared is None or key is None:
            return
        if self._is_unpublished:
            self.publish()
            return
        try:
            known = self._shared.records.get(*self._place)
        except StateUnavailable as error:
            logger.debug("whether another server has changed the account's key is not known: %s", error)
            return
        if known is not None and key.thumbprint in known.former:
            self._take(known, self._shared)
            self._issuer.load_key()

    def publish(self) -> None:
        """Tell the other servers of another key that the account has got here; where that fails, later.

        The loop of the issuer must not call it, since it waits.
        """
        if self._shared is None:
            return
        self._is_unpublished = True
        try:
            self._shared.records.put(self._own()).result()
        except StateUnavailable as error:
            logger.warning("other servers are told of the account's new key later: %s", error)
        else:
            self._is_unpublished = False

    def _make_key(self) -> None:
        if self._issuer.options.accepted_terms is not True and not self._issuer.options.accepted_terms:
            raise AccountError(
                f"there is no account in {self._directory.path} yet, and none is made before the CA's terms "
                f"of service are accepted: add 'accept-terms-of-service = yes' to "
                f"{self._issuer.options.section}"
            )
        self._issuer.create_key()
        logger.info("made a new account key: %s", self._directory.key_file)

    def _agree(self, shared: SharedAccounts, *, is_made: bool) -> None:
        """Use the same key as the others, which the first of them has told.

        Args:
            shared: what they know.
            is_made: whether the key here was made just now, for nothing yet.

        Raises:
            AccountError: they use another account.
        """
        known = shared.records.add(self._own()).result()
        thumbprint = self._issuer.client.key.thumbprint
        if known.thumbprint != thumbprint:
            if is_made or thumbprint in known.former:
                self._take(known, shared)
                self._issuer.load_key()
            else:
                self._check_successor(known, shared)
                shared.records.put(self._own()).result()
        elif known.registration is None and self._directory.has_registration():
            shared.records.put(self._own()).result()
        elif known.registration is not None and not self._directory.has_registration():
            self._take(known, shared)

    def _check_successor(self, known: AccountRecord, shared: SharedAccounts) -> None:
        """See that the key here is one that their account has got since, by asking the CA.

        That is so where this server was killed before it told the others, or their state is from a backup.

        Raises:
            AccountError: it is not.
            CAError, RateLimited, DeadlinePassed: the CA does not tell.
        """
        reason: AccountError | None = None
        try:
            url = self._issuer.refresh(register=False).url
        except AccountError as error:
            url, reason = "", error
        if known.registration is None or json.loads(known.registration)["uri"] != url:
            raise AccountError(
                f"{self._directory.key_file} is another key than the servers use that share the state "
                f"{shared.place}: move {self._directory.both_files} away, and this server uses theirs; "
                f"or give it a [state] of its own"
            ) from reason

    def _register_once(self, shared: SharedAccounts) -> None:
        """Register the account, unless another server does."""
        name = " ".join(self._place).rstrip()
        while (lease := shared.leases.acquire(f"account:{name}").result()) is None:
            self._clock.sleep(_LOOK_SECONDS)
        try:
            known = shared.records.get(*self._place)
            if known is not None and known.registration is not None:
                self._take(known, shared)
            else:
                self._issuer.refresh()
                shared.records.put(self._own()).result()
        finally:
            shared.leases.release(lease).result()

    @property
    def _place(self) -> tuple[str, str]:
        """What servers that share the account know it by."""
        return self._issuer.options.directory_url, self._issuer.options.name

    def _own(self) -> AccountRecord:
        """Return the account as it is here."""
        key, registration = self._issuer.client.key, self._directory.load_registration()
        return AccountRecord(
            self._issuer.options.directory_url,
            key.pem(),
            key.thumbprint,
            None if registration is None else json.dumps(registration.to_json()),
            self._issuer.options.name,
        )

    def _take(self, known: AccountRecord, shared: SharedAccounts) -> None:
        """Write an account of other servers to the directory."""
        self._directory.restore_key(known.key)
        if known.registration is not None:
            self._directory.save_registration(Account.from_json(json.loads(known.registration)))
        logger.info("the account's key is that of the servers that share the state %s", shared.place)
