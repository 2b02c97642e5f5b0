"""Where the log's lines go, and that a destination's failure is told once and hurts nobody."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from acmems import logs
from acmems.exceptions import AcmeException
from acmems.logs import handlers
from acmems.logs.formats import TextFormatter
from acmems.logs.options import LoggingOptions

logger = logging.getLogger("acmems.test")


def options(destination: str | Path, level: str = "info", format: str = "text") -> LoggingOptions:  # noqa: A002 - the option's name
    return LoggingOptions(level=level, destination=destination, format=format)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave logging as it was."""
    root, ours = logging.getLogger(), logging.getLogger("acmems")
    before, level = list(root.handlers), ours.level
    yield
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
        with contextlib.suppress(OSError):  # where the disk is full
            handler.close()
    ours.setLevel(level)


def installed() -> handlers.Handler:
    """Return the handler that was configured last."""
    [handler] = [each for each in logging.getLogger().handlers if isinstance(each, handlers.Handler)]
    return handler


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen for datagrams at a path, as the journal and syslog do."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.settimeout(30)
        made.bind(str(path))
        yield made
    path.unlink()


def fields_of(datagram: bytes) -> dict[str, str]:
    """Read what the journal is sent (systemd's "Native Journal Protocol")."""
    found = {}
    while datagram:
        name, _, rest = datagram.partition(b"\n")
        if b"=" in name:
            name, _, value = name.partition(b"=")
            datagram = rest
        else:
            length = int.from_bytes(rest[:8], "little")
            value, datagram = rest[8 : 8 + length], rest[9 + length :]
        found[name.decode()] = value.decode()
    return found


