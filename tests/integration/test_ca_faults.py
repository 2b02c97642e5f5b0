"""A CA that fails in every way: what a client is told, what is never done twice, what still works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import (
    AUTHORIZATION,
    CERTIFICATE,
    CHALLENGE,
    FINALIZE,
    NEW_ORDER,
    ORDER,
    Rule,
)
from tests.peers import Acmems, ChallTestSrv, Pebble, Settings, curl_sign, make_key_and_csr, wait_until

AUTHZ_OR_CERT = f"{AUTHORIZATION}|{CERTIFICATE}"


@pytest.fixture
def proxy(pebble: Pebble) -> Iterator[FaultProxy]:
    """A proxy before the CA that breaks what a test tells it to break."""
    with FaultProxy(pebble) as running:
        yield running


@pytest.fixture
def acmems(proxy: FaultProxy, settings: Settings) -> Iterator[Acmems]:
    """A server that speaks to the CA through the proxy."""
    with Acmems(proxy.before(settings)) as running:
        yield running


@pytest.fixture
def hasty(proxy: FaultProxy, settings: Settings) -> Iterator[Acmems]:
    """The same, where a client waits for six seconds only."""
    settings.mgmt = "request-timeout = 6"
    with Acmems(proxy.before(settings)) as running:
        yield running


def ask_again(acmems: Acmems, csr: Path) -> int:
    """Ask as a client does that got 504, until there is another answer; return its status."""
    replies = [504]
    while replies[-1] == 504:
        replies.append(curl_sign(acmems.sign_url, csr).status)
    return replies[-1]


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    """A signing request for one name."""
    return make_key_and_csr(tmp_path, ["fault.example.org"])[1]


class TestOnce:
    """Nothing is ordered twice, nothing finalized twice."""

    @pytest.mark.threat("ca", "a finalize whose answer is lost")
    def test_a_lost_answer_to_finalize(self, proxy: FaultProxy, acmems: Acmems, csr: Path) -> None:
        """Where the answer to a finalize is lost the order is read, and its certificate delivered."""
        proxy.when(path=FINALIZE).drop_answer()
        assert curl_sign(acmems.sign_url, csr).status == 200
        assert proxy.count(path=FINALIZE) == 1
        assert proxy.count(path=NEW_ORDER) == 1

    def test_a_finalize_that_never_arrived(self, proxy: FaultProxy, acmems: Acmems, csr: Path) -> None:
        """Where the CA never got the finalize its order stays ready, and is finalized for the first time."""
        proxy.when(path=FINALIZE, nth=1).reset()
        assert curl_sign(acmems.sign_url, csr).status == 200
        assert proxy.count(path=NEW_ORDER) == 1

    @pytest.mark.threat("ca", "an order that stays in processing")
    def test_an_order_stuck_in_processing(self, proxy: FaultProxy, hasty: Acmems, csr: Path) -> None:
        """An order that the CA does not finish is a 504; the next request continues the same order."""
        proxy.when(path=f"{ORDER}|{FINALIZE}").set(status="processing", certificate=None)
        stuck = curl_sign(hasty.sign_url, csr)
        assert stuck.status == 504
        assert int(stuck.headers["Retry-After"]) >= 1
        proxy.heal()
        assert ask_again(hasty, csr) == 200
        assert proxy.count(path=NEW_ORDER) == 1
        assert proxy.count(path=FINALIZE) == 1

    def test_a_lost_certificate(self, proxy: FaultProxy, hasty: Acmems, csr: Path) -> None:
        """Where the download fails for long the next request downloads it, and orders nothing."""
        proxy.when(path=CERTIFICATE).problem(503, "serverInternal")
        assert curl_sign(hasty.sign_url, csr).status in {503, 504}
        proxy.heal()
        assert ask_again(hasty, csr) == 200
        assert proxy.count(path=NEW_ORDER) == 1
        assert proxy.count(path=FINALIZE) == 1

    @pytest.mark.parametrize("path", [ORDER, CERTIFICATE])
    @pytest.mark.parametrize(
        "fault",
        [
            lambda rule: rule.replace(b"<html>"),
            lambda rule: rule.replace(b""),
            lambda rule: rule.answer(403, b"<html>"),
            lambda rule: rule.answer(404),
        ],
        ids=["HTML", "empty", "403", "404"],
    )
    def test_an_odd_answer_after_the_finalize(
        self, proxy: FaultProxy, acmems: Acmems, csr: Path, path: str, fault: Callable[[Rule], None]
    ) -> None:
        """An answer that tells nothing is asked for again, and no certificate is lost."""
        proxy.when(path=FINALIZE).set(status="processing", certificate=None)
        fault(proxy.when(path=path, nth=1))
        assert curl_sign(acmems.sign_url, csr).status == 200
        assert (proxy.count(path=NEW_ORDER), proxy.count(path=FINALIZE)) == (1, 1)

    def test_an_order_that_lags_behind_its_finalize(
        self, proxy: FaultProxy, hasty: Acmems, csr: Path
    ) -> None:
        """An order that is still ready after a finalize that was answered is waited for."""
        proxy.when(path=f"{ORDER}|{FINALIZE}").set(status="ready", certificate=None)
        assert curl_sign(hasty.sign_url, csr).status == 504
        assert proxy.count(path=FINALIZE) == 1
        assert proxy.count(path=ORDER) < 30
        proxy.heal()
        assert ask_again(hasty, csr) == 200
        assert (proxy.count(path=NEW_ORDER), proxy.count(path=FINALIZE)) == (1, 1)

    def test_slow_validation(self, proxy: FaultProxy, hasty: Acmems, csr: Path, tmp_path: Path) -> None:
        """Where the CA decides after the client's time, the order goes on, and its certificate is stored."""
        proxy.when(path=AUTHORIZATION).set(status="pending")
        late = curl_sign(hasty.sign_url, csr)
        assert late.status == 504
        assert "after 6 s" in late.text
        assert int(late.headers["Retry-After"]) >= 1
        proxy.heal()
        wait_until(lambda: bool(list((tmp_path / "storage").glob("*/*/cert.pem"))), "a stored certificate")
        assert ask_again(hasty, csr) == 200
        assert [proxy.count(path=path) for path in (NEW_ORDER, CHALLENGE, FINALIZE)] == [1, 1, 1]


