"""Orders at a CA that is a table of answers."""

from __future__ import annotations

from typing import Any

from tests.fake_ca import (
    AUTHORIZATION,
    CERTIFICATE,
    CHAIN,
    CHALLENGE,
    FINALIZE,
    KEY,
    NEW_ORDER,
    NO_JOURNAL,
    ORDER,
    FakeSession,
    FakeValidator,
    Said,
    Time,
    authorization,
    make_request,
    order,
)

from acmems.challenges.presented.proofs import PresentedProofs
from acmems.issuers.acme.ordering import Ordering
from acmems.issuers.acme.proving import Proving
from acmems.system.steps import StepLoop
from acmems.x509.csr import CertificateRequest

PLACED = Said(order(), {"Location": ORDER})
CSR = make_request()


class Desk:
    """Orders at a CA that is a table; every name is proved already, and every order works."""

    def __init__(self, loop: StepLoop | None = None, **options: Any) -> None:
        self.time = Time()
        self.session = FakeSession(
            {
                NEW_ORDER: [PLACED],
                ORDER: [order("valid")],
                AUTHORIZATION: [authorization("valid")],
                CHALLENGE: [{}],
                FINALIZE: [order("valid")],
                CERTIFICATE: [CHAIN],
            }
        )
        self.loop = loop or self.time.loop()
        clock = self.loop.clock
        proving = Proving(self.session, KEY, self.loop, PresentedProofs(clock, NO_JOURNAL))
        self.validator = FakeValidator()
        self.ordering = Ordering(self.session, proving, clock, **options)

    def obtain(self, request: CertificateRequest = CSR, key: str = "key", *, seconds: float = 60.0) -> bytes:
        deadline = self.time.within(seconds)
        return self.loop.run(self.ordering.obtain(request, [self.validator], deadline, key)).pem

    def say(self, url: str, *answers: object) -> None:
        self.session.say(url, *answers)

    def count(self, url: str) -> int:
        return self.session.count(url)
