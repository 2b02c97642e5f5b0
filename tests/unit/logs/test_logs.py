"""The log's lines: what they say, and that no text can forge one."""

from __future__ import annotations

import datetime
import gc
import json
import logging
import math
import re
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acmems import logs
from acmems.events import (
    AnsweredEvent,
    DeliveredEvent,
    Event,
    FailedEvent,
    IssuedEvent,
    NotIssuedEvent,
    RefusedEvent,
    RequestedEvent,
)
from acmems.logs import log_event
from acmems.logs.formats import JsonFormatter, TextFormatter

MOMENT = datetime.datetime(2026, 11, 24, 12, 0, 0, 123456, datetime.UTC)
IN_JAPAN = MOMENT.astimezone(datetime.timezone(datetime.timedelta(hours=9)))
WHO: dict[str, Any] = {"reference": "abc", "client": "192.0.2.1", "names": ("a.org",), "block": "web"}

QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
PAIR = re.compile(r' ([a-z]+)=("(?:[^"\\]|\\.)*"|[^" ]+)')


def record(
    message: str, *arguments: object, level: int = logging.INFO, fields: Mapping[str, object] | None = None
) -> logging.LogRecord:
    made = logging.LogRecord("acmems", level, "", 0, message, arguments, None)
    made.created = MOMENT.timestamp()
    if fields is not None:
        vars(made)["fields"] = fields
    return made


def with_traceback(message: str) -> logging.LogRecord:
    made = record("failed")
    error = ValueError(message)
    made.exc_info = (ValueError, error, error.__traceback__)
    return made


def line(message: str = "done", **fields: object) -> str:
    """Return a line of text without time and level."""
    return TextFormatter(plain=True).format(record(message, fields=fields))


def entry(fields: Mapping[str, object]) -> dict[str, Any]:
    """Return a line of JSON, read."""
    read: dict[str, Any] = json.loads(JsonFormatter().format(record("done", fields=fields)))
    return read


def unquoted(word: str) -> str:
    return str(json.loads(word)) if word.startswith('"') else word


def is_one_line(text: str) -> bool:
    return text.isascii() and text.isprintable()


class TestText:
    def test_a_line(self) -> None:
        """A line is the time, the level, the message, and the pairs in their order."""
        made = record(
            "%s of %d", "one", 2, level=logging.WARNING, fields={"ref": "abc", "names": ("a.org", "b.org")}
        )
        assert (
            TextFormatter().format(made)
            == "2026-11-24T12:00:00.123Z WARNING one of 2 ref=abc names=a.org,b.org"
        )

    def test_a_line_for_those_who_note_the_time_themselves(self) -> None:
        """A plain line has neither time nor level."""
        assert TextFormatter(plain=True).format(record("done", fields={"ref": "abc"})) == "done ref=abc"

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("a.org", "a.org"),
            ("two words", '"two words"'),
            ("", '""'),
            ("a=b", '"a=b"'),
            ('"hi"', r'"\"hi\""'),
            ("C:\\", r'"C:\\"'),
            ("a\r\nb", r'"a\r\nb"'),
            ("\x1b[31m", r'"\u001b[31m"'),
            ("\x7f", r'"\u007f"'),
            ("ü", r'"\u00fc"'),
            ("\u2028", r'"\u2028"'),
            ("\udc80", r'"\udc80"'),
            (("a", "b c"), '"a,b c"'),
            (200, "200"),
            (True, "True"),
            (0.0123456, "0.012"),
            (IN_JAPAN, "2026-11-24T12:00:00Z"),
        ],
        ids=ascii,
    )
    def test_values(self, value: object, shown: str) -> None:
        """A value stands as it is, or in quotes with the escapes of JSON where it could mislead."""
        assert line(key=value) == f"done key={shown}"

    @pytest.mark.parametrize(
        ("message", "shown"),
        [
            ("all is well: 3 of 3", "all is well: 3 of 3"),
            ("done ref=forged", '"done ref=forged"'),
            ("a\nb", r'"a\nb"'),
            ("Grüße", r'"Gr\u00fc\u00dfe"'),
        ],
    )
    def test_messages(self, message: str, shown: str) -> None:
        """A message that could be taken for more than words is quoted as a whole."""
        assert line(message) == shown

    @given(st.text(), st.dictionaries(st.from_regex(r"[a-z]+", fullmatch=True), st.text()))
    @example(" a=", {"a": ""})
    def test_nothing_can_be_forged(self, message: str, fields: dict[str, str]) -> None:
        """Whatever the texts, a line is one line of printable ASCII from which they can be read again."""
        made = TextFormatter(plain=True).format(record(message, fields=fields))
        assert is_one_line(made)
        quoted = QUOTED.match(made)  # a message in quotes may hold what looks like a pair
        pairs = PAIR.findall(made, quoted.end() if quoted else 0)
        words = made.removesuffix("".join(f" {name}={value}" for name, value in pairs))
        assert unquoted(words) == message
        assert {name: unquoted(value) for name, value in pairs} == fields

    def test_a_traceback(self) -> None:
        """A traceback is a value, and no line of its own."""
        made = TextFormatter(plain=True).format(with_traceback("forged\nline"))
        assert is_one_line(made)
        [(name, value)] = PAIR.findall(made)
        assert name == "traceback"
        assert unquoted(value).endswith("ValueError: forged\nline\n")

    def test_colour(self) -> None:
        """Only the level is coloured, by severity, and only where colour is asked for."""
        levels = [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL]
        made = [TextFormatter(colour=True).format(record("done", level=level)) for level in levels]
        assert [text.split(" ", 1)[1] for text in made] == [
            "\x1b[2mDEBUG\x1b[0m done",
            "INFO done",
            "\x1b[33mWARNING\x1b[0m done",
            "\x1b[31mERROR\x1b[0m done",
            "\x1b[31mCRITICAL\x1b[0m done",
        ]