class TestPassing:
    """Faults that pass are not seen by clients."""

    @pytest.mark.threat("ca", "broken answers")
    @pytest.mark.parametrize("path", [AUTHORIZATION, CHALLENGE, ORDER, CERTIFICATE])
    @pytest.mark.parametrize(
        "fault",
        [Rule.reset, Rule.drop_answer, Rule.truncate, lambda rule: rule.problem(500, "serverInternal")],
        ids=["reset", "drop_answer", "truncate", "500"],
    )
    def test_a_passing_fault_is_repeated_where_that_is_safe(
        self, proxy: FaultProxy, acmems: Acmems, csr: Path, path: str, fault: Callable[[Rule], None]
    ) -> None:
        """What is safe to repeat is repeated after a reset, a lost or cut answer, or a 500."""
        fault(proxy.when(path=path, nth=1))
        assert curl_sign(acmems.sign_url, csr).status == 200
        assert proxy.count(path=NEW_ORDER) == 1

    @pytest.mark.threat("ca", "refused nonces")
    @pytest.mark.parametrize("percent", [5, 20, 50, 80])
    def test_refused_nonces(self, dns: ChallTestSrv, tmp_path: Path, csr: Path, percent: int) -> None:
        """A CA that refuses most nonces still gives a certificate."""
        picky = {"PEBBLE_WFE_NONCEREJECT": str(percent)}
        with Pebble(dns.address, env=picky) as ca, Acmems(Settings.of(ca, tmp_path)) as acmems:
            assert curl_sign(acmems.sign_url, csr).status == 200


