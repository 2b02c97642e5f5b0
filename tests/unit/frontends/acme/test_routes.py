"""Paths, methods, and what every answer has; RFC 8555 sections 6.3, 6.5 and 7.1."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.acme_client import AcmeClient
from tests.acme_serving import Serving, serving, sqlite

from acmems.frontends.acme.linker import TEMPLATES, Linker
from acmems.frontends.acme.routes import RouteTable

BASE = "https://acme.example.org/inside"


class TestLinker:
    def test_each_url_is_read_again(self) -> None:
        """What is made of parameters is read as these parameters, and finds its route."""
        linker, table = Linker(BASE), RouteTable()
        for name, template in TEMPLATES.items():
            given = tuple(f"a-{number}.Z_" for number in range(template.count("{")))
            url = linker.url(name, *given)
            assert url.startswith(BASE)
            assert linker.parameters(name, url) == given
            path = linker.path(url.removeprefix("https://acme.example.org"))
            assert path
            found = table.find(path)
            assert found
            assert (found[0].name, found[1]) == (name, given)

    @pytest.mark.parametrize(
        "url",
        [
            "https://acme.example.org/account/1",
            "https://acme.example.org/inside/account/",
            "https://acme.example.org/inside/account/1/",
            "https://acme.example.org/inside/account/1?x",
            "https://acme.example.org/inside/account/1#x",
            "https://acme.example.org/inside/account/..%2f1",
            "https://acme.example.org/inside/account/1\n",
            "http://acme.example.org/inside/account/1",
            "https://acme.example.org:443/inside/account/1",
            "https://ACME.example.org/inside/account/1",
            "/inside/account/1",
            "https://acme.example.org/inside/account/" + "1" * 3000,
        ],
    )
    def test_other_urls(self, url: str) -> None:
        """Only what it would make itself is read."""
        assert Linker(BASE).parameters("account", url) is None

    @pytest.mark.parametrize(
        "target", ["/inside", "/insidedirectory", "//inside/directory", "/directory", "*"]
    )
    def test_other_targets(self, target: str) -> None:
        """What is not below the base is not there."""
        assert Linker(BASE).path(target) is None


class TestAnswers:
    def test_directory(self, acme: Serving, client: AcmeClient) -> None:
        """It names what is offered, by the configured base and not by `Host`."""
        answer = client.exchange("GET", f"{acme.url}/directory", None, {"Host": "evil.example.org"})
        assert answer.json["newNonce"] == f"{acme.url}/new-nonce"
        assert answer.json["meta"] == {"externalAccountRequired": False}
        assert answer.links("index") == [f"{acme.url}/directory"]
        assert answer.headers["Content-Type"] == "application/json"
        assert b": " not in answer.body

    def test_new_nonce(self, client: AcmeClient) -> None:
        """HEAD is 200 and GET is 204, both without content, and no two nonces are the same."""
        url = client.directory["newNonce"]
        for method, status in (("HEAD", 200), ("GET", 204)):
            answer = client.get(url, method)
            assert (answer.status, answer.body) == (status, b"")
        assert len(set(client.nonces)) == len(client.nonces) == 3

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/new-account", "POST"),
            ("GET", "/account/1", "POST"),
            ("PUT", "/key-change", "POST"),
            ("POST", "/directory", "GET, HEAD"),
            ("DELETE", "/new-nonce", "GET, HEAD"),
        ],
    )
    def test_other_methods(
        self, acme: Serving, client: AcmeClient, method: str, path: str, allowed: str
    ) -> None:
        """They are 405, and the answer says which are right."""
        answer = client.exchange(method, acme.url + path)
        assert (answer.status, answer.headers["Allow"], answer.problem) == (405, allowed, "malformed")

    @pytest.mark.parametrize(
        "path",
        ["/", "/directory/", "/nothing", "/account", "/account/a/b", "/account/%41", "/account/../directory"],
    )
    def test_other_paths(self, acme: Serving, client: AcmeClient, path: str) -> None:
        """They are 404, and the answer says where to begin."""
        answer = client.get(acme.url + path)
        assert (answer.status, answer.problem) == (404, "malformed")
        assert f"{acme.url}/directory" in answer.json["detail"]

    def test_below_a_path(self, tmp_path: Path) -> None:
        """Where the base has a path, so has everything that is given out."""
        with sqlite(tmp_path) as database, serving(database) as acme:
            acme.url += "/inside"
            with acme.client() as client:
                assert client.register().status == 201
                assert client.kid
                assert client.kid.startswith(f"{acme.url}/account/")
                assert client.post(client.kid).status == 200
                assert client.get(f"{acme.url.removesuffix('/inside')}/directory").status == 404

    def test_a_bug(self, acme: Serving, client: AcmeClient, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is 500 with a reference for the administrator, and tells nothing else."""
        client.register()
        assert client.kid

        def fail(*_: object) -> None:
            raise KeyError("inside")

        monkeypatch.setitem(acme.service.front_end._resources.signed, "account", fail)
        answer = client.post(client.kid)
        assert (answer.status, answer.problem) == (500, "serverInternal")
        assert "inside" not in answer.body.decode()


def test_a_server_without_it_does_not_load_it() -> None:
    """What verifies signatures of ACME clients takes memory, which a server without `[acme]` saves."""
    program = "import sys, acmems.app.server; print('joserfc' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
