"""Two CAs, two accounts: what becomes of requests while one CA dies, has had enough, or comes back."""

from __future__ import annotations

import json
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import FINALIZE, NEW_ACCOUNT, NEW_ORDER
from tests.peers import (
    CALM,
    Acmems,
    Pebble,
    PeerFailed,
    Reply,
    Settings,
    curl_sign,
    make_key_and_csr,
    run,
    verify_chain,
    wait_until,
)

from acmems.issuers.acme.session.retries import TRIES
from acmems.issuers.breaker import FIRST_SECONDS

MACHINES = 12

FURTHER = """
[account "b"]
acme-server = {server}
ca-file = {ca_file}
dir = {folder}/account-b
accept-terms-of-service = yes
"""
BOTH = '\n[auth "all"]\nall = yes\ndomain = **\nissuer = , b\n'
FIRST_ONLY = '\n[auth "first"]\nall = yes\ndomain = *.first.example.org\n'


class TwoCAs:
    """A server with two accounts, each at a Pebble of its own behind a proxy that counts.

    Args:
        settings: the configuration; its CA is the first.
        first: the first CA, which may die.
        proxies: the way to each.
    """

    def __init__(self, settings: Settings, first: Pebble, proxies: tuple[FaultProxy, FaultProxy]) -> None:
        self.first = first
        self.proxies = proxies
        (settings.folder / "account-b").mkdir(mode=0o700)
        further = FURTHER.format(
            server=proxies[1].directory_url, ca_file=proxies[1].ca_file, folder=settings.folder
        )
        self.settings = proxies[0].before(settings)
        self.settings.account += further
        self.settings.storage = '[storage "state"]\ntype = sql\n'
        self.settings.auth = FIRST_ONLY + BOTH
        self.folder = settings.folder

    @property
    def orders(self) -> list[int]:
        return [proxy.count(path=NEW_ORDER) for proxy in self.proxies]

    def csrs(self, *names: str) -> list[Path]:
        made = []
        for name in names:
            folder = self.folder / name
            folder.mkdir()
            made.append(make_key_and_csr(folder, [name])[1])
        return made

    def ask(self, url: str, csrs: Sequence[Path]) -> list[Reply]:
        with ThreadPoolExecutor(len(csrs)) as pool:
            return list(pool.map(lambda csr: curl_sign(url, csr), csrs))

    def listed(self) -> list[dict[str, object]]:
        """Return what `acmems list` says."""
        output = run("acmems", "list", "--json", str(self.configuration()))
        found: list[dict[str, object]] = json.loads(output)["certificates"]
        return found

    def configuration(self) -> Path:
        path = self.folder / "acmems.ini"
        path.write_text(self.settings.text(), encoding="utf-8")
        return path


@pytest.fixture
def cas(pebble: Pebble, settings: Settings) -> Iterator[TwoCAs]:
    with (
        Pebble(pebble.dns_server, http_port=settings.challenge_port, env=CALM) as first,
        FaultProxy(first) as one,
        FaultProxy(pebble) as two,
    ):
        yield TwoCAs(settings, first, (one, two))


def issuers_of(answers: Sequence[Reply], roots: Sequence[str]) -> Counter[int]:
    """Return how many chains end in each root."""
    found: Counter[int] = Counter()
    for answer in answers:
        for number, root in enumerate(roots):
            try:
                verify_chain(answer.body, root)
            except (AssertionError, PeerFailed):
                continue
            found[number] += 1
    return found


