"""What monitoring systems see of a real server, and what the dashboard and alert rules make of it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.peers import (
    Acmems,
    ChallTestSrv,
    Pebble,
    PeerFailed,
    Prometheus,
    Settings,
    curl,
    curl_sign,
    environment,
    free_port,
    make_key_and_csr,
    program,
    wait_until,
)

from acmems import __version__, app
from acmems.config import Configuration
from acmems.frontends.metrics import trials
from acmems.frontends.metrics.outcomes import OrderOutcome, RequestOutcome
from acmems.frontends.metrics.survey import CertificateState
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.subjects import PausedSubject
from acmems.notices.counts import DeliveryOutcome

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "contrib" / "prometheus-alerts.yml"
DASHBOARD = ROOT / "contrib" / "grafana-dashboard.json"
ALERT_TESTS = ROOT / "tests" / "cases" / "monitoring" / "alerts.yml"

METRICS = """
[metrics]
listener = 127.0.0.1:{port}
"""
BLOCKS = """
[auth "web"]
ip = 127.0.0.1
domain = *.web.example.org

[auth "others"]
ip = 192.0.2.1
domain = **
"""
# What labels may hold, where that is not from the configuration.
WORDS = {
    "outcome": {*get_args(RequestOutcome), *get_args(OrderOutcome), *get_args(DeliveryOutcome)},
    "front_end": {"sign", "http01", "metrics"},
    "subject": set(get_args(PausedSubject)),
    "state": {*get_args(CertificateState), "queued", "running", "behind"},
    "version": {__version__},
}
LABELS = {*WORDS, "account", "block", "issuer", "listener", "storage", "thread", "target", "le"}
OF_PROMETHEUS = {"up", "job", "instance"}  # names that are not of acmems


@dataclass
class Watched:
    """A server that has something to show.

    Args:
        acmems: the server.
        settings: its configuration.
        port: where it shows it.
    """

    acmems: Acmems
    settings: Settings
    port: int

    def get(self, path: str, *arguments: str) -> Any:
        return curl(f"http://127.0.0.1:{self.port}{path}", *arguments)

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return the samples of a scrape."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.get("/metrics").text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples().get((name, frozenset(labels.items())))


def watched(settings: Settings) -> tuple[Acmems, int]:
    port = free_port()
    settings.auth = BLOCKS + METRICS.format(port=port)
    return Acmems(settings), port


@pytest.fixture(scope="module")
def server(dns: ChallTestSrv, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A server after an order, a look at the stored chain, and a request that it refused."""
    with Pebble(dns.address) as ca:  # one that shares its port for challenges with no other test
        yield from serve(ca, tmp_path_factory.mktemp("watched"))


def serve(ca: Pebble, folder: Path) -> Iterator[Watched]:
    settings = Settings.of(ca, folder)
    settings.storage += '[notice "ops"]\ntype = exec\ncommand = /bin/true\n'
    _, csr = make_key_and_csr(folder, ["secret-host.web.example.org"])
    _, strange = make_key_and_csr(folder, ["www.elsewhere.example"], stem="strange")
    acmems, port = watched(settings)
    with acmems:
        assert [curl_sign(acmems.sign_url, each).status for each in (csr, csr, strange)] == [200, 200, 403]
        found = Watched(acmems, settings, port)
        fresh = {"block": "web", "state": "fresh"}
        wait_until(lambda: found.value("acmems_certificates", **fresh) == 1, "the certificate is counted", 60)
        wait_until(lambda: bool(found.value("acmems_ca_up", issuer=ca.directory_url)), "the CA was asked")
        yield found


def promtool(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )


def expressions() -> list[str]:
    """Return every expression of the dashboard, with its variables replaced as Grafana does."""
    variables = {"$job": "acmems", "$instance": ".*", "$__rate_interval": "1m"}
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    texts = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    for name, value in variables.items():
        texts = [text.replace(name, value) for text in texts]
    return texts


def rules() -> list[str]:
    """Return the expression of every alert, each on one line."""
    text = ALERTS.read_text(encoding="utf-8")
    found = re.findall(r"(?m)^        expr: (?:>-\n((?: {10}.*\n)+)|(.*)\n)", text)
    return [" ".join((folded or plain).split()) for folded, plain in found]


