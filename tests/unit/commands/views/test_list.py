"""`acmems list`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.viewing import DAY, DIRECTORY, StateToLookAt

from acmems.commands import main as cli
from acmems.commands.views.documents import rfc3339
from acmems.state.chains import ChainRecords


def test_how_certificates_stand(state: StateToLookAt) -> None:
    """Each has its state, and the soonest end comes first; what is ordered for the first time leads."""
    state.keep("valid", "valid.example.org", days=80)
    state.keep("due", "due.example.org", days=20)
    state.place("due", "due.example.org")
    state.keep("expired", "expired.example.org", days=-2)
    revoked = state.keep("revoked", "revoked.example.org", days=85)
    ChainRecords(state.database).revoking(revoked.fingerprint, "keyCompromise").result()
    state.place("new", "new.example.org")
    assert [(each[0], each[6]) for each in state.fields("list")] == [
        ("new.example.org", "ordered"),
        ("expired.example.org", "expired"),
        ("due.example.org", "due, ordering"),
        ("valid.example.org", "valid"),
        ("revoked.example.org", "revoked"),
    ]


def test_a_whole_line(state: StateToLookAt) -> None:
    """In a pipe each line has all fields, whole."""
    record = state.keep("one", "b.example.org", "a.example.org", days=60)
    chains = ChainRecords(state.database)
    chains.asked(record.fingerprint, "192.0.2.7", state.now)
    chains.save_asked()
    state.database.flush()
    state.database.check().result()
    assert state.fields("list") == [
        [
            "a.example.org,b.example.org",
            "web",
            DIRECTORY,
            rfc3339(record.not_after),
            rfc3339(record.not_after - 30 * DAY),
            rfc3339(state.now),
            "valid",
        ]
    ]


def test_the_document(state: StateToLookAt) -> None:
    """Members are the same for certificates and for what is being ordered."""
    record = state.keep("one", "a.example.org", days=60)
    url = state.place("new", "new.example.org", block="mail")
    code, document = state.document("list")
    assert code == 0
    ordered, kept = document["certificates"]
    assert list(ordered) == list(kept)
    assert kept == {
        "names": ["a.example.org"],
        "state": "valid",
        "block": "web",
        "issuer": DIRECTORY,
        "storage": "disk",
        "serial": record.serial,
        "fingerprint": record.fingerprint,
        "not_before": rfc3339(record.not_before),
        "not_after": rfc3339(record.not_after),
        "renewal_due": rfc3339(record.not_after - 30 * DAY),
        "last_asked": None,
        "asked_by": None,
        "superseded": None,
        "revoked": None,
        "reason": None,
        "order": None,
    }
    assert {name: value for name, value in ordered.items() if value is not None} == {
        "names": ["new.example.org"],
        "state": "ordered",
        "block": "mail",
        "issuer": "https://acme-staging-v02.api.letsencrypt.org/directory",
        "order": url,
    }


def test_renewal_is_due_as_its_storage_says(state: StateToLookAt) -> None:
    """`renew-within` of the storage counts."""
    text = state.config.read_text().replace("type = file", "type = file\nrenew-within = 7")
    state.config.write_text(text)
    record = state.keep("one", "a.example.org", days=20)
    ((*_, due, _, word),) = state.fields("list")
    assert (due, word) == (rfc3339(record.not_after - 7 * DAY), "valid")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["new.example.org", "mail.example.org", "www.example.org"]),
        (("--all",), ["new.example.org", "www.example.org", "mail.example.org", "www.example.org"]),
        (("--name", "www.example.org"), ["www.example.org"]),
        (("--name", "w*.example.org"), ["www.example.org"]),
        (("--block", "mail"), ["mail.example.org"]),
        (("--expires-within", "30d"), ["mail.example.org"]),
        (("--expires-within", "30d", "--all"), ["www.example.org", "mail.example.org"]),
    ],
    ids=str,
)
def test_what_is_asked_for(state: StateToLookAt, options: tuple[str, ...], found: list[str]) -> None:
    """By name, auth block and end; superseded ones only on demand."""
    state.keep("www", "www.example.org", days=5)
    state.keep("www", "www.example.org", days=80)
    state.keep("mail", "mail.example.org", days=29, block="mail")
    state.place("new", "new.example.org")
    assert [each[0] for each in state.fields("list", *options)] == found


def test_there_is_none(state: StateToLookAt) -> None:
    """That is exit code 1 and a word, and an empty list as a document."""
    assert state.run("list") == (1, [], "acmems: there is no such certificate\n")
    assert state.document("list") == (1, {"certificates": []})


@pytest.mark.parametrize("command", [("list",), ("events",), ("limits",), ("show", "a.example.org")], ids=str)
def test_there_is_no_state(
    config: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    """The message says what to do, and none is made."""
    assert cli.main([command[0], str(config), *command[1:]]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "there is no state at" in told.err
    assert "start the server once" in told.err
    assert list((config.parent / "account").iterdir()) == []


def test_the_server_may_start_meanwhile(state: StateToLookAt) -> None:
    """Looking takes no lock, so that a server that starts meanwhile has its state."""
    state.keep("one", "a.example.org")
    state.database.close()
    before = sorted(path.name for path in (state.config.parent / "account").iterdir())
    assert "state.sqlite.lock" in before
    assert state.run("list")[0] == 0
    state.database = type(state.database).open(state.config.parent / "account" / "state.sqlite")


def test_a_terminal(state: StateToLookAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table fits, and says how far off times are."""
    state.keep("one", *(f"a{number}.example.org" for number in range(9)), days=60)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "90")
    _, (titles, line), _ = state.run("list")
    assert titles.split() == [
        "names",
        "block",
        "issuer",
        "not",
        "after",
        "(UTC)",
        "renewal",
        "due",
        "last",
        "asked",
        "state",
    ]
    assert len(line) <= 90
    assert line.startswith("a0.example.org +8 ")
    assert " in 29 d " in line
