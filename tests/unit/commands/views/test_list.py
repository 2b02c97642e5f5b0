"""`acmems list`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.viewing import DAY, DIRECTORY, StateToLookAt

from acmems.commands import main as cli
from acmems.commands.views.documents import rfc3339
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalRecord, RenewalRecords


def test_how_certificates_stand(state: StateToLookAt) -> None:
    """Each has its state, and the soonest end comes first; what is ordered for the first time leads."""
    state.keep("fresh", "fresh.example.org", days=80)
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
        ("fresh.example.org", "fresh"),
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
            "fresh",
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
        "state": "fresh",
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
        "renewal_failure": None,
    }
    assert {name: value for name, value in ordered.items() if value is not None} == {
        "names": ["new.example.org"],
        "state": "ordered",
        "block": "mail",
        "issuer": "https://acme-staging-v02.api.letsencrypt.org/directory",
        "order": url,
    }


class TestPlans:
    """A plan counts where the CA has told when it wants the renewal, or where chains are renewed ahead."""

    def plan(self, state: StateToLookAt, due: int, **known: Any) -> ChainRecord:
        """Keep a chain of 90 days that has 60 left, and a plan that is due in some days."""
        record = state.keep("one", "a.example.org", days=60)
        at = state.now + due * DAY
        plan = RenewalRecord(
            fingerprint=record.fingerprint,
            directory=DIRECTORY,
            ends_at=record.not_after,
            due=at,
            next_question=at,
            next_try=at,
            **known,
        )
        RenewalRecords(state.database).begin((), [plan]).result()
        return record

    def told(self, state: StateToLookAt) -> tuple[str, str]:
        ((_, _, _, _, due, _, word, *_),) = state.fields("list")
        return due, word

    @pytest.mark.parametrize(
        ("due", "word"), [(70, "fresh"), (1, "fresh"), (-1, "due"), (-59, "due"), (-61, "overdue")]
    )
    def test_by_the_word_of_the_ca(self, state: StateToLookAt, due: int, word: str) -> None:
        """Earlier or later than by the lifetime."""
        at = state.now + due * DAY
        self.plan(state, due, starts=at, ends=at + DAY)
        assert self.told(state) == (rfc3339(at), word)

    def test_without_it(self, state: StateToLookAt) -> None:
        """Whoever asks gets another one by the lifetime."""
        record = self.plan(state, -1)
        assert self.told(state) == (rfc3339(record.not_after - 30 * DAY), "fresh")

    def test_ahead(self, state: StateToLookAt) -> None:
        """There it is renewed as planned, whoever has planned it."""
        text = state.config.read_text().replace("type = file", "type = file\nrenew = ahead")
        state.config.write_text(text)
        self.plan(state, -1)
        assert self.told(state) == (rfc3339(state.now - DAY), "due")

    @pytest.mark.parametrize(("due", "word"), [(-1, "failing"), (-61, "overdue"), (5, "fresh")])
    def test_a_renewal_that_fails(self, state: StateToLookAt, due: int, word: str) -> None:
        """It is said why, as long as it is due."""
        at = state.now + due * DAY
        self.plan(state, due, starts=at, ends=at + DAY, failures=3, reason="the CA is away")
        (fields,) = state.fields("list")
        assert fields[6] == word
        assert fields[7:] == (["the CA is away"] if due < 0 else [])
        _, document = state.document("list")
        assert document["certificates"][0]["renewal_failure"] == "the CA is away"

    def test_a_renewal_that_is_not_made(self, state: StateToLookAt) -> None:
        """Nobody has asked for it, say: that is no failure, but a reason."""
        at = state.now - DAY
        self.plan(state, -1, starts=at, ends=at + DAY, reason="nobody has asked")
        (fields,) = state.fields("list")
        assert fields[6:] == ["due", "nobody has asked"]


def test_renewal_is_due_as_its_storage_says(state: StateToLookAt) -> None:
    """`renew-within` of the storage counts."""
    text = state.config.read_text().replace("type = file", "type = file\nrenew-within = 7")
    state.config.write_text(text)
    record = state.keep("one", "a.example.org", days=20)
    ((*_, due, _, word),) = state.fields("list")
    assert (due, word) == (rfc3339(record.not_after - 7 * DAY), "fresh")


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