def selectors(expression: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return each metric that an expression names, with the labels that it selects by."""
    found = re.findall(r"\b((?:acmems|process)_\w+|up\b)(?:\{([^}]*)\})?", expression)
    return [(name, re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', inside)) for name, inside in found]


class TestScrape:
    def test_promtool_has_nothing_to_say(self, server: Watched) -> None:
        """Names, types and units are as Prometheus wants them."""
        reply = server.get("/metrics")
        done = promtool("check", "metrics", stdin=reply.text)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"

    def test_requests_and_orders_are_counted(self, server: Watched) -> None:
        """Each request counts for its front end, block and outcome, each order for its issuer and outcome."""
        samples = server.samples()

        def value(name: str, **labels: str) -> float | None:
            return samples.get((name, frozenset(labels.items())))

        for outcome, block in (("issued", "web"), ("stored", "web"), ("refused", "")):
            assert value("acmems_requests_total", front_end="sign", block=block, outcome=outcome) == 1
        assert value("acmems_requests_total", front_end="sign", block="others", outcome="issued") == 0
        answered = value("acmems_requests_total", front_end="http01", block="", outcome="answered")
        assert answered is not None
        assert answered >= 1
        order = {"issuer": server.settings.directory_url, "outcome": "issued"}
        assert value("acmems_orders_total", **order) == 1
        assert value("acmems_order_duration_seconds_count", **order) == 1
        assert value("acmems_order_duration_seconds_bucket", le="120.0", **order) == 1
        assert value("acmems_orders_total", issuer=server.settings.directory_url, outcome="unproved") == 0

    def test_certificates_are_told_by_block(self, server: Watched) -> None:
        """The block knows when its certificate is due, and that nothing is overdue."""
        due = server.value("acmems_certificates_earliest_renewal_timestamp_seconds", block="web")
        end = server.value("acmems_certificates_earliest_not_after_timestamp_seconds", block="web")
        assert due is not None
        assert end is not None
        assert due < end
        assert server.value("acmems_certificates_overdue_ratio", block="web") == 0
        assert server.value("acmems_certificates", block="others", state="fresh") == 0
        assert server.value("acmems_certificates_earliest_renewal_timestamp_seconds", block="others") is None

    def test_the_server_is_well(self, server: Watched) -> None:
        """What may fail is shown to work: threads, storage, account, CA; and what runs."""
        assert server.value("acmems_build_info", version=__version__) == 1
        assert server.value("acmems_storage_writable", storage="file") == 1
        assert server.value("acmems_account_known", issuer=server.settings.directory_url, account="") == 1
        ahead = server.value("acmems_ca_clock_ahead_seconds", issuer=server.settings.directory_url)
        assert ahead is not None
        assert abs(ahead) < 60
        threads = {
            dict(labels)["thread"]: value
            for (name, labels), value in server.samples().items()
            if name == "acmems_thread_healthy"
        }
        assert {"mgmt", "http01 http", "metrics", "issuance", "acmems-issuer"} < threads.keys()
        assert set(threads.values()) == {1.0}
        assert server.value("acmems_connections", listener="metrics") == 1
        assert server.value("acmems_connections_limit", listener="mgmt") == 2000

    def test_labels_are_few(self, server: Watched) -> None:
        """No label holds a name, serial number or address: all come from the configuration or a list."""
        known = {
            "account": {""},
            "block": {"", "web", "others"},
            "issuer": {server.settings.directory_url},
            "listener": {"mgmt", "http01 http", "metrics"},
            "storage": {"file"},
            **WORDS,
        }
        for _, labels in server.samples():
            for name, value in labels:
                assert name in LABELS
                assert name not in known or value in known[name]
        assert "secret-host" not in server.get("/metrics").text

    @pytest.mark.threat("http", "strangers at the address of metrics")
    def test_probes(self, server: Watched) -> None:
        """A server that works is alive and ready; a HEAD and other paths are answered as they should be."""
        assert (server.get("/healthz").status, server.get("/healthz").text) == (200, "ok\n")
        assert (server.get("/readyz").status, server.get("/readyz").text) == (200, "ready\n")
        head = server.get("/metrics", "--head")
        assert (head.status, head.body[:5]) == (200, b"HTTP/")
        assert server.get("/sign").status == 404
        posted = server.get("/metrics", "--data", "x")
        assert (posted.status, posted.headers["Allow"]) == (405, "GET, HEAD")


class TestRules:
    def test_promtool_takes_them(self) -> None:
        """The file of alert rules is well-formed."""
        done = promtool("check", "rules", ALERTS)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{len(rules())} rules found" in done.stdout

    def test_each_fires_when_it_should(self) -> None:
        """`promtool test rules` sees every alert fire, and stay silent."""
        done = promtool("test", "rules", ALERT_TESTS)
        assert done.returncode == 0, done.stdout + done.stderr
        names = re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8"))
        cases = ALERT_TESTS.read_text(encoding="utf-8")
        for name in names:
            assert f"name: {name} fires\n" in cases
            assert f"name: {name} does not fire\n" in cases

    def test_the_documentation_explains_each(self) -> None:
        """The page about monitoring has a row for each alert and each metric, and for no other."""
        page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
        names = re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8"))
        assert set(re.findall(r"`(Acmems\w+)`", page)) == set(names)


@pytest.mark.parametrize("expression", [*expressions(), *rules()])
def test_names_are_those_of_the_server(server: Watched, expression: str) -> None:
    """Each metric and label of the dashboard and the rules is one that the server gives out."""
    labels: dict[str, set[str]] = {}
    for name, found in server.samples():
        labels.setdefault(name, set()).update(label for label, _ in found)
    asked = selectors(expression)
    assert asked
    for name, matchers in asked:
        assert name in labels.keys() | OF_PROMETHEUS
        for label, _, value in matchers:
            assert label in labels.get(name, set()) | OF_PROMETHEUS
            assert label not in WORDS or {word for word in value.split("|") if word} <= WORDS[label]


def test_documented_metrics_are_those_of_the_server(server: Watched) -> None:
    """The page about monitoring has a row for each metric of acmems, and for no other."""
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    types = re.findall(r"(?m)^# TYPE (acmems_\S+) (\w+)$", server.get("/metrics").text)
    assert set(re.findall(r"(?m)^\| `(acmems_\w+)` \| (\w+) \|", page)) == set(types)
    for kind, words in (("requests", RequestOutcome), ("orders", OrderOutcome)):
        table = page.partition(f"Outcomes of {kind}:")[2].partition("\n\n")[2].partition("\n\n")[0]
        rows = [row.split("|")[1] for row in table.splitlines()]
        assert {word for row in rows for word in re.findall(r"`([\w-]+)`", row)} == set(get_args(words))


def test_the_dashboard_can_be_imported() -> None:
    """It has no identity of somebody's Grafana, and each panel asks the data source that is chosen."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert board.get("id") is None
    assert [each["name"] for each in board["templating"]["list"]] == ["datasource", "job", "instance"]
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert panels
    for panel in panels:
        assert panel["title"]
        assert {each["datasource"]["uid"] for each in (panel, *panel["targets"])} == {"${datasource}"}
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_prometheus_makes_use_of_it(server: Watched) -> None:
    """A real Prometheus scrapes the server, evaluates every rule, and answers what the dashboard asks."""
    with Prometheus(server.port, ALERTS) as prometheus:
        two = 'count_over_time(acmems_requests_total{outcome="issued"}[1m]) > 1'
        wait_until(lambda: bool(prometheus.query(two)), "it has scraped twice")
        wait_until(lambda: all_evaluated(prometheus), "every rule was evaluated")
        found = ["nothing was looked at yet"]

        def is_well() -> bool:
            found[:] = findings(prometheus)
            return not found

        # A scrape that takes a second has failed, so that for a moment not all may be well.
        with contextlib.suppress(PeerFailed):
            wait_until(is_well, "all is well")
    assert found == []


def findings(prometheus: Prometheus) -> list[str]:
    """Return what is wrong by what it knows at this moment."""
    [target] = prometheus.ask("targets")["activeTargets"]
    alerts = prometheus.ask("rules")["groups"][0]["rules"]
    return [
        *([] if (target["health"], target["lastError"]) == ("up", "") else [str(target)]),
        *(str(alert) for alert in alerts if (alert["health"], alert["state"]) != ("ok", "inactive")),
        *(text for text in expressions() if not prometheus.query(text)),
    ]


def all_evaluated(prometheus: Prometheus) -> bool:
    [group] = prometheus.ask("rules")["groups"]
    return all(rule["health"] != "unknown" for rule in group["rules"])


def test_what_the_documentation_says_to_remove(server: Watched, tmp_path: Path) -> None:
    """The commands for a machine that is gone print the files of its chain, and no others."""
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    [commands] = re.findall(r"(?ms)^# cd \S+certificates\n(.*?)^```$", page)
    script = "".join(line.removeprefix("> ").removeprefix("# ") + "\n" for line in commands.splitlines())
    storage = server.settings.folder / "storage"
    for name, count in (("secret-host\\.web\\.example\\.org", 2), ("web\\.example\\.org", 0)):
        asked = script.replace("old\\.example\\.org", name)
        done = subprocess.run(
            ["sh", "-c", asked], cwd=storage, capture_output=True, text=True, check=False, env=environment()
        )
        assert done.stderr == ""
        assert len(done.stdout.splitlines()) == count


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Watched]:
    """Run a server in this process."""
    acmems, port = watched(settings)
    server = app.Server(Configuration.from_text(settings.text()))
    server.start()
    try:
        yield Watched(acmems, settings, port)
    finally:
        server.stop()


