"""What monitoring systems are answered, and what that costs."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.chains import make_chain, make_request
from tests.monitoring import TEXT, Health, Stand
from tests.peers import wait_until

from acmems.events import DeliveredEvent, Event, NotIssuedEvent, RefusedEvent
from acmems.exceptions import CAUnavailable, RateLimited, StateUnavailable, StorageUnavailable
from acmems.frontends.metrics import monitoring as module
from acmems.frontends.metrics import readings
from acmems.frontends.metrics.monitoring import HEALTHZ, METRICS, READYZ, Monitoring
from acmems.frontends.metrics.snapshot import Family, Snapshot, unpacked
from acmems.frontends.tls.expiry import Expiry
from acmems.issuing.subjects import EverythingSubject
from acmems.net.address import Address
from acmems.net.http import HttpResponse, HttpService
from acmems.net.listening import Listener, ListenerLimits
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.storages import FileStorage, IssuerIdentity

KNOWN: dict[str, Any] = {"reference": "r", "client": "192.0.2.1"}
FAMILY: Family = ("sum", "gauge", "Sum.", [("sum", {}, 7.0)])
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def monitoring(stand: Stand) -> Iterator[Monitoring]:
    """What watches over the server, started."""
    made = Monitoring(stand)
    made.start()

    def has_looked() -> bool:
        is_tried = (stand.folder / "disk" / "identities").exists()  # made by the first trial
        goes_on = any(trial.began is not None for trial in made._storages._trials.values())
        return made._survey.ended is not None and stand.stub.probes > 0 and is_tried and not goes_on

    wait_until(has_looked, "it has looked at everything")
    yield made
    made.stop()


def ask(monitoring: Monitoring, path: str) -> HttpResponse:
    return monitoring.front_end._pages[path]()


class TestSeveralProcesses:
    """What is answered where the server has several processes."""

    def test_all_are_asked(self, stand: Stand) -> None:
        """Whoever is asked says what all of them know, and keeps no scrape of its own."""
        known = Snapshot(["acmems-mgmt of process 2"], ["the disk"], unpacked([FAMILY]))
        monitoring = Monitoring(stand, lambda: known)
        assert ask(monitoring, METRICS).body == b"# HELP sum Sum.\n# TYPE sum gauge\nsum 7.0\n"
        assert ask(monitoring, HEALTHZ).body == b"ended or hanging: acmems-mgmt of process 2\n"
        assert ask(monitoring, READYZ).body == b"the disk\n"
        known = Snapshot([], [], unpacked([(*FAMILY[:3], [("sum", {}, 8.0)])]), is_stopping=True)
        assert b"sum 8.0\n" in ask(monitoring, METRICS).body
        assert ask(monitoring, HEALTHZ).body == b"stopping\n"

    @pytest.mark.parametrize("path", [METRICS, HEALTHZ, READYZ])
    def test_they_cannot_be_asked(self, stand: Stand, path: str) -> None:
        """Where nobody knows how all of them are, that is the answer."""
        answer = ask(Monitoring(stand, lambda: None), path)
        assert (answer.status, answer.body) == (503, b"the supervisor does not answer\n")


def samples(stand: Stand, monitoring: Monitoring) -> Samples:
    """Return the samples of a scrape, made anew."""
    stand.moment.pass_by(seconds=module.KEPT_SECONDS)
    text = ask(monitoring, METRICS).body.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


class TestOwnCertificates:
    def test_one_that_expires_soon(self, stand: Stand, monitoring: Monitoring) -> None:
        """The server is ready, and says what is going to be wrong."""
        stand.expiries.append(Expiry("the certificate expires", is_over=False))
        reply = ask(monitoring, READYZ)
        assert reply.body.endswith(b"the certificate expires\n")
        assert b"ready\nthe certificate" in reply.body or reply.status == 503

    def test_one_that_has_expired(self, stand: Stand, monitoring: Monitoring) -> None:
        """The server is not ready: nobody who checks certificates can ask it."""
        stand.expiries.append(Expiry("the certificate has expired", is_over=True))
        reply = ask(monitoring, READYZ)
        assert (reply.status, b"the certificate has expired\n" in reply.body) == (503, True)


class TestHealth:
    def test_threads_that_live(self, monitoring: Monitoring) -> None:
        """A server whose threads live is alive."""
        reply = ask(monitoring, HEALTHZ)
        assert (reply.status, reply.body) == (200, b"ok\n")

    def test_a_thread_that_hangs(
        self, stand: Stand, monitoring: Monitoring, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One that hangs is named, however often somebody asks without a line in the log."""
        stand.health.well = False
        stand.watched.append(Health("acmems-save", well=False))
        reply = ask(monitoring, HEALTHZ)
        assert reply.status == 503
        assert reply.body == b"ended or hanging: mgmt\nended or hanging: acmems-save\n"
        found = samples(stand, monitoring)
        assert value(found, "acmems_thread_healthy", thread="mgmt") == 0
        assert value(found, "acmems_thread_healthy", thread="acmems-survey") == 1
        assert caplog.messages == []

    def test_a_server_that_stops(self, stand: Stand, monitoring: Monitoring) -> None:
        """While requests finish, the server is alive though some of its threads have ended, and not ready."""
        stand.health.well = False
        monitoring.stop()
        assert (ask(monitoring, HEALTHZ).status, ask(monitoring, READYZ).status) == (200, 503)
        assert ask(monitoring, READYZ).body == b"the server is stopping\n"


