"""Webhooks are signed, are told nothing twice, and are told nothing that they must not know."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.noticing import Hook, hook, make_notice, options_of
from tests.peers.ca import make_tls_certificate

from acmems.notices.contract import NoticeUndelivered
from acmems.notices.targets.webhook import WebhookTarget, signature
from acmems.text import Secret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the scheme's own example


@pytest.fixture
def server() -> Iterator[Hook]:
    with hook() as running:
        yield running


def target(url: str, *lines: str) -> WebhookTarget:
    options, findings = options_of(f"url = {url}", *lines)
    made = WebhookTarget.from_options("ops", options)
    options.finish()
    assert findings == []
    return made


def failure(made: WebhookTarget) -> str:
    with pytest.raises(NoticeUndelivered) as raised:
        made.deliver(make_notice())
    return str(raised.value)


def test_the_notice_itself(server: Hook) -> None:
    """It is posted as JSON, with its id, to the whole URL."""
    notice = make_notice()
    target(server.url).deliver(notice)
    ((path, headers, body),) = server.posted
    assert path == "/hook?token=s3cret"
    assert json.loads(body) == notice.document()
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == "id-1"
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert "webhook-signature" not in headers


class TestSignature:
    def test_the_example_of_the_scheme(self) -> None:
        """What others make of the same."""
        made = signature(Secret(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
        assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    @pytest.mark.parametrize(
        ("secret", "key"), [(SECRET, base64.b64decode(SECRET[6:])), ("a text", b"a text")]
    )
    def test_what_is_posted(self, server: Hook, secret: str, key: bytes) -> None:
        """Id, time and body are signed."""
        target(server.url, f"secret = {secret}").deliver(make_notice())
        ((_, headers, body),) = server.posted
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        made = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{made}"


class TestTemplates:
    def test_what_is_posted(self, server: Hook, tmp_path: Path) -> None:
        """Texts become what stands between quotes, whatever is in them."""
        path = tmp_path / "t.json"
        template = '"text": "$severity: $subject\\n$text", "n": $facts, "all": $document, "$$": "${id}x"'
        path.write_text(f"{{{template}}}")
        made = target(server.url, f"template-file = {path}")
        assert list(made.self_check()) == []
        notice = make_notice()
        made.deliver(notice)
        assert json.loads(server.posted[0][2]) == {
            "text": f"critical: {notice.subject}\n{notice.text}",
            "n": notice.facts,
            "all": notice.document(),
            "$": "id-1x",
        }

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('{"text": $subject}', "what it makes is no JSON: "),
            ('{"text": "$subjekt"}', "there is no $subjekt; there are $at, $cause, $document, $facts, "),
            ('{"text": "5 $"}', "a dollar stands alone: write $$ for one"),
            ('{"text": "$subject"', "what it makes is no JSON: "),
        ],
    )
    def test_one_that_is_none(self, tmp_path: Path, text: str, words: str) -> None:
        """`acmems check` tells, and nothing is posted."""
        path = tmp_path / "t.json"
        path.write_text(text)
        made = target("http://127.0.0.1:1/", f"template-file = {path}")
        ((key, found),) = made.self_check()
        assert (key, found.startswith(f"{path}: {words}")) == ("template-file", True)
        assert failure(made).startswith(f"template-file: {path}: {words}")

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        """The same."""
        made = target("http://127.0.0.1:1/", f"template-file = {tmp_path / 'no'}")
        assert list(made.self_check()) == [
            ("template-file", f"{tmp_path / 'no'} cannot be read: No such file or directory")
        ]


class TestRefusals:
    @pytest.mark.parametrize(("status", "words"), [(500, "it answered 500"), (404, "it answered 404")])
    def test_an_error(self, server: Hook, status: int, words: str) -> None:
        """Its status is told, and the URL is not: whoever knows that may post there."""
        server.status = status
        assert failure(target(server.url)) == f"the webhook at 127.0.0.1:{server.port}: {words}"

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect(self, server: Hook, status: int) -> None:
        """Nobody is followed elsewhere with a secret."""
        server.status = status
        assert "redirects are not followed" in failure(target(server.url, "secret = x"))
        assert [path for path, _, _ in server.posted] == ["/hook?token=s3cret"]

    def test_one_that_hangs(self, server: Hook) -> None:
        """It is given up in time."""
        ended = threading.Event()
        server.behave = lambda _: ended.wait(60)
        try:
            assert failure(target(server.url, "timeout = 0.2")).endswith("it did not answer in time")
        finally:
            ended.set()

    def test_one_that_never_ends(self, server: Hook) -> None:
        """Headers that go on and on are given up in time as well."""
        ended = threading.Event()

        def drip(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            try:
                while not ended.wait(0.01):
                    handler.wfile.write(b"x")
            except OSError:
                pass

        server.behave = drip
        try:
            assert failure(target(server.url, "timeout = 0.5")).endswith("it did not answer in time")
        finally:
            ended.set()

    def test_nonsense(self, server: Hook) -> None:
        """It is no answer."""
        server.behave = lambda handler: handler.wfile.write(b"220 mail.example.org ESMTP\r\n")
        assert "it answered what is no answer" in failure(target(server.url))

    def test_nobody_listens(self) -> None:
        """The system's words are told."""
        with hook() as former:
            port = former.port
        words = failure(target(f"http://127.0.0.1:{port}/s3cret"))
        assert words == f"the webhook at 127.0.0.1:{port}: Connection refused"


