"""Mail arrives at a real server, with TLS or without, or the reason is told without a secret."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.noticing import make_notice, options_of
from tests.peers.ca import make_tls_certificate
from tests.peers.mail import MailServer

from acmems.notices.contract import NoticeUndelivered
from acmems.notices.notice import Notice
from acmems.notices.targets.mail import MailTarget

PASSWORD = "hunter2-and-more"  # noqa: S105 - not a secret here


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    folder = tmp_path_factory.mktemp("tls")
    make_tls_certificate(folder / "c.pem", folder / "k.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "c.pem", folder / "k.pem")
    return folder / "c.pem", context


def target(port: int, *lines: str) -> MailTarget:
    options, findings = options_of(
        f"server = localhost:{port}", "from = acmems@example.org", "to = ops@example.org", *lines
    )
    made = MailTarget.from_options("ops", options)
    options.finish()
    assert findings == []
    return made


def failure(made: MailTarget, notice: Notice | None = None) -> str:
    with pytest.raises(NoticeUndelivered) as raised:
        made.deliver(notice or make_notice())
    return str(raised.value)


def test_a_mail() -> None:
    """It says in its subject what it is about, who has sent it, and that no person has."""
    with MailServer() as server:
        target(server.port, "to = boss@example.org").deliver(make_notice())
    (mail,), (envelope,) = server.mails, server.envelopes
    assert mail["Subject"] == '[acmems host] critical: a "certificate" ends'
    assert (mail["From"], mail["To"]) == ("acmems@example.org", "ops@example.org, boss@example.org")
    assert envelope.rcpt_tos == ["ops@example.org", "boss@example.org"]
    assert mail.get_content().replace("\r\n", "\n") == (
        "Line one\nline two with ü and \\\n\n-- \nacmems on host\n"
    )
    assert mail["Message-ID"] == "<id-1@example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert (mail["X-Acmems-Kind"], mail["X-Acmems-Phase"]) == ("renewal", "begun")


def test_one_conversation_for_one_cause() -> None:
    """A mail program shows them together."""
    with MailServer() as server:
        made = target(server.port)
        for each in (
            make_notice(),
            make_notice("id-2", phase="ended"),
            make_notice("id-3", cause="another"),
        ):
            made.deliver(each)
    first, last, other = (mail["References"] for mail in server.mails)
    assert first == last != other
    assert server.mails[1]["Subject"] == '[acmems host] over: a "certificate" ends'


def test_a_subject_of_several_lines() -> None:
    """What a stranger has said adds no header."""
    with MailServer() as server:
        target(server.port).deliver(make_notice(subject="x\r\nBcc: thief@example.net\r\n\r\nbody"))
    assert server.mails[0]["Bcc"] is None
    assert server.mails[0]["Subject"].endswith("x Bcc: thief@example.net body")


class TestTls:
    @pytest.mark.parametrize("is_implicit", [False, True], ids=["starttls", "implicit"])
    def test_with_a_login(
        self, certificate: tuple[Path, ssl.SSLContext], is_implicit: bool, tmp_path: Path
    ) -> None:
        """The password goes to whom it is for."""
        anchor, context = certificate
        (tmp_path / "password").write_text(f"{PASSWORD}\n")
        with MailServer(context, is_implicit=is_implicit, user=("acmems", PASSWORD)) as server:
            target(
                server.port,
                f"tls = {'implicit' if is_implicit else 'starttls'}",
                f"ca-file = {anchor}",
                "user = acmems",
                f"password-file = {tmp_path / 'password'}",
            ).deliver(make_notice())
        assert (len(server.mails), server.logins) == (1, [("acmems", PASSWORD)])

    @pytest.mark.parametrize("is_implicit", [False, True], ids=["starttls", "implicit"])
    def test_a_stranger(self, certificate: tuple[Path, ssl.SSLContext], is_implicit: bool) -> None:
        """A server that cannot say who it is gets neither mail nor password."""
        with MailServer(certificate[1], is_implicit=is_implicit, user=("acmems", PASSWORD)) as server:
            words = failure(
                target(
                    server.port,
                    f"tls = {'implicit' if is_implicit else 'starttls'}",
                    "user = acmems",
                    f"password = {PASSWORD}",
                )
            )
        assert "its TLS certificate is not trusted" in words
        assert (server.mails, server.logins) == ([], [])

    def test_no_starttls(self) -> None:
        """Somebody on the way may have removed it: no password is told."""
        with MailServer(user=("acmems", PASSWORD)) as server:
            made = target(server.port, "tls = starttls", "user = acmems", f"password = {PASSWORD}")
            assert "it offers no STARTTLS" in failure(made)
        assert server.logins == []


class TestRefusals:
    def test_a_wrong_password(self) -> None:
        """The words say whom, and never with what."""
        with MailServer(user=("acmems", "right")) as server:
            words = failure(target(server.port, "user = acmems", f"password = {PASSWORD}"))
        assert "it does not let acmems log in (535): see 'user' and the password" in words
        assert PASSWORD not in words

    def test_a_mail_that_is_not_taken(self) -> None:
        """The server's words are told."""
        with MailServer(answer="451 come back later") as server:
            assert failure(target(server.port)).endswith("it answered 451 come back later")

    def test_nobody_is_known(self) -> None:
        """They are named."""
        with MailServer(refused=("ops@example.org",)) as server:
            assert failure(target(server.port)).endswith("it takes mail for none of ops@example.org")

    def test_one_of_two_is_not_known(self, caplog: pytest.LogCaptureFixture) -> None:
        """The other one gets it, and only once; the log tells."""
        with MailServer(refused=("ops@example.org",)) as server:
            target(server.port, "to = boss@example.org").deliver(make_notice())
        assert [each.rcpt_tos for each in server.envelopes] == [["boss@example.org"]]
        assert "does not take mail for ops@example.org: 550 there is no such user" in caplog.text

    def test_nobody_listens(self) -> None:
        """The system's words are told."""
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
        assert failure(target(port)) == f"the mail server localhost:{port}: Connection refused"


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts and says nothing, or too little for ever."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening


