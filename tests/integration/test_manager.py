"""The documented manager in the hands of a script, against a real CA."""

from __future__ import annotations

import datetime
from concurrent.futures import ThreadPoolExecutor

import pytest
from acme import messages
from tests.fault_proxy import FaultProxy
from tests.faults import NEW_ORDER
from tests.peers import Bind, Pebble, Settings
from tests.script import NAME, Script, with_status

from acmems.config import Configuration
from acmems.exceptions import (
    AccountError,
    ChallengeFailed,
    InvalidDomainName,
    NeedToAgreeToTOS,
    NoChallengeMethodsSupported,
    RateLimited,
)
from acmems.manager import ACMEManager

DNS01 = '[verification "dns"]\ntype = dns01-dnsUpdate\ndns-server = {server}\n'


def names_of(authzrs: list[messages.AuthorizationResource]) -> list[str]:
    return [authzr.body.identifier.value for authzr in authzrs]


class TestAccount:
    """From an empty directory to a registered account."""

    def test_without_connecting_nothing_happens(self, proxy: FaultProxy, settings: Settings) -> None:
        """With `connect=False` no file is written and the CA is not asked."""
        manager = ACMEManager(Configuration.from_text(proxy.before(settings).text()), connect=False)
        assert list((settings.folder / "account").iterdir()) == []
        assert proxy.seen == []
        manager.close()

    def test_connecting_needs_a_key(self, settings: Settings) -> None:
        """The constructor connects unless told otherwise, and without a key it cannot."""
        with pytest.raises(AccountError, match="does not exist"):
            ACMEManager(Configuration.from_text(settings.text()))

    def test_a_first_script(self, settings: Settings) -> None:
        """Key, connection, and the account is there; the next manager finds it as it is."""
        config = Configuration.from_text(settings.text())
        first = ACMEManager(config, connect=False)
        first.create_private_key(key_size=2048)
        first.connect()
        second = ACMEManager(config)
        assert second.registration is not None
        assert second.registration == first.registration
        first.close()
        second.close()

    def test_step_by_step(self, script: Script) -> None:
        """`load_private_key` and `init_client` are what `connect` does first; then the account is read."""
        manager = ACMEManager(script.config, connect=False)
        manager.load_private_key()
        manager.init_client()
        assert manager.registration is None
        manager.connect()
        assert manager.registration == script.manager.registration
        manager.close()

    def test_terms_that_nobody_accepted(self, settings: Settings) -> None:
        """Without accepted terms the error carries their URL, and there is no account."""
        text = settings.text().replace("accept-terms-of-service = yes", "")
        manager = ACMEManager(Configuration.from_text(text), connect=False)
        manager.issuer.create_key()
        with pytest.raises(NeedToAgreeToTOS) as raised:
            manager.connect()
        assert raised.value.url.startswith("data:")
        assert not (settings.folder / "account" / "registration.json").exists()
        manager.close()


