"""The documented manager, one step at a time: new, refresh, evaluate, and an error for each state."""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Callable

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import AUTHORIZATION, CHALLENGE, DIRECTORY, NEW_ORDER
from tests.peers import ChallTestSrv, Settings
from tests.script import CHALLENGES, NAME, Records, Script, fetch, with_status

from acmems.exceptions import (
    AuthorizationNotYetProcessed,
    AuthorizationNotYetRequested,
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    ChallengeFailed,
    ChallengesUnknownStatus,
    NoChallengeMethodsSupported,
)
from acmems.system.clock import Clock

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


class TestSteps:
    """New, refresh, evaluate: one step at a time, and an error for each state."""

    @pytest.mark.usefixtures("web")
    def test_from_new_to_valid(self, script: Script) -> None:
        """Waiting for what each error tells, and refreshing, ends in a valid authorization."""
        authzr = script.finish(script.new)
        assert authzr.body.status.name == "valid"
        assert script.manager.authzrs == {NAME: authzr}
        assert script.manager.responses == {}
        assert script.refresh() == authzr

    @pytest.mark.usefixtures("web")
    def test_refreshing_what_is_not_known(self, script: Script, proxy: FaultProxy) -> None:
        """Refreshing a domain without an authorization requests one."""
        script.finish(script.refresh)
        assert proxy.count(path=NEW_ORDER) == 1

    @pytest.mark.usefixtures("web")
    def test_the_event_tells_that_somebody_came(self, script: Script, proxy: FaultProxy) -> None:
        """Until somebody fetches the answer it is not yet requested; then it is not yet processed."""
        proxy.when(path=CHALLENGE).answer(200, b"{}")  # the CA is not told to come
        with pytest.raises(AuthorizationNotYetRequested) as waiting:
            script.new()
        with pytest.raises(AuthorizationNotYetRequested) as again:
            script.refresh()
        event = waiting.value.event
        assert again.value.event is event
        assert not event.is_set()
        ((path, value),) = script.manager.responses[NAME].items()
        assert path.startswith(CHALLENGES)
        assert fetch(script.port, "other.example.org", path)[0] == 404
        assert not event.is_set()
        assert fetch(script.port, NAME, path) == (200, value)
        assert event.is_set()
        with pytest.raises(AuthorizationNotYetProcessed):
            script.refresh()

    @pytest.mark.parametrize("retry_after", [7, 77])
    def test_when_to_come_again(self, proxy: FaultProxy, settings: Settings, retry_after: int) -> None:
        """`wait_until` is an aware time: what the CA says, or the timer that a script gives."""
        script = Script(proxy.before(settings), clock=Clock(now=lambda: NOW))
        script.connect()
        proxy.when(path=CHALLENGE).answer(200, b"{}")
        proxy.when(path=AUTHORIZATION).header("Retry-After", str(retry_after))
        with pytest.raises(AuthorizationNotYetRequested) as waiting:
            script.new()
        waiting.value.event.set()
        with pytest.raises(AuthorizationNotYetProcessed) as refreshed:
            script.refresh()
        with pytest.raises(AuthorizationNotYetProcessed) as evaluated:
            script.evaluate(script.manager.authzrs[NAME], refresh_timer=retry_after + 1)
        assert refreshed.value.wait_until == NOW + datetime.timedelta(seconds=retry_after)
        assert evaluated.value.wait_until == NOW + datetime.timedelta(seconds=retry_after + 1)
        script.manager.close()

    def test_a_failed_challenge(self, script: Script) -> None:
        """Where nobody answers the CA the error has domain, message and URL, and stays."""
        with pytest.raises(AuthorizationNotYetRequested):
            script.new()
        with pytest.raises(ChallengeFailed) as raised:
            script.decide()
        assert (raised.value.domain, script.manager.responses) == (NAME, {})
        assert "/chalZ/" in raised.value.challenge_uri
        assert script.manager.authzrs[NAME].body.status.name == "invalid"
        with pytest.raises(ChallengeFailed):
            script.refresh()
        with pytest.raises(ChallengeFailed):
            script.acquire(NAME)

    def test_no_challenge_that_fits(self, script: Script, proxy: FaultProxy) -> None:
        """Without an http-01 challenge there is nothing to present."""
        proxy.when(path=AUTHORIZATION).set(challenges=[])
        with pytest.raises(NoChallengeMethodsSupported):
            script.new()
        assert script.manager.responses == {}

    def test_a_challenge_that_the_ca_does_not_take(self, script: Script, proxy: FaultProxy) -> None:
        """Where the CA cannot be told that it may come, nothing stays presented."""
        proxy.when(path=CHALLENGE).answer(503, Retry_After="1000")
        with pytest.raises(CAUnavailable):
            script.new()
        assert script.manager.responses == {}

    def test_an_authorization_that_is_gone(self, script: Script, proxy: FaultProxy) -> None:
        """Where the CA forgets a pending authorization, its proof is withdrawn."""
        with pytest.raises(AuthorizationNotYetRequested):
            script.new()
        assert script.manager.responses != {}
        proxy.when(path=AUTHORIZATION).problem(404, "malformed", "no such authorization")
        with pytest.raises(CAProblem):
            script.refresh()
        assert script.manager.responses == {}

    @pytest.mark.parametrize("step", [Script.new, Script.refresh])
    def test_an_unknown_status(
        self, script: Script, proxy: FaultProxy, step: Callable[[Script], object]
    ) -> None:
        """A state that no RFC knows is told as such."""
        proxy.when(path=AUTHORIZATION).set(status="perhaps")
        with pytest.raises(ChallengesUnknownStatus):
            step(script)

    @pytest.mark.usefixtures("web")
    @pytest.mark.parametrize("status", ["revoked", "deactivated", "expired"])
    def test_an_ended_authorization_is_renewed(self, script: Script, proxy: FaultProxy, status: str) -> None:
        """Evaluating an authorization that has ended, whatever RFC 8555 calls it, requests a new one."""
        old = script.finish(script.new)
        ended = with_status(old, status)
        new = script.finish(lambda: script.evaluate(ended))
        assert new.body.status.name == "valid"
        assert proxy.count(path=NEW_ORDER) == 2

    @pytest.mark.usefixtures("web")
    def test_evaluating_a_valid_one(self, script: Script, proxy: FaultProxy) -> None:
        """A valid authorization is returned as it is, remembered, and the CA is not asked."""
        valid = script.finish(script.new)
        script.manager.authzrs.clear()
        asked = len(proxy.seen)
        assert script.evaluate(valid) == valid
        assert script.manager.authzrs == {NAME: valid}
        assert len(proxy.seen) == asked

    def test_a_new_one_takes_the_place_of_the_old(self, script: Script, proxy: FaultProxy) -> None:
        """Requesting anew while one is pending leaves the new one's answer alone in the table."""
        proxy.when(path=CHALLENGE).answer(200, b"{}")
        for _ in range(2):
            with pytest.raises(AuthorizationNotYetRequested):
                script.new()
        (path,) = script.manager.responses[NAME]
        offered = {body.chall.typ: body for body in script.manager.authzrs[NAME].body.challenges}
        assert path == CHALLENGES + offered["http-01"].chall.encode("token")


