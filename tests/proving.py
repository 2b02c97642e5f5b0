"""Names proved to a CA that is a table of answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

from tests.fake_ca import (
    AUTHORIZATION,
    CA,
    CHALLENGE,
    KEY,
    NAME,
    NO_JOURNAL,
    TOKEN,
    FakeSession,
    FakeValidator,
    Time,
    authorization,
    challenge,
)
from tests.steps import PATIENCE

from acmems.challenges import Proof, Validator
from acmems.challenges.presented.proofs import PresentedProofs
from acmems.issuers.acme.authorization import Authorization
from acmems.issuers.acme.proving import Proving
from acmems.issuers.acme.session import Headers, Response
from acmems.system.steps import StepLoop, Steps
from acmems.x509.identifiers import Identifier

WANTED = [Identifier.dns(NAME)]
OTHER = "b.example.org"
OTHER_AUTHORIZATION = f"{CA}/authorization/2"
ANOTHER = authorization(challenges=[challenge(token=TOKEN[::-1])])


def answer(value: object) -> Response:
    return Response(200, Headers(), json.dumps(value).encode(), AUTHORIZATION)


def offer(type_: str, status: str = "pending") -> dict[str, object]:
    """Return the authorization of `OTHER` with one challenge."""
    identifier = {"type": "dns", "value": OTHER}
    return authorization(status, identifier=identifier, challenges=[challenge(type_, url=f"{CHALLENGE}/2")])


class Desk:
    """Authorizations of one name at a CA that is a table; the CA finds the proof at its first look."""

    def __init__(self, loop: StepLoop | None = None) -> None:
        self.time = Time()
        self.loop = loop or self.time.loop()
        self.session = FakeSession(
            {AUTHORIZATION: [authorization(), authorization("valid")], CHALLENGE: [{}]}
        )
        self.validator = FakeValidator()
        proofs = PresentedProofs(self.loop.clock, NO_JOURNAL)
        self.proving = Proving(self.session, KEY, self.loop, proofs)

    def proving_steps(
        self,
        *validators: Validator,
        urls: tuple[str, ...] = (AUTHORIZATION,),
        seconds: float = 60,
    ) -> Steps[list[Authorization]]:
        wanted = [*WANTED, Identifier.dns(OTHER)][: len(urls)]
        deadline = self.loop.clock.deadline(seconds)
        return self.proving.prove(urls, wanted, validators or [self.validator], deadline)

    def prove(self, *validators: Validator, **options: Any) -> list[Authorization]:
        return self.loop.run(self.proving_steps(*validators, **options))

    def prove_for(self, wanted: Sequence[Identifier], *validators: Validator) -> list[Authorization]:
        steps = self.proving.prove([AUTHORIZATION], wanted, validators, self.time.within())
        return self.loop.run(steps)


class Threaded(FakeValidator):
    """Shows proofs in a thread, as those that speak to others do."""

    is_immediate = False


class Gated(Threaded):
    """Presents in a thread, and returns when its gate is open."""

    def __init__(self, challenge_type: str = "http-01") -> None:
        super().__init__(challenge_type)
        self.entered, self.gate = threading.Event(), threading.Event()

    def present(self, proofs: Sequence[Proof]) -> None:
        """Take note of proofs, and wait."""
        super().present(proofs)
        self.entered.set()
        assert self.gate.wait(PATIENCE)


class OneAtATime(FakeValidator):
    """Can show the CA one proof for a name, as tls-alpn-01 does."""

    shows_one_at_a_time = True