def test_a_server_that_says_nothing(silent: socket.socket) -> None:
    """It is given up in time."""
    words = failure(target(silent.getsockname()[1], "timeout = 0.2"))
    assert words.endswith("it did not answer in time")


def test_a_server_that_never_ends(silent: socket.socket) -> None:
    """A line that goes on and on is given up in time as well, although each of its letters comes soon."""
    ended = threading.Event()

    def drip() -> None:
        connection, _ = silent.accept()
        with connection:
            try:
                while not ended.wait(0.01):
                    connection.sendall(b"2")
            except OSError:
                pass

    thread = threading.Thread(target=drip)
    thread.start()
    assert failure(target(silent.getsockname()[1], "timeout = 0.5")).endswith("it did not answer in time")
    ended.set()
    thread.join()


@pytest.mark.parametrize(
    ("lines", "server", "security"),
    [
        ((), "localhost:25", "none"),
        (("server = mail.example.org",), "mail.example.org:587", "starttls"),
        (("server = mail.example.org", "tls = implicit"), "mail.example.org:465", "implicit"),
        (("server = mail.example.org", "tls = none"), "mail.example.org:25", "none"),
        (("server = 127.0.0.1",), "127.0.0.1:25", "none"),
        (("server = localhost:2525", "tls = starttls"), "localhost:2525", "starttls"),
    ],
)
def test_which_server(lines: tuple[str, ...], server: str, security: str) -> None:
    """The port follows from how TLS is spoken; to other machines it is, unless somebody says otherwise."""
    options, findings = options_of("from = a@b", "to = c@d", *lines)
    made = MailTarget.from_options("ops", options)
    assert (str(made.server), made.security, findings) == (server, security, [])


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("from = a@b",), "needs 'to = …'"),
        (("to = a@b",), "needs 'from = …'"),
        (("from = a@b", "to = Ops <a@b>"), "is no mail address"),
        (("from = a@b", "to = a@b", "user = x"), "needs 'password-file = …' as well"),
        (("from = a@b", "to = a@b", "password = x"), "needs 'user = …' as well"),
        (("from = a@b", "to = a@b", "server = https://x"), "is a URL"),
        (
            ("from = a@b", "to = a@b", "server = x", "tls = none", "user = x", "password = y"),
            "the password goes over the network in the clear",
        ),
        (("from = a@b", "to = a@b", "user = x", "password = y", "password-file = /z"), "are both given"),
    ],
)
def test_mistakes(lines: tuple[str, ...], words: str) -> None:
    """Each has a finding."""
    options, findings = options_of(*lines)
    MailTarget.from_options("ops", options)
    (finding,) = findings
    assert words in finding.message


def test_what_is_not_there(tmp_path: Path) -> None:
    """Files are looked at by `acmems check`."""
    anchor = tmp_path / "ca.pem"
    anchor.write_text("no PEM")
    made = target(25, f"ca-file = {anchor}", "user = x", f"password-file = {tmp_path / 'password'}")
    assert list(made.self_check()) == [
        ("ca-file", f"{anchor} holds no certificates in PEM"),
        (
            "password-file",
            f"password-file: {tmp_path / 'password'} cannot be read: No such file or directory",
        ),
    ]
    assert {each.key: each.is_secret for each in made.named_files()} == {
        "ca-file": False,
        "password-file": True,
    }


def test_no_secret_is_shown() -> None:
    """Not by the repr of a target."""
    assert PASSWORD not in repr(target(25, "user = x", f"password = {PASSWORD}"))
