"""Limits of a CA, which a real server counts as the CA would, so that the CA refuses nothing."""

from __future__ import annotations

import http.client
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.chains import make_request
from tests.fault_proxy import FaultProxy
from tests.faults import NEW_ORDER
from tests.peers import Acmems, Settings

LIMIT = """
[limit "orders a week"]
count = 200
per = 7d
counts = orders
"""
MACHINES, ALLOWED = 300, 200
APART = 7 * 86_400 // ALLOWED
"""Seconds from one place that becomes free to the next one."""


@dataclass(frozen=True)
class Answer:
    """What a machine was answered."""

    status: int
    retry_after: int
    body: bytes


def sign(port: int, csr: bytes) -> Answer:
    """Ask as a machine does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", "/sign", csr)
        answer = connection.getresponse()
        return Answer(answer.status, int(answer.headers.get("Retry-After", 0)), answer.read())
    finally:
        connection.close()


def test_more_machines_than_the_ca_allows(proxy: FaultProxy, settings: Settings) -> None:
    """300 ask at once where 200 are allowed: 100 get 429 with the right time, unseen by the CA."""
    settings.account += "limits = orders a week"
    settings.auth += LIMIT
    csrs = [make_request(f"machine{number}.example.org").pem for number in range(MACHINES)]
    with Acmems(proxy.before(settings)) as acmems:
        began = time.monotonic()
        with ThreadPoolExecutor(MACHINES) as pool:
            answers = list(pool.map(lambda csr: sign(settings.port, csr), csrs))
        passed = time.monotonic() - began
        assert Counter(each.status for each in answers) == {200: ALLOWED, 429: MACHINES - ALLOWED}
        refused = [each for each in answers if each.status == 429]
        for each in refused:
            assert b"orders a week, 200 of 200 used; ask again after " in each.body
            # One more is free this long after the first of them was taken, whenever that was.
            assert APART - passed - 1 <= each.retry_after <= APART
        assert proxy.count(path=NEW_ORDER) == ALLOWED
        requests = len(proxy.seen)
        again = next(csr for csr, each in zip(csrs, answers, strict=True) if each.status == 429)
        assert sign(settings.port, again).status == 429
        assert len(proxy.seen) == requests
        acmems.stop()
        acmems.start()
        assert sign(settings.port, again).status == 429, "a restart forgets nothing"
        assert proxy.count(path=NEW_ORDER) == ALLOWED
