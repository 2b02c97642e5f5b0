"""Limits of a CA, which a real server counts as the CA would, so that the CA refuses nothing."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.chains import make_request
from tests.fault_proxy import FaultProxy
from tests.faults import NEW_ORDER
from tests.peers import Acmems, ChallTestSrv, Settings, curl_sign, make_key_and_csr, run_acmems

PAGE = "https://portal.letsencrypt.org/sfe/v1/unpause?jwt=abc.def.ghi"
UNPAUSE = (
    "Your account is temporarily prevented from requesting certificates for www.example.org and possibly "
    f"others. Please visit: {PAGE}"
)
DOMAIN = 'too many certificates (50) already issued for "example.org" in the last 168h0m0s'
BLOCKS = """
[auth "one"]
all = yes
domain = bad1.test

[auth "both"]
all = yes
domain = *.test
"""
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
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=250)
    try:
        connection.request("POST", "/sign", csr)
        answer = connection.getresponse()
        return Answer(answer.status, int(answer.headers.get("Retry-After", 0)), answer.read())
    finally:
        connection.close()


@pytest.mark.timeout(300)
def test_more_machines_than_the_ca_allows(proxy: FaultProxy, settings: Settings) -> None:
    """300 ask at once where 200 are allowed: 100 get 429 with the right time, unseen by the CA."""
    settings.account += "limits = orders a week"
    settings.mgmt = "request-timeout = 200"  # so many orders take a while where the machine is busy
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
        requests = proxy.count(method="POST")  # when to renew is asked by GET, now and then
        again = next(csr for csr, each in zip(csrs, answers, strict=True) if each.status == 429)
        assert sign(settings.port, again).status == 429
        assert proxy.count(method="POST") == requests
        acmems.stop()
        acmems.start()
        assert sign(settings.port, again).status == 429, "a restart forgets nothing"
        assert proxy.count(path=NEW_ORDER) == ALLOWED


def told(command: str, settings: Settings, *arguments: str) -> Any:
    """Return the JSON document of a command."""
    config = settings.folder / "told.ini"
    config.write_text(settings.text())
    done = run_acmems(command, config, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def csr_for(folder: Path, *names: str) -> Path:
    """Return a new CSR for some names."""
    return make_key_and_csr(folder, list(names), stem=names[-1])[1]


@pytest.mark.parametrize("code", ["rateLimited", "unauthorized"])
def test_names_that_the_ca_has_paused(
    proxy: FaultProxy, settings: Settings, tmp_path: Path, code: str
) -> None:
    """Nothing is ordered until a person has acted: the operator has the page for it, clients do not."""
    proxied = proxy.before(settings)
    proxy.when(path=NEW_ORDER).problem(429 if code == "rateLimited" else 403, code, UNPAUSE)
    paused, other = csr_for(tmp_path, "www.example.org"), csr_for(tmp_path, "mail.example.org")
    with Acmems(proxied) as acmems:
        first, second = (curl_sign(acmems.sign_url, paused) for _ in range(2))
        assert (first.status, second.status) == (429, 429)
        for reply in (first, second):
            assert b"end the pause at the CA" in reply.body
            assert b"jwt" not in reply.body
        assert "tried again after" in second.text
        assert 3500 < int(second.headers["Retry-After"]) <= 3600
        assert proxy.count(path=NEW_ORDER) == 1
        (line,) = [each for each in acmems.log.splitlines() if " ERROR " in each]
        assert PAGE in line
        acmems.stop()
        acmems.start()
        assert curl_sign(acmems.sign_url, paused).status == 429
        assert proxy.count(path=NEW_ORDER) == 1, "a restart forgets nothing"
        (pause,) = told("limits", proxied)["pauses"]
        assert (pause["subject"], pause["names"], pause["visit"]) == ("account", ["www.example.org"], PAGE)
        happened = told("events", proxied, "--name", "www.example.org")["events"]
        assert all(PAGE in each["reason"] for each in happened if each["status"] == 429)
        assert 429 in {each["status"] for each in happened}
        proxy.heal()
        assert curl_sign(acmems.sign_url, other).status == 200
        assert curl_sign(acmems.sign_url, paused).status == 429
        acmems.reload()
        assert curl_sign(acmems.sign_url, paused).status == 200


def test_a_limit_that_nobody_has_configured(proxy: FaultProxy, settings: Settings, tmp_path: Path) -> None:
    """The CA tells of it once; from then on it is counted, over a restart, and for what it is about."""
    proxied = proxy.before(settings)
    proxy.when(path=NEW_ORDER, nth=1).problem(429, "rateLimited", DOMAIN, Retry_After="3000")
    with Acmems(proxied) as acmems:
        reply = curl_sign(acmems.sign_url, csr_for(tmp_path, "a.example.org"))
        assert (reply.status, b"(50) already issued" in reply.body) == (429, True)
        for _ in range(2):
            reply = curl_sign(acmems.sign_url, csr_for(tmp_path, "b.example.org"))
            assert reply.status == 429
            assert b"certificates per registered domain for example.org, 50 of 50 used" in reply.body
            assert 2900 < int(reply.headers["Retry-After"]) <= 3000
            acmems.stop()
            acmems.start()
        assert proxy.count(path=NEW_ORDER) == 1
        assert curl_sign(acmems.sign_url, csr_for(tmp_path, "www.example.com")).status == 200
        limits = {each["subject"]: each for each in told("limits", proxied)["limits"]}
        assert limits["example.com"]["used"] == 1
        learnt = limits["example.org"]
        assert (learnt["source"], learnt["count"], learnt["left"]) == ("learnt", 50, 0)
        assert learnt["learnt"]["words"] == DOMAIN
        explained = told("explain", proxied, "--address", "127.0.0.1", "--name", "new.example.com")
        (cost,) = explained["limits"]
        assert (cost["subject"], cost["used"], cost["takes"], cost["left"]) == ("example.com", 1, 1, 48)
        renewed = told("renew", proxied, "www.example.com", "--dry-run")
        assert [each["exempt"] for each in renewed["limits"]] == ["renewal"]
        assert not renewed["is_ordered"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_name_that_cannot_be_validated(
    proxy: FaultProxy, settings: Settings, dns: ChallTestSrv, tmp_path: Path, processes: int
) -> None:
    """Nobody tries it again who would prove it the same way: other blocks, processes, after a restart."""
    settings.auth, settings.mgmt = BLOCKS, f"processes = {processes}"
    dns.post("add-a", host="bad1.test", addresses=["127.0.0.91"])
    one, both = csr_for(tmp_path, "bad1.test"), csr_for(tmp_path, "bad1.test", "good1.test")
    with Acmems(proxy.before(settings)) as acmems:
        reply = curl_sign(acmems.sign_url, one)
        assert (reply.status, "tried again" in reply.text) == (421, False)
        orders = proxy.count(path=NEW_ORDER)
        for number in range(8):
            reply = curl_sign(acmems.sign_url, both)
            assert reply.status == 421
            assert "could not validate bad1.test" in reply.text
            assert "; this was tried before, and is tried again after 20" in reply.text
            assert 0 < int(reply.headers["Retry-After"]) <= 30
            if number == 5:
                acmems.stop()
                acmems.start()
        assert proxy.count(path=NEW_ORDER) == orders
        assert curl_sign(acmems.sign_url, csr_for(tmp_path, "good1.test")).status == 200
