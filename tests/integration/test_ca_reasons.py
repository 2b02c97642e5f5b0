"""What a CA has against a request, an account or a key reaches the person: in the answer and in the log."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import AUTHORIZATION, CHALLENGE, NEW_ACCOUNT, NEW_ORDER
from tests.peers import (
    Acmems,
    ChallTestSrv,
    Pebble,
    Settings,
    curl_sign,
    make_key_and_csr,
    run_acmems,
)

ACCOUNT = "^/my-account/"
PREFIX = "urn:ietf:params:acme:error:"
GOOD, BAD = ("good1.example.org", "good2.example.org"), ("bad1.test", "bad2.test", "bad3.test")


@pytest.fixture
def acmems(proxy: FaultProxy, settings: Settings) -> Iterator[Acmems]:
    """A server that speaks to the CA through the proxy."""
    with Acmems(proxy.before(settings)) as running:
        yield running


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    """A signing request for one name."""
    return make_key_and_csr(tmp_path, ["reason.example.org"])[1]


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """A signing request for five names."""
    return make_key_and_csr(tmp_path, [*GOOD, *BAD], stem="five")[1]


def failed(acmems: Acmems) -> str:
    """Return what the log says of the last request."""
    return [line for line in acmems.log.splitlines() if " refused " in line or " failed " in line][-1]


@pytest.mark.threat("ca", "a name that cannot be validated")
def test_three_names_that_cannot_be_validated(acmems: Acmems, dns: ChallTestSrv, five: Path) -> None:
    """Each of three bad names of five is told, with what the CA found there."""
    addresses = {name: f"127.0.0.{number}" for number, name in enumerate(BAD, 91)}
    for name, address in addresses.items():
        dns.post("add-a", host=name, addresses=[address])
    reply = curl_sign(acmems.sign_url, five)
    assert reply.status == 421
    for said in (reply.text, failed(acmems)):
        parts = [part for part in said.split("could not validate ") if part.startswith(BAD)]
        assert sorted(part.partition(":")[0] for part in parts) == sorted(BAD)
        assert all(addresses[part.partition(":")[0]] in part for part in parts)
        assert not any(f"validate {name}" in said for name in GOOD)


def test_three_names_that_are_not_accepted(proxy: FaultProxy, acmems: Acmems, five: Path) -> None:
    """Each subproblem of a refused order is told, with its own words (RFC 8555 section 6.7.1)."""
    within = [
        {
            "type": f"{PREFIX}rejectedIdentifier",
            "detail": f"no account may have {name}",
            "identifier": {"type": "dns", "value": name},
        }
        for name in BAD
    ]
    document = {"type": f"{PREFIX}compound", "detail": "several", "subproblems": within}
    proxy.when(path=NEW_ORDER).answer(
        403, json.dumps(document).encode(), Content_Type="application/problem+json"
    )
    reply = curl_sign(acmems.sign_url, five)
    assert reply.status == 421
    for said in (reply.text, failed(acmems)):
        assert all(f"{name} is not accepted: no account may have {name}" in said for name in BAD)


def test_a_refused_challenge(proxy: FaultProxy, acmems: Acmems, csr: Path) -> None:
    """Where the CA does not take the request to validate, its words are the answer, before the deadline."""
    proxy.when(path=CHALLENGE).problem(400, "malformed", "not that token")
    reply = curl_sign(acmems.sign_url, csr)
    assert reply.status == 421
    assert reply.text == "the CA could not validate reason.example.org: not that token\n"
    assert "not that token" in failed(acmems)


def test_a_pending_challenge_with_an_error(proxy: FaultProxy, acmems: Acmems, csr: Path) -> None:
    """A challenge that stays `pending` with an error has failed, before the deadline."""

    def complain(document: dict[str, Any]) -> dict[str, Any]:
        error = {"type": f"{PREFIX}connection", "detail": "no route to it"}
        challenges = [each | {"status": "pending", "error": error} for each in document["challenges"]]
        return document | {"status": "pending", "challenges": challenges}

    proxy.when(path=AUTHORIZATION, nth=range(2, 1000)).edit(complain)
    reply = curl_sign(acmems.sign_url, csr)
    assert reply.status == 421
    assert reply.text == "the CA could not validate reason.example.org: no route to it\n"
    assert "no route to it" in failed(acmems)


@pytest.mark.parametrize("code", ["unauthorized", "malformed"])
def test_a_word_in_the_detail(proxy: FaultProxy, acmems: Acmems, csr: Path, code: str) -> None:
    """A text that speaks of an account says nothing about ours."""
    proxy.when(path=NEW_ORDER).problem(403, code, "not in your hosting account")
    reply = curl_sign(acmems.sign_url, csr)
    assert reply.status == {"unauthorized": 421, "malformed": 502}[code]
    assert "not in your hosting account" in reply.text


class TestAccount:
    """What a CA has against the account: what can be done without is done without."""

    @pytest.mark.parametrize("code", ["malformed", "unauthorized"])
    def test_it_is_not_shown(self, proxy: FaultProxy, settings: Settings, csr: Path, code: str) -> None:
        """A CA that refuses to show a registered account, which it knows, issues to it."""
        assert self.register(proxy, settings).returncode == 0
        proxy.when(path=ACCOUNT).problem(403, code, "nothing to see")
        with Acmems(proxy.before(settings)) as acmems:
            assert curl_sign(acmems.sign_url, csr).status == 200
            assert "nothing to see" in acmems.log

    def test_its_contacts_are_not_taken(self, proxy: FaultProxy, settings: Settings, csr: Path) -> None:
        """A CA that shows the account and refuses new contacts issues nevertheless."""
        assert self.register(proxy, settings).returncode == 0
        proxy.when(path=ACCOUNT, nth=range(2, 100, 2)).problem(400, "invalidContact", "no such domain")
        changed = dataclasses.replace(settings, account="email = new@example.org")
        with Acmems(proxy.before(changed)) as acmems:
            assert curl_sign(acmems.sign_url, csr).status == 200
            assert "no such domain" in acmems.log

    @pytest.mark.threat("ca", "new terms, lost accounts")
    def test_it_is_deactivated(self, proxy: FaultProxy, settings: Settings, csr: Path) -> None:
        """A deactivated account stays an error that says what to move."""
        assert self.register(proxy, settings).returncode == 0
        with Acmems(proxy.before(settings)) as acmems:
            configuration = acmems.folder / "acmems.ini"
            assert run_acmems("account", "deactivate", "--yes", configuration).returncode == 0
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 503
            assert "account.pem" in failed(acmems)
            shown = run_acmems("account", "show", configuration)
        assert shown.returncode == 1
        assert "account.pem" in shown.stderr

    def test_a_binding_is_wanted_to_find_it(self, dns: ChallTestSrv, tmp_path: Path) -> None:
        """A CA that wants a binding even for `onlyReturnExisting` gets it."""
        key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
        options = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": key}}
        with Pebble(dns.address, options=options) as ca, FaultProxy(ca) as proxy:
            settings = Settings.of(ca, tmp_path)
            settings.account = f"eab-kid = kid-1\neab-hmac-key = {key}"
            proxy.when(path=NEW_ACCOUNT, nth=1).problem(401, "externalAccountRequired", "bind it")
            registered = self.register(proxy, settings)
        assert registered.returncode == 0, registered.stderr
        assert "bind it" in registered.stderr
        questions = [seen.payload for seen in proxy.seen if seen.path == NEW_ACCOUNT.strip("^$")]
        assert ["externalAccountBinding" in question for question in questions] == [False, True, True]
        assert ["onlyReturnExisting" in question for question in questions] == [True, True, False]

    def test_its_kind_of_key_is_not_taken(self, proxy: FaultProxy, settings: Settings) -> None:
        """The log says which kinds the CA lists, and which files to move (section 6.2)."""
        document = {
            "type": f"{PREFIX}badSignatureAlgorithm",
            "detail": "not that one",
            "algorithms": ["RS256", "ES384"],
        }
        proxy.when(path=NEW_ACCOUNT).answer(
            400, json.dumps(document).encode(), Content_Type="application/problem+json"
        )
        registered = self.register(proxy, settings)
        assert registered.returncode == 1
        assert "it lists RS256, ES384: set 'key-type' in [account] to ec384 or rsa2048" in registered.stderr
        assert f"move {settings.folder}/account/account.pem and " in registered.stderr

    def register(self, proxy: FaultProxy, settings: Settings) -> Any:
        configuration = settings.folder / "register.ini"
        configuration.write_text(proxy.before(settings).text())
        return run_acmems("account", "register", configuration)