class TestNonsense:
    """What no CA should say is a 502, and nothing is delivered or stored."""

    @pytest.mark.threat("ca", "another order, other origins")
    @pytest.mark.parametrize(
        ("path", "members"),
        [
            (NEW_ORDER, {"identifiers": [{"type": "dns", "value": "evil.example.org"}]}),
            (NEW_ORDER, {"identifiers": []}),
            (NEW_ORDER, {"status": "perhaps"}),
            (NEW_ORDER, {"authorizations": ["https://evil.example.org/authz"]}),
            (NEW_ORDER, {"authorizations": "none"}),
            (NEW_ORDER, {"finalize": "https://evil.example.org/finalize"}),
            (AUTHORIZATION, {"identifier": {"type": "dns", "value": "evil.example.org"}}),
            (AUTHORIZATION, {"status": "perhaps"}),
            (AUTHORIZATION, {"challenges": "none"}),
            (
                AUTHORIZATION,
                {
                    "challenges": [
                        {"type": "http-01", "url": "https://127.0.0.1/x", "token": "../../etc/passwd"}
                    ]
                },
            ),
        ],
        ids=str,
    )
    def test_nonsense_in_a_document_is_502(
        self,
        proxy: FaultProxy,
        acmems: Acmems,
        csr: Path,
        tmp_path: Path,
        path: str,
        members: dict[str, Any],
    ) -> None:
        """Other names, unknown states, URLs of other origins and tokens that are none stop everything."""
        proxy.when(path=path).set(**members)
        reply = curl_sign(acmems.sign_url, csr)
        assert reply.status == 502
        assert proxy.count(path=FINALIZE) == 0
        assert not list((tmp_path / "storage").glob("*/*/cert.pem"))

    @pytest.mark.threat("ca", "broken answers")
    @pytest.mark.parametrize(
        "body", [b"", b"garbage", b"[1]", b"-----BEGIN CERTIFICATE-----\n", b"{" * 100_000], ids=range(5)
    )
    def test_answers_that_are_none(self, proxy: FaultProxy, acmems: Acmems, csr: Path, body: bytes) -> None:
        """Bytes that are no JSON, or no certificate, are a 502."""
        proxy.when(path=AUTHZ_OR_CERT).replace(body)
        assert curl_sign(acmems.sign_url, csr).status == 502

    @pytest.mark.threat("ca", "broken answers")
    def test_an_endless_answer(self, proxy: FaultProxy, acmems: Acmems, csr: Path) -> None:
        """An answer of many megabytes is not read to its end."""
        proxy.when(path=NEW_ORDER).replace(b" " * 100_000_000)
        assert curl_sign(acmems.sign_url, csr).status == 502
        assert acmems.peak_memory < 150 * 2**20

    @pytest.mark.threat("ca", "broken answers")
    def test_a_redirect(self, proxy: FaultProxy, acmems: Acmems, csr: Path) -> None:
        """Redirects are not followed."""
        proxy.when(path=NEW_ORDER).redirect("https://127.0.0.1:1/elsewhere")
        assert curl_sign(acmems.sign_url, csr).status == 502

    @pytest.mark.threat("ca", "another certificate")
    def test_another_certificate(self, proxy: FaultProxy, acmems: Acmems, csr: Path, tmp_path: Path) -> None:
        """A certificate for another key and name is neither delivered nor stored."""
        _, other = make_key_and_csr(tmp_path, ["other.example.org"], stem="other")
        theirs = curl_sign(acmems.sign_url, other)
        assert theirs.status == 200
        stored = set((tmp_path / "storage").rglob("*"))
        proxy.when(path=CERTIFICATE).replace(theirs.body)
        refused = curl_sign(acmems.sign_url, csr)
        assert refused.status == 502
        assert b"BEGIN" not in refused.body
        assert set((tmp_path / "storage").rglob("*")) == stored

    def test_a_chain_out_of_order(self, proxy: FaultProxy, acmems: Acmems, csr: Path) -> None:
        """A chain that comes in the wrong order, and with a certificate twice, is put in order."""
        end, sent = b"-----END CERTIFICATE-----\n", []

        def swap(body: bytes) -> bytes:
            first, second = (part.lstrip() + end for part in body.split(end)[:2])
            sent.append(first + second)
            return second + first + second

        proxy.when(path=CERTIFICATE)._change_body(swap)
        reply = curl_sign(acmems.sign_url, csr)
        assert reply.status == 200
        assert reply.body == sent[0]


