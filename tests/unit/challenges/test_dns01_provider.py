"""The dns-01 validator that has dns-lexicon talk to a DNS provider."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import queue
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.name
import pytest
from tests.stub_powerdns import KEY, StubPowerDns

from acmems.challenges import Validator, dns01_provider
from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Proof, Waiter
from acmems.challenges.dns01_provider import DnsProvider, known_providers
from acmems.challenges.txt import txt_value
from acmems.config import Configuration
from acmems.exceptions import ValidatorUnavailable
from acmems.frontends.problems import status_of
from acmems.settings.findings import Finding
from acmems.settings.grammar import read_sections
from acmems.settings.options import Options
from acmems.system.clock import SYSTEM
from acmems.system.programs import ProgramResult
from acmems.x509.identifiers import Identifier

RECORD = "_acme-challenge.www.example.org"
LONG = ".".join(["a" * 60] * 4)
# Prints each connection and each look-up that a worker makes.
WATCHED = """
import runpy, sys
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"):
        print("NET", event, args[1:] if event != "socket.getaddrinfo" else args[:2], file=sys.__stderr__)
sys.addaudithook(watch)
runpy.run_module("acmems.challenges.programs.provider_worker", run_name="__main__")
"""


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers, which get few variables, know of `scripts/coverage`."""
    kept = (*dns01_provider._VARIABLES, "COVERAGE_PROCESS_CONFIG")
    monkeypatch.setattr(dns01_provider, "_VARIABLES", kept)


def proof(name: str = "www.example.org", mark: str = "one") -> Proof:
    return Proof(Identifier.dns(name), mark, f"{mark}.thumbprint", lambda: None)


def value(mark: str = "one") -> str:
    return txt_value(f"{mark}.thumbprint")


def from_text(text: str) -> tuple[DnsProvider, list[str]]:
    findings: list[Finding] = []
    (section,) = read_sections('[verification "api"]\n' + text, "a.ini", findings)
    options = Options(section, findings)
    made = DnsProvider.from_options("api", options, ValidatorContext())
    options.finish()
    return made, [finding.message for finding in findings]


def at(stub: StubPowerDns, key: str = KEY, more: str = "") -> DnsProvider:
    made, findings = from_text(
        f"provider = powerdns\noption = pdns-server={stub.url}\noption = auth_token = {key}\n"
        f"zone = example.org\nzone = sub.example.org\nfollow-cnames = no\n{more}"
    )
    assert not findings
    return made


class TestTurns:
    """Changes of one zone follow each other, whichever section makes them."""

    SECTIONS = """
    [account]
    dir = x
    [verification "one"]
    type = dns01-provider
    provider = gandi
    follow-cnames = no
    zone = example.org
    zone = example.net
    timeout = {timeout}
    [verification "two"]
    type = dns01-provider
    provider = gandi
    follow-cnames = no
    zone = example.org
    timeout = {timeout}
    """

    @pytest.fixture
    def began(self, monkeypatch: pytest.MonkeyPatch) -> queue.SimpleQueue[tuple[str, threading.Event]]:
        """The zones of programs that were begun, each with what lets the program end."""
        running: queue.SimpleQueue[tuple[str, threading.Event]] = queue.SimpleQueue()

        def run(
            command: object, environ: object, deadline: object, *, feed: bytes, apart: bool
        ) -> ProgramResult:
            end = threading.Event()
            running.put((json.loads(feed)["zone"], end))
            assert end.wait(30)
            return ProgramResult(0, b"{}", b"")

        monkeypatch.setattr(dns01_provider, "run", run)
        return running

    def validators(self, timeout: float = 30) -> tuple[Validator, Validator]:
        text = textwrap.dedent(self.SECTIONS).format(timeout=timeout)
        configured = Configuration.from_text(text).validators
        return configured["one"], configured["two"]

    def test_sections_of_one_provider_change_a_zone_in_turn(
        self, began: queue.SimpleQueue[tuple[str, threading.Event]]
    ) -> None:
        """Two sections with one provider change a zone one after the other, and another zone meanwhile."""
        one, two = self.validators()
        with ThreadPoolExecutor(3) as pool:
            pool.submit(one.present, [proof("a.example.org")])
            first, end_first = began.get(timeout=30)
            pool.submit(two.present, [proof("b.example.org")])
            pool.submit(one.present, [proof("c.example.net")])
            second, end_second = began.get(timeout=30)
            assert (first, second) == ("example.org", "example.net")
            end_second.set()
            assert began.empty()
            end_first.set()
            third, end_third = began.get(timeout=30)
            end_third.set()
        assert third == "example.org"

    def test_a_change_that_waits_too_long_for_its_turn_fails(
        self, began: queue.SimpleQueue[tuple[str, threading.Event]]
    ) -> None:
        """Whoever does not have its turn in time hears so, and the zone is free afterwards."""
        one, two = self.validators(timeout=0.05)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(one.present, [proof("a.example.org")])
            _, end = began.get(timeout=30)
            with pytest.raises(ValidatorUnavailable, match=r"not done within 0\.05 s"):
                two.present([proof("b.example.org")])
            end.set()
            running.result(30)

    def test_configurations_share_nothing(
        self, began: queue.SimpleQueue[tuple[str, threading.Event]]
    ) -> None:
        """What one configuration does keeps no other waiting, and nothing is kept in the module."""
        with ThreadPoolExecutor(2) as pool:
            for validator in (self.validators()[0], self.validators()[0]):
                pool.submit(validator.present, [proof("a.example.org")])
            ends = [began.get(timeout=30)[1] for _ in range(2)]
            for end in ends:
                end.set()


