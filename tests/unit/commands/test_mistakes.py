"""What a newcomer reads: mistakes that people make, and the line that tells what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from acmems.commands import account as account_command
from acmems.commands import main as cli
from acmems.commands.terminal import complain
from acmems.config import Configuration
from acmems.exceptions import CAUnavailable, DirectoryUnusable
from acmems.frontends.acts.rotation import described
from acmems.issuers.acme.account import Account
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.key import AccountKey


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (
            '[auth "web"]',
            "[auth web]",
            10,
            'the name of a section stands in double quotes: write [auth "web"]',
        ),
        (
            '[auth "web"]',
            "[auth 'web']",
            10,
            'the name of a section stands in double quotes: write [auth "web"]',
        ),
        (
            '[auth "web"]',
            "[auth.web]",
            10,
            'the name of a section stands in double quotes: write [auth "web"]',
        ),
        ('[auth "web"]', "[auth]", 10, '[auth] needs a name: [auth "NAME"]'),
        (
            "ip = 192.0.2.0/24",
            "ip = 192.0.2.0/24, ::1",
            11,
            "ip: each of several values needs a line of its own: ",
        ),
        (
            "ip = 192.0.2.0/24",
            "ip = 192.0.2.0/24 ::1",
            11,
            "ip: each of several values needs a line of its own: ",
        ),
        (
            "domain = www.",
            "domain = a.b, www.",
            12,
            "domain: each of several values needs a line of its own: ",
        ),
        (
            "listener =",
            "listener = 127.0.0.1:1, [::1]:1",
            6,
            "listener: each of several values needs a line of ",
        ),
        (
            "ip = 192.0.2.0/24",
            "ip = 192.0.2.7/24",
            11,
            "ip: '192.0.2.7/24' is one address within a network: write ",
        ),
        (
            "ip = 192.0.2.0/24",
            'ip = "192.0.2.0/24"',
            11,
            "ip: quotes are part of a value: write it without them",
        ),
        (
            "ip = 192.0.2.0/24",
            "ip = ::1 # us",
            11,
            "ip: what follows the '#' is part of the value: write the ",
        ),
        (
            "ip = 192.0.2.0/24",
            "all = no",
            11,
            "[auth \"web\"] accepts nobody, because 'all = no' is its only ",
        ),
        ("ip = 192.0.2.0/24", "all = everyone", 11, "all: 'everyone' is neither yes nor no"),
        ("dir = ", 'dir = "', 2, "dir: quotes are part of a value: write it without them"),
        ("dir = /", "dir = ~/", 2, "dir: ~ stands for nothing here: write the whole path"),
        (
            "listener =",
            "listener = 1380",
            6,
            "listener: '1380' is a port without a host: write for instance ",
        ),
        (
            "listener =",
            "listener = http://a:1",
            6,
            "listener: 'http://a:1' is a URL: write host and port alone, ",
        ),
        ("type = http01", "type: http01", 5, "a '=' stands between key and value: write 'type = …'"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_write(
    capsys: pytest.CaptureFixture[str], config: Path, old: str, new: str, line: int, message: str
) -> None:
    """A mistake is told at its line, with what to do; nothing else is blamed for it."""
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))
    assert cli.main(["check", str(config)]) == 2
    told = [each for each in capsys.readouterr().err.splitlines() if "needs 'type = …'" not in each]
    assert len(told) == 1
    assert told[0].startswith(f"{config}:{line}: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a command: serve, check, explain, list, show, events, limits, renew, revoke, account"),
        (
            ["your.ini"],
            "'your.ini' is no command: 'acmems serve your.ini' runs it, 'acmems check your.ini' looks at it",
        ),
        (["/etc/acmems", "b.ini"], "'acmems serve /etc/acmems b.ini' runs it"),
        (["serv", "your.ini"], "there is no command 'serv', did you mean 'serve'?"),
    ],
)
def test_no_command(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    """Where no command is named, as 0.3 to 0.5 wanted it, the line to write is told."""
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            DirectoryUnusable("https://ca.example/dir", "HTTP status 404 Not Found"),
            "{config}:4: there is no ACME directory at https://ca.example/dir (HTTP status 404 Not Found): ",
        ),
        (
            CAUnavailable("the CA at https://ca.example: Connection refused"),
            "acmems: the CA at https://ca.example: Connection refused; 'acme-server' of {config}:4 says ",
        ),
    ],
)
@pytest.mark.parametrize("command", [["serve"], ["account", "show"]], ids=" ".join)
def test_a_wrong_url_of_the_ca(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    config: Path,
    serving: list[Configuration],
    command: list[str],
    error: Exception,
    message: str,
) -> None:
    """What is wrong with the URL of the CA is told with the line that gives it."""
    text = config.read_text()
    config.write_text(text.replace("yes\n", "yes\nacme-server = https://ca.example/dir\n"))
    key = config.parent / "account" / "account.pem"
    key.touch(mode=0o600)
    key.write_bytes(AccountKey.generate("ec256").pem())

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("acmems.app.run", fail)
    monkeypatch.setattr(AcmeIssuer, "open", fail)
    assert cli.main([*command, str(config)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(message.format(config=config))
    assert "'acme-server'" in err
    assert err.count("\n") == 1


class TestWordsOfOthers:
    """What a CA sends is printed, and does nothing to a terminal."""

    HOSTILE = "mailto:a@example.org\n\x1b]0;mine\x07\u202e" + "x" * 10_000

    def test_an_account(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """Whatever the CA says of an account, each row is one line, and no longer than a person reads."""
        text = f"[account]\ndir = {tmp_path}\nacme-server = https://ca.example/dir\n"
        issuer = AcmeIssuer(Configuration.from_text(text).account, 1.0)
        try:
            issuer.create_key()
            issuer.load_key()
            body = {"status": self.HOSTILE, "contact": [self.HOSTILE]}
            account = described(issuer, Account(self.HOSTILE, body, self.HOSTILE))
            account_command._print(account, as_json=False)
        finally:
            issuer.close()
        lines = capsys.readouterr().out.splitlines()
        assert [line.partition(" ")[0] for line in lines] == [
            "server",
            "account",
            "status",
            "key",
            "thumbprint",
            "contacts",
            "terms",
        ]
        assert all(line.isprintable() and len(line) < 600 for line in lines)

    def test_a_problem(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Whatever a problem says, it is one line."""
        complain(f"acmems: {self.HOSTILE}")
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert err.rstrip("\n").isprintable()