class TestJson:
    def test_a_line(self) -> None:
        """A line is one object with time, level, message and the pairs."""
        made = JsonFormatter().format(
            record("%s of %d", "one", 2, level=logging.WARNING, fields={"ref": "abc", "status": 200})
        )
        assert is_one_line(made)
        assert json.loads(made) == {
            "time": "2026-11-24T12:00:00.123Z",
            "level": "warning",
            "message": "one of 2",
            "ref": "abc",
            "status": 200,
        }

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (("a.org", "b.org"), ["a.org", "b.org"]),
            ([], []),
            (0.123456789, 0.123457),
            (math.nan, None),
            (math.inf, None),
            (None, None),
            (True, True),
            (IN_JAPAN, "2026-11-24T12:00:00Z"),
            (ValueError("why"), "why"),
        ],
        ids=ascii,
    )
    def test_values(self, value: object, shown: object) -> None:
        """Lists stay lists and numbers stay numbers; what JSON has no word for becomes text or null."""
        assert entry({"key": value})["key"] == shown

    @given(st.text(), st.text())
    def test_nothing_can_be_forged(self, message: str, value: str) -> None:
        """Whatever the texts, a line is one line of printable ASCII from which they can be read again."""
        made = JsonFormatter().format(record(message, fields={"key": value}))
        assert is_one_line(made)
        assert (json.loads(made)["message"], json.loads(made)["key"]) == (message, value)

    def test_pairs_do_not_replace_time_level_or_message(self) -> None:
        """A pair cannot take the place of time, level or message."""
        assert entry({"time": "never", "level": "none", "message": "forged"}) == entry({})

    def test_a_traceback(self) -> None:
        """A traceback is one of the pairs."""
        made = json.loads(JsonFormatter().format(with_traceback("why")))
        assert made["traceback"].endswith("ValueError: why\n")


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_time_is_utc(monkeypatch: pytest.MonkeyPatch, formatter: logging.Formatter) -> None:
    """The time of a line is UTC, wherever the machine stands."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        made = formatter.format(record("done"))
    time.tzset()
    assert "2026-11-24T12:00:00.123Z" in made


class TestEvents:
    """Each event is a line: its name, and what is known of it."""

    @pytest.mark.parametrize(
        ("event", "level", "known"),
        [
            (RequestedEvent(**WHO), "DEBUG", ""),
            (
                IssuedEvent(**WHO, account="me", directory="https://ca.org", not_after=IN_JAPAN, seconds=1.5),
                "INFO",
                " account=me directory=https://ca.org not_after=2026-11-24T12:00:00Z seconds=1.500",
            ),
            (
                DeliveredEvent(**WHO, status=200, source="stored", seconds=0.0004),
                "INFO",
                " status=200 source=stored seconds=0.000",
            ),
            (
                FailedEvent(**WHO, stage="store", status=200, reason="disk full"),
                "ERROR",
                ' stage=store status=200 reason="disk full"',
            ),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Event) else "",
    )
    def test_lines(self, caplog: pytest.LogCaptureFixture, event: Event, level: str, known: str) -> None:
        """A line holds what is known, in order, at a level that says how much it matters."""
        with caplog.at_level(logging.DEBUG, "acmems.events"):
            log_event(event)
        [made] = caplog.records
        assert made.levelname == level
        name = event.word
        assert (
            TextFormatter(plain=True).format(made)
            == f"{name} ref=abc client=192.0.2.1 names=a.org block=web{known}"
        )

    def test_unknown_fields_are_left_out(self, caplog: pytest.LogCaptureFixture) -> None:
        """What is not known of a request is left out."""
        log_event(RefusedEvent(reference="abc", client="192.0.2.1", status=403, reason="no"))
        [made] = caplog.records
        assert made.levelname == "WARNING"
        assert (
            TextFormatter(plain=True).format(made) == "refused ref=abc client=192.0.2.1 status=403 reason=no"
        )

    def test_a_bug_is_logged_with_its_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        """A bug is logged with its traceback, beside the reference that the client got."""
        log_event(FailedEvent(**WHO, stage="sign", status=500, reason="a bug", bug=KeyError("oops")))
        [made] = caplog.records
        assert "ref=abc" in TextFormatter().format(made)
        assert "KeyError" in TextFormatter().format(made)

    def test_events_below_the_level_are_not_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """An event below the level of the log is not logged."""
        with caplog.at_level(logging.INFO, "acmems.events"):
            log_event(RequestedEvent(**WHO))
        assert caplog.records == []

    @pytest.mark.parametrize(
        "event",
        [
            AnsweredEvent(**WHO, status=404),
            NotIssuedEvent(**WHO, directory="https://ca.org", error=KeyError("oops"), seconds=1.0),
        ],
        ids=lambda event: type(event).__name__,
    )
    def test_what_is_only_counted(self, caplog: pytest.LogCaptureFixture, event: Event) -> None:
        """What strangers can bring about without end, and what another line tells, is not logged."""
        with caplog.at_level(logging.DEBUG, "acmems.events"):
            log_event(event)
        assert caplog.records == []

    def test_the_front_end_is_only_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        """A line says as much as before there were metrics."""
        log_event(
            RefusedEvent(reference="abc", client="192.0.2.1", status=403, reason="no", front_end="sign")
        )
        assert "sign" not in TextFormatter(plain=True).format(caplog.records[0])


class TestUncaught:
    """What nothing catches is logged with its traceback, and nothing of it goes to stderr."""

    def test_a_thread_that_dies(
        self, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What a thread dies of is logged; SystemExit is no error."""

        def fail(error: BaseException) -> None:
            raise error

        with logs.uncaught():
            for error in (ZeroDivisionError("of zero"), SystemExit(1)):
                thread = threading.Thread(target=fail, args=[error], name="acmems-test")
                thread.start()
                thread.join(30)
        (record,) = caplog.records
        assert record.getMessage() == "a bug ended the thread acmems-test"
        assert record.exc_info is not None
        assert record.exc_info[0] is ZeroDivisionError
        assert capsys.readouterr().err == ""

    def test_a_destructor_that_fails(
        self, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What a destructor raises is logged."""

        class Broken:
            def __del__(self) -> None:
                raise ZeroDivisionError

        with logs.uncaught():
            Broken()
            gc.collect()
        (record,) = caplog.records
        assert record.getMessage() == "a bug in a destructor"
        assert record.exc_info is not None
        assert capsys.readouterr().err == ""

    def test_hooks_are_restored_afterwards(self) -> None:
        """Afterwards everything is as it was."""
        before = threading.excepthook, sys.unraisablehook
        with logs.uncaught():
            assert threading.excepthook is not before[0]
        assert (threading.excepthook, sys.unraisablehook) == before