class TestSection:
    def test_its_records_outlive_the_process_and_can_be_waited_for(self) -> None:
        """Its records outlive the process, it can wait for them, and proves wildcards but no addresses."""
        mine, findings = from_text("provider = gandi\nlabel = account\n")
        assert not findings
        assert isinstance(mine, Waiter)
        assert (mine.leaves_traces, mine.sees_requests, mine.challenge_type) == (
            True,
            False,
            "dns-account-01",
        )
        assert mine.proves(Identifier.dns("*.example.org"))
        assert not mine.proves(Identifier.ip("192.0.2.1"))
        mine.wait([proof()], SYSTEM.deadline(1), threading.Event())

    @pytest.mark.threat("proving", "a DNS provider that fails or hangs")
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "needs 'provider"),
            ("provider = gandy\n", "did you mean 'gandi'"),
            ("provider = auto\n", "no provider 'auto'"),
            ("provider = gandi\nzone = org\n", "no domain"),
            ("provider = gandi\nzone = a..b\n", "no domain"),
            ("provider = gandi\nttl = x\n", "ttl"),
        ],
    )
    def test_a_section_that_cannot_work_is_a_finding(self, text: str, reason: str) -> None:
        """What cannot work is a finding."""
        _, findings = from_text(text)
        assert any(reason in finding for finding in findings), findings

    def test_an_option_without_a_key_is_not_repeated(self) -> None:
        """A finding about an option does not show it: it may be a secret."""
        _, (finding,) = from_text("provider = gandi\noption = hunter2\n")
        assert finding == "option: must be 'key = value'"

    def test_a_missing_lexicon_is_a_finding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where dns-lexicon is not installed, a finding says what to install."""
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        _, (finding,) = from_text("provider = gandi\n")
        assert "pip install 'acmems[providers]'" in finding

    def test_secrets_are_not_shown(self) -> None:
        """Neither the validator nor its options show a value."""
        mine, _ = from_text("provider = gandi\noption = auth_token = hunter2\n")
        assert "hunter2" not in repr(mine) + repr(vars(mine))

    def test_lexicon_is_not_imported(self) -> None:
        """Its providers are known, dozens of them, and the server's process does not import the library."""
        code = (
            "import sys; from acmems.challenges.dns01_provider import known_providers as k; "
            "print(len(k()), 'lexicon' in sys.modules, 'tldextract' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        count, *imported = done.stdout.split()
        assert int(count) == len(known_providers()) > 50
        assert imported == ["False", "False"]


class TestHttpProvider:
    def test_values_come_and_go_beside_others(self) -> None:
        """Values of one name are added and removed one by one, and repeated calls are harmless."""
        with StubPowerDns("example.org", "sub.example.org") as stub:
            stub.put("example.org", RECORD, "someone else's")
            mine = at(stub)
            proofs = [proof(mark="base"), proof("*.www.example.org", mark="wildcard")]
            mine.present(proofs)
            mine.present(proofs)
            assert stub.texts(RECORD) == {"someone else's", value("base"), value("wildcard")}
            mine.withdraw([proofs[0], proof(LONG)])
            mine.withdraw([proofs[0]])
            assert stub.texts(RECORD) == {"someone else's", value("wildcard")}
            at(stub).withdraw(proofs)
            assert stub.texts(RECORD) == {"someone else's"}

    def test_the_longest_zone_is_used(self) -> None:
        """Of the configured zones the longest that fits takes the record; a foreign name is refused."""
        with StubPowerDns("example.org", "sub.example.org") as stub:
            at(stub).present([proof("a.sub.example.org"), proof("example.org")])
            assert stub.names("sub.example.org") == {"_acme-challenge.a.sub.example.org"}
            assert stub.names("example.org") == {"_acme-challenge.example.org"}
            with pytest.raises(
                ValidatorUnavailable, match=r"_acme-challenge\.example\.net: it is in none of the zones"
            ) as told:
                at(stub).present([proof("example.net")])
            assert "`zone`" in told.value.advice

    def test_the_dns_is_asked_for_the_zone(self) -> None:
        """Without `zone` the resolver tells the zone of each record."""

        class Tells:
            def zone_of(self, name: dns.name.Name) -> dns.name.Name:
                assert name.to_text() == "_acme-challenge.a.sub.example.org."
                return dns.name.from_text("sub.example.org")

        with StubPowerDns("example.org", "sub.example.org") as stub:
            mine = at(stub)
            mine.zones = mine._aliases.zones = ()
            mine._propagation.delegations = Tells()  # type: ignore[assignment] # the part that is used
            mine.present([proof("a.sub.example.org")])
            assert stub.names("sub.example.org") == {"_acme-challenge.a.sub.example.org"}

    def test_orders_at_once_do_not_undo_each_other(self) -> None:
        """The values of several threads are all there, though the API only knows whole sets."""
        with StubPowerDns("example.org") as stub:
            marks = ["a", "b", "c", "d"]
            mine = at(stub)
            threads = [threading.Thread(target=mine.present, args=([proof(mark=mark)],)) for mark in marks]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert stub.texts(RECORD) == {value(mark) for mark in marks}

    @pytest.mark.threat("proving", "a DNS provider that fails or hangs")
    def test_a_wrong_key_is_told_and_never_shown(self, caplog: pytest.LogCaptureFixture) -> None:
        """The client hears of HTTP 401, provider and record; the key is nowhere, the log included."""
        caplog.set_level(logging.DEBUG)
        with StubPowerDns("example.org") as stub, pytest.raises(ValidatorUnavailable) as told:
            at(stub, "hunter2/wrong").present([proof()])
        assert status_of(told.value) == 421
        assert str(told.value) == (
            f"provider powerdns failed for record {RECORD}: authentication was refused: HTTP 401"
        )
        assert "hunter2" not in caplog.text + told.value.advice
        assert "HTTPError: 401" in caplog.text
        assert "for url: ***/api/v1" in caplog.text  # each option counts as a secret, this one too

    def test_secrets_come_from_file_and_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A secret is read from file or variable when it is used, an unreadable one is told by its key."""
        path = tmp_path / "key"
        with StubPowerDns("example.org") as stub:
            mine = at(stub, f"file:{path}")
            with pytest.raises(ValidatorUnavailable, match="option auth_token cannot be read") as told:
                mine.present([proof()])
            assert "No such file" in told.value.advice
            path.write_text(KEY + "\n", encoding="utf-8")
            mine.present([proof()])
            mine = at(stub, "env:STUB_KEY")
            with pytest.raises(ValidatorUnavailable, match="option auth_token cannot be read"):
                mine.withdraw([proof()])
            monkeypatch.setenv("STUB_KEY", KEY)
            mine.withdraw([proof()])
            assert stub.texts(RECORD) == set()

    @pytest.mark.threat("proving", "a DNS provider that fails or hangs")
    def test_an_api_that_hangs_is_given_up(self) -> None:
        """A provider that does not answer costs no more than the time limit, and the next call may begin."""
        with StubPowerDns("example.org") as stub:
            stub.hang.set()
            with pytest.raises(ValidatorUnavailable, match=r"not done within 2 s") as told:
                at(stub, more="timeout = 2\n").present([proof()])
            assert status_of(told.value) == 421
            stub.hang.clear()
            at(stub).present([proof()])
            assert stub.texts(RECORD) == {value()}

    def test_an_api_that_is_away_is_told(self) -> None:
        """A refused connection is told as such."""
        with StubPowerDns("example.org") as stub:
            mine = at(stub)
        with pytest.raises(ValidatorUnavailable, match="it cannot be reached"):
            mine.present([proof()])

    def test_a_server_error_is_told_by_its_status(self) -> None:
        """An API that fails is told by its status, and the first record is named."""
        with StubPowerDns("example.org") as stub:
            stub.status = 503
            with pytest.raises(ValidatorUnavailable, match=rf"{RECORD}: HTTP 503"):
                at(stub).present([proof()])


class TestWorker:
    @pytest.mark.threat("proving", "a DNS provider that fails or hangs")
    def test_only_the_provider_is_called(self, tmp_path: Path) -> None:
        """A worker with a home of its own connects to the API and to nothing else; no list is fetched."""
        with StubPowerDns("example.internal") as stub:
            asked = {
                "action": "present",
                "provider": "powerdns",
                "zone": "example.internal",
                "ttl": 60,
                "options": {"pdns_server": stub.url, "auth_token": KEY},
                "records": [["_acme-challenge.example.internal", "value"]],
            }
            done = subprocess.run(
                [sys.executable, "-c", WATCHED],
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                check=True,
                env={"HOME": str(tmp_path), "PATH": os.defpath},
            )
            assert json.loads(done.stdout) == {}
            assert stub.texts("_acme-challenge.example.internal") == {"value"}
            calls = {line for line in done.stderr.splitlines() if line.startswith("NET")}
        assert calls == {
            f"NET socket.getaddrinfo ('127.0.0.1', {stub.port})",
            f"NET socket.connect (('127.0.0.1', {stub.port}),)",
        }
        assert list(tmp_path.iterdir()) == []
