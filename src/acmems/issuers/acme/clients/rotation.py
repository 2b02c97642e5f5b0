"""Changing the account's key (RFC 8555 section 7.3.5), with a working key on disk at every moment.

The new key lies in `account.pem.next` before the CA hears of it, and is renamed to `account.pem` once the
CA has changed. Where this process or an answer is lost in between, the CA is asked whether it has.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable

from acmems.exceptions import (
    AccountError,
    AcmeException,
    CAProblem,
    DeadlinePassed,
    FateUnknown,
)
from acmems.issuers.acme.account import Account, AccountDirectory
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.options import AccountOptions
from acmems.issuers.acme.registration import Registrar
from acmems.issuers.acme.session import Session
from acmems.issuers.acme.session.jws import key_change
from acmems.system.clock import Deadline
from acmems.system.steps import Steps, pause

logger = logging.getLogger(__name__)

ARRIVAL_SECONDS = 120.0
"""Seconds after which a request to change the key, whose answer was lost, does not arrive any more."""
_SENDING_SECONDS = 60.0  # of these, within which it is sent, also again where it was not sent at all
_LOOKS = (0.0, 1.0, 4.0)  # seconds before each look whether a change arrived whose answer was lost
_LOOK_SECONDS = 30.0  # for all of these looks


class KeyRotation:
    """Changes the key of an account, and finds out what has become of a change.

    Its methods are for whoever holds the lock of the account's directory (`AccountDirectory.changing_key`).

    Args:
        options: the account and its CA.
        directory: where its keys lie.
        session_with: returns a way to the CA by a key.
        now: the wall clock.
    """

    def __init__(
        self,
        options: AccountOptions,
        directory: AccountDirectory,
        session_with: Callable[[AccountKey], Session],
        now: Callable[[], datetime.datetime],
    ) -> None:
        self._options = options
        self._directory = directory
        self._session_with = session_with
        self._now = now

    def settle(self, deadline: Deadline) -> Steps[None]:
        """Finish a change of the key that was begun, or drop its key, as the CA says.

        A key is dropped only when the CA says that it does not know it, and when the request for the change
        cannot arrive any more. Until then the account's key stays what it is.

        Raises:
            CAUnavailable, RateLimited, DeadlinePassed: the CA cannot be asked now.
            AccountError: the files cannot be changed.
        """
        file = self._directory.next_key_file
        try:
            key = self._directory.load_next_key()
            is_known = key is not None and (yield from self._is_of_account(key, deadline))
        except (CAProblem, AccountError) as error:
            logger.warning(
                "whether %s is the key of the account by now cannot be told, so that %s is used: %s",
                *(file, self._directory.key_file.name, error),
            )
            return
        if key is None:
            return
        if is_known:
            self._directory.use_next_key()
            logger.warning("the account's key was changed before: %s took its place", file)
            return
        now = self._now().timestamp()
        age = self._directory.next_key_age(now)
        if age > ARRIVAL_SECONDS:
            self._directory.drop_next_key()
            logger.warning(
                "the account's key was not changed before: %s, unknown to the CA, is removed", file
            )
        else:
            if age < 0:  # the clock was set back: how long ago it was is known from now on only
                self._directory.note_change(now)
            logger.info("the CA does not know %s, which is kept in case the change of the key is late", file)

    def change(self, session: Session, old: AccountKey, new: AccountKey, deadline: Deadline) -> Steps[None]:
        """Have the CA change the account's key; the new key lies in its file already.

        Args:
            session: the way to the CA by the old key.
            old: the key that the account has.
            new: the one that it is to have.
            deadline: when to give up.

        Raises:
            AccountError: the CA refuses it.
            FateUnknown: it is not known yet whether the CA has changed it.
            CAError, RateLimited, DeadlinePassed: it was not changed.
        """
        url = yield from self.url(session, deadline)
        payload = key_change(new, old, session.kid or "", url)
        self._directory.note_change(self._now().timestamp())
        try:
            sending = deadline.within(_SENDING_SECONDS)
            yield from session.post(url, payload, deadline=sending, repeatable=False)
        except CAProblem as problem:
            if not (yield from self._was_changed(new, deadline)):
                raise self._refused(problem) from problem
        except (FateUnknown, DeadlinePassed) as error:
            yield from self._find_out(new, deadline, error)

    def url(self, session: Session, deadline: Deadline) -> Steps[str]:
        """Return where the CA takes changes of keys.

        Raises:
            AccountError: it takes none.
        """
        directory = yield from session.directory(deadline)
        if "keyChange" not in directory:
            raise AccountError(
                f"this CA changes no keys of accounts: {session.directory_url} has no keyChange. For another "
                f"key, register another account, in a 'dir' of its own"
            )
        return directory["keyChange"]

    def _was_changed(self, key: AccountKey, deadline: Deadline) -> Steps[bool]:
        """Tell whether the account has the new key although its change was refused; else drop that key.

        The request may have been sent twice, when its first answer was that the nonce is bad.
        """
        try:
            is_known = yield from self._is_of_account(key, deadline)
        except AcmeException as error:
            logger.warning("whether the CA knows the new key cannot be told, so that it is kept: %s", error)
            return False
        if not is_known:
            self._directory.drop_next_key()
        return is_known

    def _refused(self, problem: CAProblem) -> AccountError:
        words = f"the CA does not change the account's key, which stays as it is ({problem})"
        if problem.status == 409:  # noqa: PLR2004 - RFC 8555's own
            words = (
                f"another account has the new key already, so that this account's stays as it is ({problem})"
            )
        if problem.code in {"badPublicKey", "badSignatureAlgorithm"}:
            words += "; choose another --key-type"
        return AccountError(words)

    def _find_out(self, key: AccountKey, deadline: Deadline, error: AcmeException) -> Steps[None]:
        """Return once it is known that the account has the new key.

        Raises:
            FateUnknown: that is not so, or not yet.
        """
        logger.warning("the answer to the change of the account's key was lost, asking again: %s", error)
        deadline = Deadline(deadline.monotonic() + _LOOK_SECONDS, deadline.monotonic)
        for seconds in _LOOKS:
            yield pause(seconds)
            try:
                if (yield from self._is_of_account(key, deadline)):
                    return
            except AcmeException as other:
                logger.warning("which key the account has cannot be told yet: %s", other)
        raise FateUnknown(
            f"the answer to the change of the account's key was lost ({error}), and the CA does not say that "
            f"it has the new one: both are kept, {self._directory.next_key_file} is the new one, and acmems "
            f"finds out which to use. Try again in {ARRIVAL_SECONDS:.0f} seconds"
        ) from error

    def _is_of_account(self, key: AccountKey, deadline: Deadline) -> Steps[bool]:
        """Tell whether a key is that of the account.

        Raises:
            AccountError: it is that of another account.
            AcmeException: it cannot be told.
        """
        session = self._session_with(key)
        try:
            directory = yield from session.directory(deadline)
            registrar = Registrar(self._options, self._directory, session, key)
            found: Account | None = yield from registrar.find(directory, deadline)
        finally:
            session.close()
        known = self._directory.load_registration()
        if found is not None and known is not None and found.url != known.url:
            raise AccountError(
                f"{self._directory.next_key_file} is the key of another account, {found.url}: move it away"
            )
        return found is not None