@pytest.mark.usefixtures("web")
class TestAcquire:
    """`acquire_domain_validations`, all at once."""

    def test_several_domains(self, script: Script) -> None:
        """Each domain gets its valid authorization, in the order asked for, and no answer stays behind."""
        names = ["b.example.org", "a.example.org", "c.example.org"]
        authzrs = script.acquire(*names)
        assert names_of(authzrs) == names
        assert {authzr.body.status.name for authzr in authzrs} == {"valid"}
        assert script.manager.authzrs == dict(zip(names, authzrs, strict=True))
        assert script.manager.responses == {}

    def test_valid_ones_are_used_again(self, script: Script, proxy: FaultProxy) -> None:
        """What is valid already is returned without asking the CA; only what is new is ordered."""
        (first,) = script.acquire(NAME)
        asked = len(proxy.seen)
        assert script.acquire(NAME) == [first]
        assert len(proxy.seen) == asked
        assert script.acquire("new.example.org", NAME)[1] == first
        assert proxy.count(path=NEW_ORDER) == 2

    # Orders are counted: once in a while Pebble gives an old authorization again, whatever it is told.

    def test_expired_ones_are_renewed(self, script: Script, proxy: FaultProxy) -> None:
        """A valid authorization whose time is over is replaced by a new one."""
        (old,) = script.acquire(NAME)
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
        script.manager.authzrs[NAME] = old.update(body=old.body.update(expires=past))
        (new,) = script.acquire(NAME)
        assert proxy.count(path=NEW_ORDER) == 2
        assert script.manager.authzrs == {NAME: new}
        assert new.body.expires != past

    @pytest.mark.parametrize("status", ["revoked", "deactivated", "expired"])
    def test_ended_ones_are_renewed(self, script: Script, proxy: FaultProxy, status: str) -> None:
        """An authorization that RFC 8555 calls ended is replaced by a new one."""
        (old,) = script.acquire(NAME)
        script.manager.authzrs[NAME] = with_status(old, status)
        (new,) = script.acquire(NAME)
        assert proxy.count(path=NEW_ORDER) == 2
        assert new.body.status.name == "valid"

    def test_invalid_ones_stay(self, script: Script, proxy: FaultProxy) -> None:
        """An invalid authorization fails at once, until a script removes it."""
        (old,) = script.acquire(NAME)
        script.manager.authzrs[NAME] = with_status(old, "invalid")
        asked = len(proxy.seen)
        with pytest.raises(ChallengeFailed):
            script.acquire(NAME)
        assert len(proxy.seen) == asked
        del script.manager.authzrs[NAME]
        assert script.acquire(NAME)[0].body.status.name == "valid"

    def test_the_same_domain_twice(self, script: Script, proxy: FaultProxy) -> None:
        """Who asks for a domain twice gets its authorization twice, for one order."""
        first, second = script.acquire(NAME, NAME)
        assert first == second
        assert proxy.count(path=NEW_ORDER) == 1

    @pytest.mark.parametrize("domain", ["not a name", "127.0.0.1", "a..example.org"])
    def test_a_malformed_domain_is_the_documented_error(
        self, script: Script, proxy: FaultProxy, domain: str
    ) -> None:
        """What can be no DNS name is refused with the documented error, and the CA is not asked."""
        for ask in (script.acquire, script.new, script.refresh):
            with pytest.raises(InvalidDomainName) as raised:
                ask(domain)
            assert raised.value.domain == domain
        assert proxy.count(path=NEW_ORDER) == 0

    def test_a_name_is_one_name_in_any_case(self, script: Script, proxy: FaultProxy) -> None:
        """Capitals make no other name: one authorization answers both spellings."""
        first, second = script.acquire(NAME, NAME.upper())
        assert first == second
        assert proxy.count(path=NEW_ORDER) == 1

    def test_no_domains_need_no_validation(self, script: Script, proxy: FaultProxy) -> None:
        """No domains need no validation."""
        asked = len(proxy.seen)
        assert script.acquire() == []
        assert len(proxy.seen) == asked

    def test_a_wildcard_cannot_be_proved_by_http(self, script: Script) -> None:
        """For a wildcard name the CA offers no http-01, and the error names it."""
        with pytest.raises(NoChallengeMethodsSupported, match=r"\*\.script\.example\.org"):
            script.acquire(f"*.{NAME}")

    @pytest.mark.parametrize(
        ("code", "status", "error"),
        [
            ("rejectedIdentifier", 403, InvalidDomainName),
            ("unsupportedIdentifier", 400, InvalidDomainName),
            ("rateLimited", 429, RateLimited),
            ("accountDoesNotExist", 400, AccountError),
        ],
    )
    def test_a_refusal_of_the_ca_is_the_documented_error(
        self, script: Script, proxy: FaultProxy, code: str, status: int, error: type[Exception]
    ) -> None:
        """A refusal of the CA is the documented error, with its words."""
        proxy.when(path=NEW_ORDER).problem(status, code, "its words")
        with pytest.raises(error, match="its words") as raised:
            script.acquire(NAME)
        if isinstance(raised.value, InvalidDomainName):
            assert (raised.value.domain, raised.value.detail) == (NAME, "its words")

    def test_many_threads(self, script: Script) -> None:
        """Threads that use one manager at once all get what they asked for, and leave nothing behind."""
        shared = "shared.example.org"

        def work(number: int) -> list[str]:
            return names_of(script.acquire(f"thread{number}.example.org", shared))

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(work, range(8)))
        assert found == [[f"thread{number}.example.org", shared] for number in range(8)]
        assert len(script.manager.authzrs) == 9
        assert script.manager.responses == {}


def test_a_domain_that_cannot_be_validated(script: Script) -> None:
    """Where nobody answers the CA the error has domain, message and URL; no answer stays behind."""
    with pytest.raises(ChallengeFailed) as raised:
        script.acquire(NAME)
    assert raised.value.domain == NAME
    assert NAME in raised.value.message
    assert "/chalZ/" in raised.value.challenge_uri
    assert script.manager.responses == {}


def test_a_failed_domain_is_not_ordered_again(script: Script, proxy: FaultProxy) -> None:
    """An authorization that failed stays, and fails at once; those that did not fail are not kept for it."""
    for _ in range(2):
        with pytest.raises(ChallengeFailed):
            script.acquire(NAME)
    assert proxy.count(path=NEW_ORDER) == 1
    assert script.manager.authzrs[NAME].body.status.name == "invalid"


def test_wildcards_by_dns(settings: Settings) -> None:
    """A name and its wildcard are proved by dns-01, each known under its own name; no record stays behind."""
    names = ["wild.example.org", "*.wild.example.org"]
    with Bind("example.org") as bind, Pebble(bind.address) as ca:
        settings.directory_url, settings.ca_file = ca.directory_url, ca.ca_file
        settings.verification = DNS01.format(server=bind.address)
        script = Script(settings)
        manager = script.connect()
        authzrs = script.acquire(*names)
        assert bind.texts("_acme-challenge.wild.example.org") == set()
        assert manager.authzrs == dict(zip(names, authzrs, strict=True))
        assert script.refresh(names[1]) == authzrs[1]
        manager.close()
    assert [authzr.body.wildcard or False for authzr in authzrs] == [False, True]
    assert {authzr.body.status.name for authzr in authzrs} == {"valid"}