class TestNotReady:
    """A server in this process, so that it need not be waited for long until it looks again."""

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trials, "STORAGE_SECONDS", 0.05)
        monkeypatch.setattr(trials, "DOUBT_SECONDS", 0.05)
        monkeypatch.setattr(trials, "CA_SECONDS", 0.05)
        monkeypatch.setattr(trials, "_ANSWER_SECONDS", 0.5)

    def test_a_storage_that_cannot_be_written(
        self, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without its storage a server is not ready; strangers are not told where it lies, the log is."""
        caplog.set_level("INFO", "acmems")
        with running(settings) as found:
            wait_until(lambda: found.get("/readyz").status == 200, "it is ready")
            (settings.folder / "storage").rename(settings.folder / "elsewhere")
            wait_until(lambda: found.get("/readyz").status == 503, "it is not ready")
            assert found.get("/readyz").text == "storage 'file' cannot be written\n"
            assert found.get("/healthz").status == 200
            wait_until(lambda: found.value("acmems_storage_writable", storage="file") == 0, "the metric")
            (settings.folder / "elsewhere").rename(settings.folder / "storage")
            wait_until(lambda: found.get("/readyz").status == 200, "it is ready again")
        failed, good = [line for line in caplog.messages if "storage 'file'" in line]
        assert str(settings.folder) in failed
        assert good == "storage 'file' can be written again"

    def test_an_account_that_has_ended(self, settings: Settings, tmp_path: Path) -> None:
        """After an order that failed because of the account, the server is not ready."""
        _, csr = make_key_and_csr(tmp_path, ["a.web.example.org"])
        with running(settings) as found:
            wait_until(lambda: found.get("/readyz").status == 200, "it is ready")
            other = AcmeIssuer(Configuration.from_text(settings.text()).account, 30.0)
            other.open()
            other.deactivate()
            other.close()
            assert curl_sign(found.acmems.sign_url, csr).status == 503
            unknown = "the account at the CA is not known: the log says why\n"
            wait_until(lambda: found.get("/readyz").text == unknown, "it is not ready")
            issuer = {"issuer": settings.directory_url}
            wait_until(lambda: found.value("acmems_account_known", account="", **issuer) == 0, "the metric")
            assert found.value("acmems_orders_total", outcome="account", **issuer) == 1

    def test_a_ca_that_does_not_answer(self, dns: ChallTestSrv, tmp_path: Path) -> None:
        """A server that starts while the CA hangs is not ready, and becomes so without a client's request."""
        with Pebble(dns.address) as ca:
            settings = Settings.of(ca, tmp_path)
            with running(settings):
                pass
            settings.mgmt = "request-timeout = 1"
            with ca.paused(), running(settings) as found:
                issuer = {"issuer": ca.directory_url}
                wait_until(lambda: found.value("acmems_ca_up", **issuer) == 0, "the CA is down")
                ready = found.get("/readyz")
                assert ready.status == 503
                assert ready.text == "the account at the CA is not known: the log says why\n"
                assert found.value("acmems_account_known", account="", **issuer) == 0
                ca.process.send_signal(signal.SIGCONT)
                wait_until(lambda: found.get("/readyz").status == 200, "the account is known")
                wait_until(lambda: found.value("acmems_ca_up", **issuer) == 1, "the CA is up")
                assert found.value("acmems_account_known", account="", **issuer) == 1
