"""What the validators of one configuration share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from acmems.challenges.programs.program import program_slots
from acmems.challenges.responses import ChallengeResponses
from acmems.system.locks import KeyedLocks


@dataclass(frozen=True, slots=True)
class ValidatorContext:
    """What the validators of one configuration share.

    Args:
        responses: the table that all http-01 listeners answer from.
        zone_locks: one is held, by provider and zone, while a zone at a DNS provider is changed. Two
            sections may name the same account of a provider.
        program_slots: one is held while a program runs, so that not too many run at the same time, however
            many orders need them.
    """

    responses: ChallengeResponses = field(default_factory=ChallengeResponses)
    zone_locks: KeyedLocks = field(default_factory=KeyedLocks)
    program_slots: threading.BoundedSemaphore = field(default_factory=program_slots)
