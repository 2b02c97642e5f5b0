"""The documented handlers on a plain socket, and the host of a challenge."""

from __future__ import annotations

import functools
import http.client
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from acmems.challenges import ChallengeResponses, Http01
from acmems.server import ACMEHTTPHandler


class TestChallenges:
    """ACMEHTTPHandler, run by the standard library's server as a script would."""

    @pytest.fixture
    def responses(self) -> ChallengeResponses:
        """A table with one answer."""
        table = ChallengeResponses()
        table.put("a.example.org", "/.well-known/acme-challenge/token", "token.thumbprint", lambda: None)
        return table

    @pytest.fixture
    def port(self, responses: ChallengeResponses) -> Iterator[int]:
        """The port of a server that answers from the table."""
        handler = functools.partial(ACMEHTTPHandler, Http01("http", (), responses))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
            thread = threading.Thread(target=running.serve_forever)
            thread.start()
            yield running.server_address[1]
            running.shutdown()
            thread.join()

    @pytest.mark.threat("http", "strangers at the CA's port")
    @pytest.mark.parametrize(
        ("host", "path", "status"),
        [
            ("a.example.org", "/.well-known/acme-challenge/token", 200),
            ("A.Example.ORG:1380", "/.well-known/acme-challenge/token", 200),
            ("b.example.org", "/.well-known/acme-challenge/token", 404),
            ("a.example.org", "/.well-known/acme-challenge/other", 404),
            ("a.example.org", "/.well-known/acme-challenge/token?x", 404),
            ("a.example.org", "/.well-known/acme-challenge/../acme-challenge/token", 404),
            ("a.example.org", "/.well-known/acme-challenge/%74oken", 404),
            ("a.example.org", "/", 404),
            ("", "/.well-known/acme-challenge/token", 404),
        ],
    )
    def test_exact_host_and_path(self, port: int, host: str, path: str, status: int) -> None:
        """An answer is found by exact path and host, the host's case and port aside."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        assert answer.status == status
        if status == 200:
            assert answer.read() == b"token.thumbprint"
        connection.close()

    def test_head_gets_the_headers_without_the_body(self, port: int) -> None:
        """HEAD gets the same headers without the body."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("HEAD", "/.well-known/acme-challenge/token", headers={"Host": "a.example.org"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Length"]) == (200, "16")
        assert answer.read() == b""
        connection.close()
