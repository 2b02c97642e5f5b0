"""`acmems events`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.viewing import StateToLookAt

from acmems.commands import main as cli
from acmems.commands.views import events
from acmems.commands.views.documents import rfc3339
from acmems.system.clock import Clock

WEB = ("www.example.org",)
LATE = 7
"""The number of an event whose row takes five seconds to be written, as by a server whose disk is slow."""


def test_an_event(state: StateToLookAt) -> None:
    """Each line has all that is known, oldest first."""
    late = state.happen(
        1, "refused", 5, status=403, reason="no block\tgrants it", names=WEB, reference="9f3a"
    )
    early = state.happen(2, "delivered", 60, block="web", outcome="stored", status=200, names=WEB, count=7)
    assert state.fields("events") == [
        [rfc3339(early.at), "delivered", "stored", "192.0.2.7", "web", *WEB, "200", "7", ""],
        [rfc3339(late.at), "refused", "", "192.0.2.7", "", *WEB, "403", "1", "no block grants it"],
    ]


def test_the_document(state: StateToLookAt) -> None:
    """Every field is a member."""
    event = state.happen(1, "failed", 5, outcome="store", status=200, reason="disk", block="web", names=WEB)
    code, document = state.document("events")
    assert (code, list(document)) == (0, ["events"])
    assert document["events"] == [
        {
            "id": event.id,
            "time": rfc3339(event.at),
            "event": "failed",
            "outcome": "store",
            "client": "192.0.2.7",
            "block": "web",
            "names": ["www.example.org"],
            "status": 200,
            "reason": "disk",
            "count": 1,
            "account": None,
            "reference": None,
            "node": None,
        }
    ]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), [5, 4, 3, 2, 1]),
        (("--since", "35m"), [3, 2, 1]),
        (("--since", "35m", "--limit", "1"), [1]),
        (("--limit", "2"), [2, 1]),
        (("--client", "192.0.2.7"), [4, 1]),
        (("--client", "192.0.2.0/24"), [5, 4, 1]),
        (("--client", "2001:db8::/32"), [3]),
        (("--name", "*.example.org"), [4, 2]),
        (("--name", "**.example.org"), [5, 4, 2]),
        (("--block", "web"), [4]),
        (("--word", "refused"), [3, 2, 1]),
        (("--word", "refused", "--client", "192.0.2.0/24"), [1]),
    ],
    ids=str,
)
def test_what_is_asked_for(state: StateToLookAt, options: tuple[str, ...], found: list[int]) -> None:
    """By time, client, name, auth block and event; the last ones are shown where there is a limit."""
    state.happen(5, "delivered", 50, client="192.0.2.8", names=("a.b.example.org",))
    state.happen(4, "delivered", 40, block="web", names=("www.example.com", "www.example.org"))
    state.happen(3, "refused", 30, client="2001:db8::1")
    state.happen(2, "refused", 20, client="others", names=WEB)
    state.happen(1, "refused", 10, names=("example.org",))
    _, document = state.document("events", *options)
    assert [int(each["id"].split("-")[1], 16) for each in document["events"]] == found


def test_how_many(state: StateToLookAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without options, the last ones are shown; with a time, all since then."""
    monkeypatch.setattr(events, "LIMIT", 3)
    for number in range(7):
        state.happen(number, "refused", number)
    assert len(state.fields("events")) == 3
    assert len(state.fields("events", "--since", "1d")) == 7


def test_there_is_none(state: StateToLookAt) -> None:
    """That is exit code 1 and a word, and an empty list as a document."""
    assert state.run("events") == (1, [], "acmems: there is no such event\n")
    assert state.document("events") == (1, {"events": []})


class TestFollowing:
    """What happens is shown as it is written."""

    @pytest.fixture
    def looks(self, state: StateToLookAt, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
        """The numbers of the events that are written before each look; it is interrupted after them."""
        to_come: list[list[int]] = []

        def sleep(_: Clock, seconds: float) -> None:
            assert seconds == events.FOLLOW_SECONDS
            if not to_come:
                raise KeyboardInterrupt
            for number in to_come.pop(0):
                word, client = ("refused", "192.0.2.9") if number % 2 else ("delivered", "192.0.2.7")
                state.happen(number, word, 0, client=client, late=5 if number == LATE else 0)

        monkeypatch.setattr(Clock, "sleep", sleep)
        yield to_come
        assert to_come == []

    def shown(self, state: StateToLookAt, *options: str) -> list[int]:
        code, lines, complaints = state.run("events", "--follow", "--json", *options)
        assert (code, complaints) == (0, "")
        return [int(json.loads(line)["id"].split("-")[1], 16) for line in lines]

    def test_each_is_shown_once(self, state: StateToLookAt, looks: list[list[int]]) -> None:
        """First the last ones, then those that come, also where a row comes after one with a greater id."""
        for number in (2, 4):
            state.happen(number, "delivered", 1)
        looks += [[6], [], [10, 8], [LATE]]
        assert self.shown(state, "--limit", "1") == [4, 6, 8, 10, LATE]

    def test_filters_hold(self, state: StateToLookAt, looks: list[list[int]]) -> None:
        """What is not asked for does not come."""
        looks += [[6, 7], [9]]
        assert self.shown(state, "--client", "192.0.2.9") == [7, 9]

    def test_lines(self, state: StateToLookAt, looks: list[list[int]]) -> None:
        """In a pipe they are as without it."""
        looks += [[6]]
        code, (line,), _ = state.run("events", "--follow")
        assert (code, line.split("\t")[1]) == (0, "delivered")

    def test_a_terminal(
        self, state: StateToLookAt, looks: list[list[int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Columns stay where they are, whatever comes."""
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "100")
        looks += [[6], [7]]
        _, (titles, one, two), _ = state.run("events", "--follow")
        place = titles.index("client")
        assert (one[place : place + 9], two[place : place + 9]) == ("192.0.2.7", "192.0.2.9")
        assert max(map(len, (titles, one, two))) <= 100

    def test_more_than_a_page(self, state: StateToLookAt, looks: list[list[int]]) -> None:
        """A burst between two looks is shown whole."""
        looks += [list(range(10, 1210, 2))]
        assert self.shown(state) == list(range(10, 1210, 2))


def test_wrong_options(state: StateToLookAt) -> None:
    """They are exit code 2, and the message says what is right."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["events", "--since", "yesterday", str(state.config)])
    assert caught.value.code == 2
    assert "neither a time, such as 2026-11-01" in state.capsys.readouterr().err
