"""ACME clients at a server of its own process: by TLS, over a crash, and at several nodes."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.acme_client import flattened
from tests.acme_front_end import AcmeFrontEnd
from tests.peers import Acmems, Postgres, Settings, free_port, run_acmems, wait_until


@pytest.mark.threat("ACME clients", "a nonce that was used")
def test_a_crash_between(settings: Settings, tmp_path: Path) -> None:
    """After kill -9 accounts are there, nonces that were not used are good, and used ones are not."""
    front_end = AcmeFrontEnd(tmp_path, settings)
    with Acmems(settings) as acmems, front_end.client() as client:
        assert client.register(contact=["mailto:a@example.org"]).status == 201
        assert client.kid
        body = flattened(client.key, client.header(client.kid), {"contact": []})
        assert client.send(client.kid, body).status == 200
        acmems.process.kill()
        acmems.process.wait()
        client.close()
        acmems.start()
        assert client.send(client.kid, body).problem == "badNonce"
        unused = client.nonce()
        acmems.process.kill()
        acmems.process.wait()
        client.close()
        acmems.start()
        answer = client.post(client.kid, nonce=unused)
        assert (answer.status, answer.json["contact"]) == (200, [])


def test_check_tells_what_is_missing(settings: Settings, tmp_path: Path) -> None:
    """What a front end needs and has not is told before a start, line by line."""
    settings.auth += "\n[acme]\nlistener = 127.0.0.1:0\nurl = http://acme.example.org\n"
    settings.auth += "external-account = required\n"
    file = tmp_path / "acmems.ini"
    file.write_text(settings.text())
    checked = run_acmems("check", file)
    assert checked.returncode == 2
    assert "url: must be an https URL" in checked.stderr
    assert "add 'tls-certificate = …'" in checked.stderr
    assert "no auth block has an 'eab-kid'" in checked.stderr


@pytest.fixture
def nodes(
    settings: Settings, tmp_path: Path, postgres: Postgres
) -> Iterator[tuple[AcmeFrontEnd, AcmeFrontEnd]]:
    """Two servers with one state, reached by the same URL."""
    state = f"\n[state]\nurl = {postgres.url_of(postgres.make_database())}\n"
    other = Settings(
        folder=tmp_path / "other",
        directory_url=settings.directory_url,
        ca_file=settings.ca_file,
        challenge_port=free_port(),
    )
    other.folder.mkdir()
    url = "https://localhost"
    one, two = AcmeFrontEnd(tmp_path, settings, url), AcmeFrontEnd(other.folder, other, url)
    settings.auth += state
    other.auth += state
    with Acmems(settings), Acmems(other):
        yield one, two


@pytest.mark.threat("ACME clients", "a nonce that was used", "an account that was ended")
def test_two_nodes(nodes: tuple[AcmeFrontEnd, AcmeFrontEnd]) -> None:
    """An account and its changes are the same at each node, at once, and each nonce is used once."""
    one, two = nodes
    with one.client() as here:
        assert here.register().status == 201
        assert here.kid
        with two.client(here) as there:
            assert there.post(here.kid).status == 200
            body = flattened(here.key, here.header(here.kid), {"contact": ["mailto:a@example.org"]})
            assert there.send(here.kid, body).status == 200
            assert here.send(here.kid, body).problem == "badNonce"
            assert here.post(here.kid, {"status": "deactivated"}).status == 200
            assert there.post(here.kid, {"contact": []}).status == 401


@pytest.mark.threat("ACME clients", "a nonce that was used")
def test_two_processes(settings: Settings, tmp_path: Path) -> None:
    """Of many that send one request at once, to two processes of one server, one is served."""
    settings.mgmt += "\nprocesses = 2"
    front_end = AcmeFrontEnd(tmp_path, settings)
    with Acmems(settings), front_end.client() as client:
        assert client.register().status == 201
        assert client.kid
        url = client.kid
        for _ in range(3):
            body = flattened(client.key, client.header(url), {"contact": []})

            def send(_: int, body: Mapping[str, str] = body) -> int:
                with front_end.client(client) as other:
                    return other.send(url, body).status

            with ThreadPoolExecutor(8) as pool:
                statuses = list(pool.map(send, range(8)))
            assert sorted(statuses) == [200] + [400] * 7


def test_metrics(settings: Settings, tmp_path: Path) -> None:
    """What ACME clients ask is counted from zero on, apart from all else."""
    front_end, port = AcmeFrontEnd(tmp_path, settings), free_port()
    settings.auth += f"\n[metrics]\nlistener = 127.0.0.1:{port}\n"

    def counted(outcome: str) -> float:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        line = f'acmems_requests_total{{block="",front_end="acme",outcome="{outcome}"}} '
        [found] = [each for each in text.splitlines() if each.startswith(line)]
        return float(found.removeprefix(line))

    with Acmems(settings) as acmems, front_end.client() as client:
        assert (counted("answered"), counted("invalid")) == (0, 0)
        assert client.register().status == 201
        assert client.register(contact=["fax:1"]).problem == "unsupportedContact"
        assert " account ref=" in acmems.log
        assert "act=made" in acmems.log
        wait_until(lambda: counted("answered") >= 2 and counted("invalid") == 1, "they are counted")