class TestConfigure:
    def test_a_file(self, tmp_path: Path) -> None:
        """Lines are appended to a file, from the level on that the configuration says."""
        path = tmp_path / "log"
        path.write_text("an old line\n", encoding="ascii")
        logs.configure(options(path))
        logger.debug("too much detail")
        logger.info("an event", extra={"fields": {"key": "ü"}})
        old, new = path.read_text(encoding="ascii").splitlines()
        assert old == "an old line"
        assert new.endswith(r'Z INFO an event key="\u00fc"')

    def test_json(self, tmp_path: Path) -> None:
        """Lines are JSON where the configuration says so."""
        logs.configure(options(tmp_path / "log", level="debug", format="json"))
        logger.debug("an event")
        assert json.loads((tmp_path / "log").read_text(encoding="ascii"))["message"] == "an event"

    def test_the_last_configuration_counts_alone(self, tmp_path: Path) -> None:
        """What is configured last counts alone; the destination before it is closed."""
        logs.configure(options(tmp_path / "first"))
        [first] = [
            handler for handler in logging.getLogger().handlers if isinstance(handler, handlers.FileHandler)
        ]
        logs.configure(options(tmp_path / "second"))
        logger.info("an event")
        assert (tmp_path / "first").read_text(encoding="ascii") == ""
        assert (tmp_path / "second").read_text(encoding="ascii").count("an event") == 1
        assert vars(first)["stream"] is None

    def test_no_line_is_lost_in_between(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is logged while another destination takes the place of the first is in one of them."""
        close = handlers.FileHandler.close

        def logging_meanwhile(self: handlers.FileHandler) -> None:
            logger.warning("meanwhile")
            close(self)

        logs.configure(options(tmp_path / "first"))
        monkeypatch.setattr(handlers.FileHandler, "close", logging_meanwhile)
        logs.configure(options(tmp_path / "second"))
        monkeypatch.undo()
        assert "meanwhile" in (tmp_path / "second").read_text(encoding="ascii")

    @pytest.mark.parametrize("name", ["stdout", "stderr"])
    def test_lines_go_to_the_configured_stream(self, capsys: pytest.CaptureFixture[str], name: str) -> None:
        """Lines go to the stream that the configuration names, and to no other, without colour."""
        logs.configure(options(name))
        logger.warning("an event")
        printed = capsys.readouterr()._asdict()
        assert printed.pop(name.removeprefix("std")).endswith("Z WARNING an event\n")
        assert list(printed.values()) == [""]

    @pytest.mark.parametrize(
        ("no_color", "level"),
        [(None, "\x1b[33mWARNING\x1b[0m"), ("", "\x1b[33mWARNING\x1b[0m"), ("1", "WARNING")],
    )
    def test_a_terminal(self, monkeypatch: pytest.MonkeyPatch, no_color: str | None, level: str) -> None:
        """Levels are coloured at a terminal, unless NO_COLOR is set to something (no-color.org)."""
        monkeypatch.delenv("NO_COLOR", raising=False)
        if no_color is not None:
            monkeypatch.setenv("NO_COLOR", no_color)
        controller, terminal = pty.openpty()
        with os.fdopen(terminal, "w", encoding="ascii") as stream, os.fdopen(controller, "rb") as screen:
            monkeypatch.setattr(sys, "stderr", stream)
            logs.configure(options("stderr"))
            logger.warning("an event")
            assert screen.readline().decode().endswith(f"Z {level} an event\r\n")

    def test_libraries_are_logged_from_warnings_on(self, tmp_path: Path) -> None:
        """What libraries log goes the same way, escaped, from warnings on."""
        logs.configure(options(tmp_path / "log", level="debug"))
        logging.getLogger("a.library").info("chatter")
        logging.getLogger("a.library").warning("forged\nline")
        [line] = (tmp_path / "log").read_text(encoding="ascii").splitlines()
        assert line.endswith(r'Z WARNING "forged\nline"')

    @pytest.mark.parametrize("name", ["missing/log", "."])
    def test_an_unusable_file(self, tmp_path: Path, name: str) -> None:
        """A file that cannot be written is an error that names it, and the log stays as it was."""
        logs.configure(options(tmp_path / "log"))
        with pytest.raises(AcmeException, match=f"^cannot log to {tmp_path / name}: [A-Z]"):
            logs.configure(options(tmp_path / name))
        logger.info("an event")
        assert "an event" in (tmp_path / "log").read_text(encoding="ascii")

    @pytest.mark.parametrize(("destination", "name"), [("journal", "JOURNAL"), ("syslog", "SYSLOG")])
    def test_nobody_listens(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, destination: str, name: str
    ) -> None:
        """Without a journal or a syslog logging to it is an error, and not silence."""
        monkeypatch.setattr(handlers, name, str(tmp_path / "socket"))
        with pytest.raises(AcmeException, match=f"^cannot log to {destination}: No such file"):
            logs.configure(options(destination))


class TestJournal:
    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where the journal listens."""
        monkeypatch.setattr(handlers, "JOURNAL", str(tmp_path / "socket"))
        return tmp_path / "socket"

    def test_a_record(self, path: Path) -> None:
        """The journal gets the line without time and level, the severity, and each pair as a field."""
        with listening(path) as journal:
            logs.configure(options("journal"))
            logger.warning("an event", extra={"fields": {"ref": "abc", "names": ("a", "b"), "seconds": 0.5}})
            assert fields_of(journal.recv(65536)) == {
                "MESSAGE": "an event ref=abc names=a,b seconds=0.500",
                "PRIORITY": "4",
                "SYSLOG_IDENTIFIER": "acmems",
                "ACMEMS_REF": "abc",
                "ACMEMS_NAMES": "a,b",
                "ACMEMS_SECONDS": "0.500",
            }

    def test_severities(self, path: Path) -> None:
        """Levels become syslog's severities (RFC 5424 section 6.2.1)."""
        levels = [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR]
        with listening(path) as journal:
            logs.configure(options("journal", level="debug"))
            for level in levels:
                logger.log(level, "an event")
            assert [fields_of(journal.recv(65536))["PRIORITY"] for _ in levels] == ["7", "6", "4", "3"]

    def test_several_lines(self, path: Path) -> None:
        """A value of several lines arrives as it is, and forges no field."""
        with listening(path) as journal:
            logs.configure(options("journal"))
            logger.error("an event", extra={"fields": {"reason": "a\nPRIORITY=7\n", "odd": "\udc80ü"}})
            found = fields_of(journal.recv(65536))
        assert (found["ACMEMS_REASON"], found["ACMEMS_ODD"]) == ("a\nPRIORITY=7\n", "\\udc80ü")
        assert found["PRIORITY"] == "3"

    def test_a_long_value(self, path: Path) -> None:
        """A value that the kernel would not carry is cut, so that the record arrives."""
        with listening(path) as journal:
            logs.configure(options("journal"))
            logger.error("an event", extra={"fields": {"reason": "ü" * 200_000}})
            assert len(fields_of(journal.recv(2**20))["ACMEMS_REASON"]) == 30_000

    def test_a_new_journal(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A journal that starts anew gets what is logged from then on; what got lost is told."""
        with listening(path):
            logs.configure(options("journal"))
        logger.info("lost")
        with listening(path) as journal:
            logger.info("an event")
            assert fields_of(journal.recv(65536))["MESSAGE"] == "an event"
        assert capsys.readouterr().err.startswith("acmems: log lines are being lost: ")


class TestSyslog:
    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where syslog listens."""
        monkeypatch.setattr(handlers, "SYSLOG", str(tmp_path / "socket"))
        return tmp_path / "socket"

    def test_a_record(self, path: Path) -> None:
        """Syslog gets facility and severity, the program's name, and the line without time and level."""
        with listening(path) as syslog:
            logs.configure(options("syslog"))
            logger.error("forged\n<0>line", extra={"fields": {"ref": "abc"}})
            assert syslog.recv(65536).rstrip(b"\0") == b'<27>acmems: "forged\\n<0>line" ref=abc'

    def test_a_new_syslog(self, path: Path) -> None:
        """A syslog that starts anew gets what is logged from then on."""
        with listening(path):
            logs.configure(options("syslog"))
        with listening(path) as syslog:
            logger.info("an event")
            assert syslog.recv(65536).rstrip(b"\0") == b"<30>acmems: an event"


class TestFile:
    def test_a_renamed_file_is_followed_by_a_new_one(self, tmp_path: Path) -> None:
        """When its file was renamed the log goes on in a new one."""
        path = tmp_path / "log"
        logs.configure(options(path))
        logger.info("before")
        path.rename(tmp_path / "log.1")
        logger.info("after")
        assert "after" not in (tmp_path / "log.1").read_text(encoding="ascii")
        assert path.read_text(encoding="ascii").endswith("Z INFO after\n")

    def test_its_directory_goes_and_comes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Lost lines are told once; when the directory is there again, so are the lines."""
        path = tmp_path / "folder" / "log"
        path.parent.mkdir()
        logs.configure(options(path))
        shutil.rmtree(path.parent)
        for _ in range(3):
            logger.info("lost")
        path.parent.mkdir()
        logger.info("an event")
        assert path.read_text(encoding="ascii").endswith("Z INFO an event\n")
        [told] = capsys.readouterr().err.splitlines()
        assert told.startswith("acmems: log lines are being lost: ")

    def test_a_full_disk(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A disk without room loses lines, which is told once, and the program goes on."""
        logs.configure(options(Path("/dev/full")))
        for _ in range(3):
            logger.info("lost")
        assert (
            capsys.readouterr().err
            == 'acmems: log lines are being lost: "[Errno 28] No space left on device"\n'
        )


class TestFailure:
    class Broken(handlers.Handler):
        """Fails as it is told."""

        def __init__(self, error: BaseException) -> None:
            super().__init__()
            self.error = error
            self.setFormatter(TextFormatter())

        def emit(self, record: logging.LogRecord) -> None:
            raise self.error

    def test_lost_lines_are_told_once_on_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        """That lines are lost is told in one line, without a traceback, and not for each of them."""
        handler = self.Broken(RuntimeError("forged\nline"))
        for _ in range(3):
            assert not handler.handle(logging.makeLogRecord({"msg": "lost"}))
        assert capsys.readouterr().err == 'acmems: log lines are being lost: "forged\\nline"\n'

    def test_a_closed_stderr_does_not_stop_the_program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where stderr is closed, too, the program goes on all the same."""
        with open(os.devnull, "w", encoding="ascii") as closed:  # noqa: PTH123 - a stream to be closed
            pass
        monkeypatch.setattr(sys, "stderr", closed)
        self.Broken(RuntimeError()).handle(logging.makeLogRecord({"msg": "lost"}))

    def test_a_record_that_makes_no_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A message that does not fit its arguments is a bug of ours, and hurts no request."""
        logs.configure(options(tmp_path / "log"))
        installed().handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
        logger.info("an event")
        assert "an event" in (tmp_path / "log").read_text(encoding="ascii")
        assert capsys.readouterr().err.startswith("acmems: log lines are being lost: ")

    def test_a_filter_that_fails(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Even what fails before a handler writes is caught."""
        handler = self.Broken(RuntimeError())

        def fail(record: logging.LogRecord) -> bool:
            raise KeyError("a bug")

        handler.addFilter(fail)
        assert not handler.handle(logging.makeLogRecord({"msg": "lost"}))
        assert "a bug" in capsys.readouterr().err