def test_the_first_dies_midway(cas: TwoCAs, pebble: Pebble) -> None:
    """All get a certificate, those from the second whose orders were under way; later ones at once."""
    roots = [cas.first.root_pem(), pebble.root_pem()]
    csrs = cas.csrs(*(f"machine{number}.example.org" for number in range(MACHINES)))
    began = time.monotonic()

    def is_skipped() -> bool:
        """Tell whether only requests that try it have gone to the first CA, and none came from there."""
        tries = TRIES * int((time.monotonic() - began) // FIRST_SECONDS)  # a busy machine takes that long
        return first <= cas.orders[0] <= first + tries and cas.orders[1] == second + 1

    with Acmems(cas.settings) as acmems:
        before = cas.ask(acmems.sign_url, cas.csrs("before.example.org"))
        cas.proxies[0].when(path=FINALIZE, nth=3).call_before(lambda: cas.first.stop(signal.SIGKILL))
        answers = cas.ask(acmems.sign_url, csrs)
        assert Counter(answer.status for answer in (*before, *answers)) == {200: MACHINES + 1}
        found = issuers_of([*before, *answers], roots)
        assert found.total() == MACHINES + 1
        assert found[1] >= MACHINES - 2  # two may have been finalized, and downloaded, before it died
        first, second = cas.orders
        [later] = cas.ask(acmems.sign_url, cas.csrs("later.example.org"))
        assert issuers_of([later], roots) == {1: 1}
        assert is_skipped(), "a CA that is down is not asked"
        assert [each.body for each in cas.ask(acmems.sign_url, csrs)] == [each.body for each in answers]
        assert is_skipped(), "what is stored serves"
        [refused] = cas.ask(acmems.sign_url, cas.csrs("www.first.example.org"))
        assert refused.status == 503
        acmems.restart()
        wait_until(
            lambda: "has a certificate of another CA by now" in acmems.log, "left orders are looked at"
        )
        assert [each.body for each in cas.ask(acmems.sign_url, csrs)] == [each.body for each in answers]
        assert is_skipped(), "nor does a restart order anew"
        listed = Counter(each["issuer"] for each in cas.listed() if each["state"] != "ordered")
    assert listed == {cas.proxies[0].directory_url: found[0], cas.proxies[1].directory_url: found[1] + 1}


def test_a_limit_of_the_first(cas: TwoCAs, pebble: Pebble) -> None:
    """What it allows comes from the first, all else from the second, and the first is not asked in vain."""
    limit = '[limit "few"]\ncount = 3\nper = 1h\ncounts = orders\n'
    cas.settings.account = cas.settings.account.replace("\n[account", "\nlimits = few\n[account", 1)
    cas.settings.auth += limit
    roots = [cas.first.root_pem(), pebble.root_pem()]
    csrs = cas.csrs(*(f"machine{number}.example.org" for number in range(MACHINES)))
    with Acmems(cas.settings) as acmems:
        answers = cas.ask(acmems.sign_url, csrs)
        assert issuers_of(answers, roots) == {0: 3, 1: MACHINES - 3}
        assert cas.orders == [3, MACHINES - 3]
        [refused] = cas.ask(acmems.sign_url, cas.csrs("www.first.example.org"))
        assert refused.status == 429
        assert b"few, 3 of 3 used" in refused.body
        path = str(cas.configuration())
        asked = ["--address", "127.0.0.1", "--name", "www.example.org"]
        [explained] = json.loads(run("acmems", "explain", "--json", *asked, path))["limits"]
        dry = run("acmems", "renew", "--dry-run", "--json", path, "machine0.example.org")
        [renewed] = json.loads(dry)["limits"]
    for cost in (explained, renewed):
        assert (cost["account"], cost["used"], cost["until"] is not None) == ("[account]", 3, True)


def test_a_name_that_the_first_does_not_issue(cas: TwoCAs, pebble: Pebble) -> None:
    """It comes from the second; other names come from the first as before."""
    cas.proxies[0].when(path=NEW_ORDER, nth=1).problem(403, "rejectedIdentifier", "not here")
    roots = [cas.first.root_pem(), pebble.root_pem()]
    with Acmems(cas.settings) as acmems:
        for name, root in (("a.example.org", 1), ("b.example.org", 0)):
            assert issuers_of(cas.ask(acmems.sign_url, cas.csrs(name)), roots) == {root: 1}


def test_two_accounts_at_one_ca(proxy: FaultProxy, settings: Settings) -> None:
    """Each orders for its own block, and neither gets what the other has."""
    (settings.folder / "account-b").mkdir(mode=0o700)
    settings = proxy.before(settings)
    settings.account += FURTHER.format(
        server=proxy.directory_url, ca_file=proxy.ca_file, folder=settings.folder
    )
    settings.auth = (
        '[auth "one"]\nall = yes\ndomain = *.one.example.org\ndomain = www.example.org\n'
        '[auth "two"]\nall = yes\ndomain = *.two.example.org\nissuer = b\n'
    )
    with Acmems(settings) as acmems:
        for number in (1, 2):
            folder = settings.folder / str(number)
            folder.mkdir()
            names = ["www.one.example.org", "www.two.example.org"]
            for name in names:
                csr = make_key_and_csr(folder, [name], stem=name)[1]
                assert curl_sign(acmems.sign_url, csr).status == 200
    kids = [seen.protected["kid"] for seen in proxy.seen if re.search(NEW_ORDER, seen.path)]
    assert len(kids) == 4
    assert len(set(kids)) == 2
    assert kids[0::2] == [kids[0]] * 2


def test_the_second_has_no_account_yet(cas: TwoCAs) -> None:
    """A server starts without it, and says so."""
    cas.proxies[1].when(path=NEW_ACCOUNT).problem(500, "serverInternal")
    with Acmems(cas.settings) as acmems:
        [answer] = cas.ask(acmems.sign_url, cas.csrs("www.example.org"))
        assert answer.status == 200
        assert re.search(r'nothing can be ordered with \[account \\?"b\\?"\] yet', acmems.log)


def test_account_commands(cas: TwoCAs) -> None:
    """`--account` names the one that is meant."""
    with Acmems(cas.settings):
        path = str(cas.configuration())
        shown = [
            json.loads(run("acmems", "account", action, "--json", *named, path))
            for action, named in (
                ("show", []),
                ("show", ["--account", "b"]),
                ("rotate-key", ["--account", "b"]),
                ("show", []),
            )
        ]
    assert [each["server"] for each in shown] == [
        cas.proxies[number].directory_url for number in (0, 1, 1, 0)
    ]
    assert shown[1]["thumbprint"] != shown[2]["thumbprint"]
    assert shown[0]["thumbprint"] == shown[3]["thumbprint"]