def test_new_authz_where_the_ca_has_it(proxy: FaultProxy, settings: Settings) -> None:
    """Where the directory offers newAuthz (RFC 8555 section 7.4.1) a name is authorized without an order."""
    base = proxy.directory_url.removesuffix("/dir")
    token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"  # noqa: S105 - the one of RFC 8555 section 8.3
    challenge = {"type": "http-01", "status": "pending", "url": f"{base}/chalZ/x", "token": token}
    pending = {"status": "pending", "identifier": {"type": "dns", "value": NAME}, "challenges": [challenge]}
    authzr = json.dumps(pending).encode()
    proxy.when(path=DIRECTORY).set(newAuthz=f"{base}/new-authz")
    proxy.when(path="^/new-authz$").answer(201, authzr, Location=f"{base}/authZ/x")
    proxy.when(path=CHALLENGE).answer(200, b"{}")
    proxy.when(path=AUTHORIZATION).answer(200, json.dumps({**pending, "status": "valid"}).encode())
    script = Script(proxy.before(settings))
    manager = script.connect()
    with pytest.raises(AuthorizationNotYetRequested):
        script.new()
    assert manager.responses[NAME].keys() == {f"{CHALLENGES}{token}"}
    assert script.refresh().uri == f"{base}/authZ/x"
    assert manager.responses == {}
    assert [seen.payload for seen in proxy.seen if seen.path == "/new-authz"] == [
        {"identifier": {"type": "dns", "value": NAME}}
    ]
    assert proxy.count(path=NEW_ORDER) == 0
    manager.close()


def test_wildcards_step_by_step(script: Script, dns: ChallTestSrv) -> None:
    """A validator that sees no requests is never "not yet requested": the CA comes unseen."""
    name = f"*.{NAME}"
    script.validator = records = Records(dns)
    with pytest.raises(AuthorizationNotYetProcessed):
        script.new(name)
    assert script.finish(functools.partial(script.refresh, name), name).body.wildcard
    assert list(script.manager.authzrs) == [name]
    assert records.records == set()


def test_an_authorization_for_another_name(script: Script, proxy: FaultProxy) -> None:
    """An authorization for a name that nobody asked for is not acted on."""
    proxy.when(path=AUTHORIZATION).set(identifier={"type": "dns", "value": "evil.example.org"})
    with pytest.raises(CAProtocolError, match="another name"):
        script.new()
    assert script.manager.authzrs == {}
    assert script.manager.responses == {}
