"""What the validators of one server share, whatever configuration they are from."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import dns.name

from acmems.challenges.responses import ChallengeResponses
from acmems.dns.server import TxtTable
from acmems.net.tlsalpn import ChallengeCertificates
from acmems.state.proofs import ProofLookups
from acmems.system.locks import KeyedLocks
from acmems.system.programs import program_slots


@dataclass(frozen=True, slots=True)
class ValidatorContext:
    """What the validators of one server share.

    It outlives the configuration: what a validator has presented, whose section a reload then changes, is
    still found by the CA at that section's listener.

    Args:
        responses: the table that all http-01 listeners answer from.
        certificates: the proofs that all tls-alpn-01 listeners show.
        records: the records that are presented in the zones of `dns01-server`, by zone.
        zone_locks: one is held, by provider and zone, while a zone at a DNS provider is changed. Two
            sections may name the same account of a provider.
        lookups: finds what other nodes present, for which the CA comes to this one.
        program_slots: one is held while a program runs, so that not too many run at the same time, however
            many orders need them.
    """

    responses: ChallengeResponses = field(default_factory=ChallengeResponses)
    certificates: ChallengeCertificates = field(default_factory=ChallengeCertificates)
    records: dict[dns.name.Name, TxtTable] = field(default_factory=dict)
    zone_locks: KeyedLocks = field(default_factory=KeyedLocks)
    lookups: ProofLookups = field(default_factory=ProofLookups)
    program_slots: threading.BoundedSemaphore = field(default_factory=program_slots)
