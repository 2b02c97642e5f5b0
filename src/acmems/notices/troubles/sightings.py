"""What orders tell of the CA and the account: heard by each process, and written down for all of them."""

from __future__ import annotations

import dataclasses
import datetime
import threading
from collections.abc import Iterable
from typing import Literal

from acmems.events import Event, IssuedEvent, NotIssuedEvent
from acmems.exceptions import (
    AccountError,
    AcmeException,
    CAProblem,
    CAUnavailable,
    ChallengeFailed,
    ClocksDiffer,
    InvalidDomainName,
    LimitReached,
    QueueFull,
    RateLimited,
)
from acmems.notices.causes import Trouble
from acmems.notices.wording import moment, rfc3339, span
from acmems.state.notices.sightings import SightingRecord, SightingRecords
from acmems.system.clock import Clock
from acmems.text import one_line

PATIENCE = datetime.timedelta(hours=1)
"""For so long a CA may not answer before that is told."""
CLOCK_PATIENCE = datetime.timedelta(minutes=10)
"""For so long clocks may differ: nothing is ordered meanwhile, and time servers take a moment."""
FORGOTTEN = datetime.timedelta(days=7)
"""What nobody has seen again for so long is over: that CA is not asked any more."""

SightingKind = Literal["account", "ca", "clock"]
_LONGEST_REASON = 500


class Sightings:
    """Takes note of what works and what does not; subscribed to the bus.

    Args:
        records: where it is written down.
        clock: for dates.
    """

    def __init__(self, records: SightingRecords, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows
        self._bad: dict[str, SightingRecord] = {}
        self._good: set[str] = set()
        self._unopened: set[str] = set()  # accounts that could not be opened
        self._began = clock.now()

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, IssuedEvent):
            self.works(event.directory, "account", "ca", "clock", account=event.account)
        elif isinstance(event, NotIssuedEvent):
            self._hear_failure(event.directory, event.account, event.error)

    def works(self, directory: str, *kinds: SightingKind, account: str | None = None) -> None:
        """Take note of what works at a CA.

        Args:
            directory: the URL of its directory.
            kinds: what works.
            account: the URL of the account, where that does.
        """
        # An account whose URL was not known when it failed is known by now.
        subjects = {_subject(kind, directory, url) for kind in kinds for url in (account, None)}
        with self._lock:
            self._good |= subjects
            self._unopened -= subjects
            for each in subjects:
                self._bad.pop(each, None)

    def fails(self, directory: str, account: str | None, error: Exception) -> None:
        """Take note of why an account cannot be opened.

        Args:
            directory: the URL of the CA's directory.
            account: the URL of the account, None while that is not known.
            error: why.
        """
        self._hear_failure(directory, account, error)
        if kind_of(error) == "account":
            with self._lock:
                self._unopened.add(_subject("account", directory, account))

    def note_account(self, directory: str, account: str | None) -> None:
        """Take note that an account is known to this process.

        That ends what `fails` was told. It says nothing where orders were refused: a CA knows an account
        whose terms of service it wants to be accepted anew.

        Args:
            directory: the URL of the CA's directory.
            account: the URL of the account.
        """
        subjects = {_subject("account", directory, url) for url in (account, None)}
        with self._lock:
            is_ours = bool(subjects & self._unopened)
        if is_ours:
            self.works(directory, "account", account=account)

    def begin_anew(self) -> None:
        """Take note that an operator has changed something."""
        self._began = self._clock.now()

    def forget_former(self, known: Iterable[SightingRecord], directory: str, account: str | None) -> None:
        """Take note that an account is known after a restart or a reload, which follows what was mended.

        Args:
            known: what is written down.
            directory: the URL of the CA's directory.
            account: the URL of the account.
        """
        subjects = {_subject("account", directory, url) for url in (account, None)}
        if any(each.subject in subjects and each.seen < self._began for each in known):
            self.works(directory, "account", account=account)

    def publish(self) -> None:
        """Write down what is new.

        Raises:
            StateUnavailable: it cannot be written; it is kept for the next time.
        """
        with self._lock:
            bad, good = dict(self._bad), set(self._good)
            self._bad, self._good = {}, set()
        if not bad and not good:
            return
        # What works is written only where somebody has written that it does not.
        known = {each.subject for each in self._records.all()} if good else set()
        try:
            if bad or good & known:
                self._records.note(list(bad.values()), sorted((good & known) - set(bad))).result()
        except AcmeException:
            with self._lock:
                self._bad = {**bad, **self._bad}
                self._good |= good
            raise

    def _hear_failure(self, directory: str, account: str | None, error: Exception) -> None:
        kind = kind_of(error)
        if kind is not None:
            self._note_bad(kind, directory, account, error)
        if isinstance(error, ChallengeFailed | InvalidDomainName):
            self.works(directory, "account", "ca", "clock", account=account)
        elif _is_answer(error):
            self.works(directory, "ca", "clock")
        elif isinstance(error, ClocksDiffer):
            self.works(directory, "ca")

    def _note_bad(self, kind: SightingKind, directory: str, account: str | None, error: Exception) -> None:
        now, subject = self._clock.now(), _subject(kind, directory, account)
        with self._lock:
            former = self._bad.get(subject)
            self._good.discard(subject)
            self._bad[subject] = SightingRecord(
                subject=subject,
                kind=kind,
                directory=directory,
                began=now if former is None else former.began,
                seen=now,
                reason=one_line(error, _LONGEST_REASON),
            )