class TestLimits:
    """What a CA says about its limits reaches the client, and the CA is left alone."""

    @pytest.mark.threat("ca", "Retry-After")
    @pytest.mark.parametrize(
        ("value", "least", "most"),
        [
            ("77", 70, 77),
            ("1000000000", 1000, 86400),
            ("Fri, 01 Jan 2010 00:00:00 GMT", 1, 1),
        ],
    )
    def test_rate_limits(
        self, proxy: FaultProxy, acmems: Acmems, csr: Path, value: str, least: int, most: int
    ) -> None:
        """A 429 is passed on with its Retry-After, clamped; asking again at once does not reach the CA."""
        proxy.when(path=NEW_ORDER).problem(429, "rateLimited", "too many", **{"Retry-After": value})
        first, second = (curl_sign(acmems.sign_url, csr) for _ in range(2))
        assert first.status == second.status == 429
        assert "too many" in first.text
        assert least <= int(first.headers["Retry-After"]) <= most
        assert proxy.count(path=NEW_ORDER) == 1 or value.startswith("Fri")

    @pytest.mark.threat("ca", "Retry-After")
    def test_an_overloaded_ca(self, proxy: FaultProxy, acmems: Acmems, csr: Path) -> None:
        """A 503 with a long Retry-After is passed on at once, not waited for."""
        proxy.when(path=NEW_ORDER).problem(503, "serverInternal", "busy", **{"Retry-After": "120"})
        reply = curl_sign(acmems.sign_url, csr)
        assert reply.status == 503
        assert 60 <= int(reply.headers["Retry-After"]) <= 120

    def test_a_rejected_name(self, dns: ChallTestSrv, tmp_path: Path) -> None:
        """A name that the CA's policy forbids is a 421 with the CA's reason."""
        _, csr = make_key_and_csr(tmp_path, ["blocked.example.org"])
        strict = {"domainBlocklist": ["blocked.example.org"]}
        with Pebble(dns.address, options=strict) as ca, Acmems(Settings.of(ca, tmp_path)) as acmems:
            reply = curl_sign(acmems.sign_url, csr)
        assert reply.status == 421
        assert "blocked.example.org" in reply.text

    @pytest.mark.threat("ca", "a name that cannot be validated")
    def test_no_challenge_that_fits(self, proxy: FaultProxy, acmems: Acmems, csr: Path) -> None:
        """Where the CA offers no http-01 challenge the answer says so."""
        proxy.when(path=AUTHORIZATION).set(challenges=[{"type": "odd-01", "url": "https://127.0.0.1/x"}])
        reply = curl_sign(acmems.sign_url, csr)
        assert reply.status == 421
        assert "http-01" in reply.text

    @pytest.mark.threat("ca", "new terms, lost accounts")
    def test_a_forgotten_account(self, dns: ChallTestSrv, tmp_path: Path, csr: Path) -> None:
        """A CA that forgets the account under a running server is a 503, and the log says so."""
        with Pebble(dns.address) as ca, Acmems(Settings.of(ca, tmp_path)) as acmems:
            ca.restart()
            reply = curl_sign(acmems.sign_url, csr)
            log = acmems.log
        assert reply.status == 503
        assert any("account" in line for line in log.splitlines() if " failed " in line)