class TestReadiness:
    def test_a_server_that_works(self, monitoring: Monitoring) -> None:
        """A server that has what it needs is ready, and no cache may keep that."""
        reply = ask(monitoring, READYZ)
        assert (reply.status, reply.body) == (200, b"ready\n")
        assert reply.headers["Cache-Control"] == "no-store"

    @pytest.mark.threat("http", "strangers at the address of metrics")
    def test_all_that_is_lacking(
        self, stand: Stand, monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Each thing that is lacking has a line, without paths and reasons."""

        def check(_: FileStorage) -> None:
            raise StorageUnavailable("No space left on device (/srv/secret)")

        monkeypatch.setattr(FileStorage, "check", check)
        stand.stub.account = None
        with contextlib.closing(SqliteDatabase.open(tmp_path / "state.sqlite")) as stand.state:
            assert value(samples(stand, monitoring), "acmems_state_writable") == 1
            stand.state._commits.failure = StateUnavailable("disk I/O error (/srv/secret)")
            monitoring._storages.turn()
            wait_until(lambda: ask(monitoring, READYZ).body.count(b"\n") == 3, "the storage was tried")
            reply = ask(monitoring, READYZ)
            assert value(samples(stand, monitoring), "acmems_state_writable") == 0
        assert reply.status == 503
        assert reply.body.decode().splitlines() == [
            "storage 'disk' cannot be written",
            "the state cannot be written: nothing is ordered",
            "the account at the CA is not known: the log says why",
        ]

    @pytest.mark.threat("http", "strangers at the address of metrics")
    def test_a_server_without_accounts(self, stand: Stand, monitoring: Monitoring) -> None:
        """One that has only local CAs is ready: there is no account that a CA would have to know."""
        stand.issuers = []
        assert ask(monitoring, READYZ).status == 200

    def test_asking_tries_nothing(
        self, stand: Stand, monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However often somebody asks, nothing is written and the CA is not asked."""
        before, tried = stand.stub.probes, []

        def check(storage: FileStorage) -> None:
            tried.append(storage)

        monkeypatch.setattr(FileStorage, "check", check)
        for path in (READYZ, HEALTHZ, METRICS):
            for _ in range(100):
                assert ask(monitoring, path).status == 200
        assert (tried, stand.stub.probes) == ([], before)


class TestMetrics:
    def test_a_scrape_is_kept_for_a_moment(
        self, stand: Stand, monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A thousand scrapes within a second cost one."""
        made = []

        def generate(registry: Any) -> bytes:
            made.append(registry)
            return generate_latest(registry)

        monkeypatch.setattr(readings, "generate_latest", generate)
        for _ in range(1000):
            ask(monitoring, METRICS)
        stand.moment.pass_by(seconds=module.KEPT_SECONDS)
        ask(monitoring, METRICS)
        assert len(made) == 2

    @pytest.mark.parametrize(
        ("event", "labels"),
        [
            (
                DeliveredEvent(
                    status=200, source="stored", seconds=1.0, block="web", front_end="sign", **KNOWN
                ),
                {"front_end": "sign", "block": "web", "outcome": "stored"},
            ),
            (
                RefusedEvent(status=403, reason="no", front_end="sign", **KNOWN),
                {"front_end": "sign", "block": "", "outcome": "refused"},
            ),
        ],
        ids=["stored", "refused"],
    )
    def test_requests(
        self, stand: Stand, monitoring: Monitoring, event: Event, labels: dict[str, str]
    ) -> None:
        """Requests are counted from zero on, as the bus tells of them."""
        seen = []
        for _ in range(3):
            seen.append(value(samples(stand, monitoring), "acmems_requests_total", **labels))
            stand.bus.emit(event)
        assert seen == [0, 1, 2]

    @pytest.mark.parametrize("seconds", [0.1, 119.0, 121.0, 3000.0])
    def test_orders(self, stand: Stand, monitoring: Monitoring, seconds: float) -> None:
        """Orders are counted by issuer and outcome, and by their duration up to 120 seconds."""
        directory = stand.config.account.directory_url
        error = RateLimited("too many")
        stand.bus.emit(NotIssuedEvent(error=error, directory=directory, seconds=seconds, **KNOWN))
        found = samples(stand, monitoring)
        order = {"issuer": directory, "outcome": "limited"}
        assert value(found, "acmems_orders_total", **order) == 1
        assert value(found, "acmems_orders_total", issuer=directory, outcome="issued") == 0
        assert value(found, "acmems_order_duration_seconds_sum", **order) == seconds
        within = value(found, "acmems_order_duration_seconds_bucket", le="120.0", **order)
        assert within == (1 if seconds <= 120 else 0)

    def test_counters_are_this_server_s_own(self, stand: Stand, monitoring: Monitoring) -> None:
        """Two servers in one process, as in tests, count for themselves."""
        other = Monitoring(stand)
        stand.bus.emit(RefusedEvent(status=403, reason="no", front_end="sign", **KNOWN))
        labels = {"front_end": "sign", "block": "", "outcome": "refused"}
        assert value(samples(stand, monitoring), "acmems_requests_total", **labels) == 1
        assert value(samples(stand, other), "acmems_requests_total", **labels) == 0

    def test_blocks_that_are_new(self, stand: Stand, monitoring: Monitoring) -> None:
        """Where the auth blocks are replaced, their requests are counted from zero on as well."""
        labels = {"front_end": "sign", "block": "new", "outcome": "issued"}
        assert value(samples(stand, monitoring), "acmems_requests_total", **labels) is None
        stand.config = stand.configured(TEXT.replace('"web"', '"new"'))
        assert value(samples(stand, monitoring), "acmems_requests_total", **labels) == 0

    def test_notices(self, stand: Stand, monitoring: Monitoring) -> None:
        """What waits, and how deliveries ended, by target, from zero on."""
        section = '[notice "ops"]\ntype = exec\ncommand = /bin/true\n'
        stand.config = stand.configured(TEXT + section)
        counts, name = stand.notices.counts, "acmems_notice_deliveries_total"
        for outcome in ("delivered", "failed", "lost"):
            assert value(samples(stand, monitoring), name, target="ops", outcome=outcome) == 0
        counts.count("ops", "failed")
        counts.count("gone", "failed")
        counts.waiting = {"ops": 2}
        found = samples(stand, monitoring)
        assert value(found, name, target="ops", outcome="failed") == 1
        assert value(found, name, target="gone", outcome="failed") is None
        assert value(found, "acmems_notices_waiting", target="ops") == 2

    def test_certificates(self, stand: Stand, monitoring: Monitoring) -> None:
        """What the last look has found is told by block."""
        request = make_request("a.web.example.org")
        chain = make_chain(request, 14)
        stand.config.storages["disk"].store(request, chain, IssuerIdentity("https://ca.example.org"))
        monitoring._survey.look()
        found = samples(stand, monitoring)
        name = "acmems_certificates"
        assert value(found, name, block="web", state="overdue") == 1
        assert value(found, name, block="web", state="fresh") == 0
        assert value(found, f"{name}_overdue_ratio", block="web") == pytest.approx(16 / 30, abs=0.001)
        end = value(found, f"{name}_earliest_not_after_timestamp_seconds", block="web")
        due = value(found, f"{name}_earliest_renewal_timestamp_seconds", block="web")
        assert (due, end) == (chain.renewal_time(None).timestamp(), chain.not_after.timestamp())

    def test_what_is_not_known_is_left_out(self, stand: Stand) -> None:
        """Before the first looks nothing is told of the CA, its clock and the certificates."""
        found = samples(stand, Monitoring(stand))
        issuer = {"issuer": stand.config.account.directory_url}
        assert value(found, "acmems_ca_up", **issuer) is None
        assert value(found, "acmems_ca_clock_ahead_seconds", **issuer) is None
        assert value(found, "acmems_survey_timestamp_seconds") is None
        assert value(found, "acmems_account_known", account="", **issuer) == 1

    def test_pauses_and_work(self, stand: Stand, monitoring: Monitoring) -> None:
        """Pauses are counted by what they stop, issuances by what becomes of them."""
        overall = RateLimited("too many", is_overall=True, retry_after=60)
        stand.issuance.pauses._cooldown.note(EverythingSubject().text(""), overall, 60)
        found = samples(stand, monitoring)
        assert value(found, "acmems_pauses", subject="everything") == 1
        assert value(found, "acmems_pauses", subject="name") == 0
        assert value(found, "acmems_issuances", state="queued") == 0
        assert value(found, "acmems_issuances_limit") == 256
        assert value(found, "acmems_chains_unsaved") == 0

    def test_connections(self, stand: Stand, monitoring: Monitoring) -> None:
        """Open connections, places, and those that made room for others are told by listener."""
        limits = ListenerLimits(connections=1, grace_seconds=0, crowd_grace_seconds=0, tick_seconds=0.001)
        service = HttpService(monitoring.front_end)
        listener = Listener("metrics", [Address("127.0.0.1", 0)], service, limits=limits).open()
        stand.listeners.append(listener)
        place = ("127.0.0.1", listener.addresses[0].port)
        try:
            with socket.create_connection(place), socket.create_connection(place):
                wait_until(
                    lambda: (listener.shed, len(listener.connections)) == (1, 1),
                    "one makes room for the other",
                )
                found = samples(stand, monitoring)
        finally:
            listener.close()
        assert value(found, "acmems_connections", listener="metrics") == 1
        assert value(found, "acmems_connections_limit", listener="metrics") == 1
        assert value(found, "acmems_connections_shed_total", listener="metrics") == 1

    def test_a_ca_that_is_down(self, stand: Stand, monitoring: Monitoring) -> None:
        """An order that cannot reach the CA has it asked, and the metric tells the answer."""
        directory = stand.config.account.directory_url
        assert value(samples(stand, monitoring), "acmems_ca_up", issuer=directory) == 1
        stand.stub.answers = False
        error = CAUnavailable("down")
        stand.bus.emit(NotIssuedEvent(error=error, directory=directory, seconds=1.0, **KNOWN))
        monitoring._ca.turn()
        assert value(samples(stand, monitoring), "acmems_ca_up", issuer=directory) == 0