def test_https(tmp_path: Path) -> None:
    """The server has to say who it is, by the anchors of the system or of the section."""
    make_tls_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    with hook(context) as server:
        url = f"https://localhost:{server.port}/hook"
        assert "its TLS certificate is not trusted" in failure(target(url))
        target(url, f"ca-file = {tmp_path / 'c.pem'}").deliver(make_notice())
        assert len(server.posted) == 1


def test_a_url_in_a_file(server: Hook, tmp_path: Path) -> None:
    """Its first line counts, as it is when a notice is posted."""
    path = tmp_path / "url"
    options, findings = options_of(f"url-file = {path}")
    made = WebhookTarget.from_options("ops", options)
    assert findings == []
    ((key, words),) = made.self_check()
    assert (key, words) == ("url-file", f"url-file: {path} cannot be read: No such file or directory")
    path.write_text("s3cret and no URL\n")
    assert "is no URL of a webhook" in failure(made)
    assert "s3cret" not in failure(made)
    path.write_text(f"{server.url}\nsecond line\n")
    made.deliver(make_notice())
    assert len(server.posted) == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "needs 'url = …' or 'url-file = …'"),
        (("url = s3cret",), "url: is no URL of a webhook, such as https://hooks.example.org/acmems"),
        (("url = ftp://s3cret/",), "url: is no URL of a webhook"),
        (("url = https://user:s3cret@example.org/",), "url: is no URL of a webhook"),
        (("url = https://example.org/s3cret x",), "url: is no URL of a webhook"),
        (("url = https://hooks..example.org/s3cret",), "url: is no URL of a webhook"),
        (("url = http://example.org/s3cret",), "what is posted goes over the network in the clear"),
        (("url = https://example.org/", "secret = whsec_s3cret!"), "secret: is not base64 after 'whsec_'"),
        (("url = https://example.org/", "secret = whsec_"), "secret: must not be empty"),
    ],
)
def test_mistakes(lines: tuple[str, ...], words: str) -> None:
    """Each has a finding, which does not repeat what may be a secret."""
    options, findings = options_of(*lines)
    WebhookTarget.from_options("ops", options)
    (finding,) = findings
    assert words in finding.message
    assert "s3cret" not in finding.message


def test_no_secret_is_shown() -> None:
    """Not by the repr of a target."""
    made = repr(target("https://example.org/s3cret", f"secret = {SECRET}"))
    assert SECRET not in made
    assert "s3cret" not in made