def kind_of(error: Exception) -> SightingKind | None:
    """Return what does not work where an order has failed so, None where it says nothing of that."""
    if isinstance(error, AccountError):
        return "account"
    if isinstance(error, ClocksDiffer):
        return "clock"
    return "ca" if isinstance(error, CAUnavailable) else None


def _is_answer(error: Exception) -> bool:
    """Tell whether an error is an answer of the CA, so that it is there."""
    if isinstance(error, LimitReached | QueueFull):
        return False
    return isinstance(error, RateLimited | CAProblem)


def _subject(kind: SightingKind, directory: str, account: str | None) -> str:
    return f"{kind} {directory} {account}" if kind == "account" and account else f"{kind} {directory}"


def sighted_troubles(sightings: Iterable[SightingRecord], now: datetime.datetime) -> list[Trouble]:
    """Return what is to be told of what was seen: the account at once, a CA after a while.

    Args:
        sightings: what does not work.
        now: the time (aware).
    """
    return [
        _trouble(each, now)
        for each in sightings
        if now - each.seen < FORGOTTEN and now - each.began >= _PATIENCE.get(each.kind, PATIENCE)
    ]


_PATIENCE = {"account": datetime.timedelta(), "ca": PATIENCE, "clock": CLOCK_PATIENCE}


def _trouble(sighting: SightingRecord, now: datetime.datetime) -> Trouble:
    trouble = Trouble(
        cause=sighting.subject,
        kind="account" if sighting.kind == "account" else "ca",
        severity="critical" if sighting.kind == "account" else "warning",
        reason=sighting.reason,
        subject="",
        text="",
        directory=sighting.directory,
        began=sighting.began,
        facts={
            "directory": sighting.directory,
            "reason": sighting.reason,
            "since": rfc3339(sighting.began),
        },
    )
    since = f"since {moment(sighting.began)} ({span(now - sighting.began)})"
    if sighting.kind == "account":
        subject = "the CA refuses the account: nothing can be ordered"
        text = (
            "Stored certificates are delivered, but none is ordered or renewed until this is mended. "
            "'acmems account show CONFIG' asks the CA about the account."
        )
    elif sighting.kind == "clock":
        subject = "the clocks of this server and the CA differ: nothing is ordered"
        text = "Set the wrong clock right; acmems goes on by itself then."
    else:
        subject = f"the CA has not answered for {span(now - sighting.began)}, while certificates are due"
        text = (
            "Stored certificates are delivered while they are valid, and acmems goes on trying. See whether "
            "the CA tells of a fault, and whether this server reaches it."
        )
    words = (
        f"{subject[:1].upper()}{subject[1:]}, {since}.\n\nReason: {sighting.reason}\n"
        f"CA:     {sighting.directory}\n\n{text}"
    )
    return dataclasses.replace(trouble, subject=subject, text=words)
