"""Acts go from a command to the running server over a Unix socket, and their outcome comes back."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.peers.process import wait_until

from acmems.exceptions import ActFailed, ConfigurationError
from acmems.frontends.control import client, messages, place
from acmems.frontends.control import listener as listening
from acmems.frontends.control.client import hand_over
from acmems.frontends.control.listener import MOST_ACTS, ControlListener
from acmems.frontends.control.messages import ActRequest
from acmems.frontends.control.place import PeerCredentials
from acmems.system.clock import SYSTEM, Clock

OTHER_UID = 12345


class Performer:
    """Does what a test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, Any], str]] = []
        self.error: Exception | None = None
        self.held = threading.Event()
        self.held.set()

    def __call__(
        self, act: str, arguments: Mapping[str, Any], who: str, progress: Callable[[str], None]
    ) -> Mapping[str, Any]:
        self.asked.append((act, arguments, who))
        progress("half way")
        assert self.held.wait(30)
        if self.error is not None:
            raise self.error
        return {"names": ["a.example.org"]}


@pytest.fixture
def performer() -> Performer:
    return Performer()


@contextlib.contextmanager
def running(folder: Path, performer: Performer, clock: Clock = SYSTEM) -> Iterator[ControlListener]:
    listener = ControlListener(folder, performer, clock)
    listener.start()
    try:
        yield listener
    finally:
        performer.held.set()
        listener.close()
        listener.drain(SYSTEM.deadline(30))


@pytest.fixture
def server(tmp_path: Path, performer: Performer) -> Iterator[ControlListener]:
    with running(tmp_path, performer) as listener:
        yield listener


def ask(folder: Path, progress: Callable[[str], None] = lambda _: None) -> Mapping[str, Any] | None:
    return hand_over(folder, "renew", {"name": "a.example.org"}, progress)


def raw(folder: Path, data: bytes, *, ends: bool = True) -> dict[str, Any]:
    """Send bytes, and return the answer."""
    connection = place.connected(folder)
    assert connection is not None
    with connection:
        connection.settimeout(30)
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(data)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        answer: dict[str, Any] = json.loads(connection.makefile("rb").readline())
    return answer


def test_a_server_that_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person is told once that it says nothing, and of which process that is; its answer still counts."""
    monkeypatch.setattr(client, "SILENT_SECONDS", 0.05)
    told = list[str]()
    with socket.socket(socket.AF_UNIX) as silent, ThreadPoolExecutor(1) as pool:
        silent.bind(str(tmp_path / place.SOCKET))
        silent.listen()
        asking = pool.submit(ask, tmp_path, told.append)
        connection, _ = silent.accept()
        with connection:
            wait_until(lambda: bool(told), "it is told")
            connection.sendall(messages.outcome_line({"names": []}))
            assert asking.result(30) == {"names": []}
    [words] = told
    assert words.startswith(f"the server (process {os.getpid()}) has said nothing for 0.05 seconds")


@pytest.mark.usefixtures("server")
class TestAct:
    def test_outcome_and_progress(self, tmp_path: Path, performer: Performer) -> None:
        """The server hears what is asked for and by whom, the command how it gets on and ends."""
        words = list[str]()
        assert ask(tmp_path, words.append) == {"names": ["a.example.org"]}
        assert words == ["half way"]
        [(act, arguments, who)] = performer.asked
        assert (act, arguments) == ("renew", {"name": "a.example.org"})
        assert who.split()[0] == str(os.geteuid())

    @pytest.mark.parametrize(
        "error", [ActFailed("no such name"), ConfigurationError(["a.ini:1: wrong"])], ids=["1", "2"]
    )
    def test_an_error(self, tmp_path: Path, performer: Performer, error: Exception) -> None:
        """An error has the words and the exit code that it has where no server runs."""
        performer.error = error
        with pytest.raises(type(error), match=str(error)):
            ask(tmp_path)

    def test_a_bug(self, tmp_path: Path, performer: Performer) -> None:
        """A bug is told in words without its own, and the next act works."""
        performer.error = KeyError("secret")
        with pytest.raises(ActFailed, match="a bug of the server, please report it: KeyError") as raised:
            ask(tmp_path)
        assert "secret" not in str(raised.value)
        performer.error = None
        assert ask(tmp_path) is not None

    @pytest.mark.parametrize(
        "data",
        [
            b"what?\n",
            b"[]\n",
            b"{}\n",
            b'{"act": 1}\n',
            b'{"act": "renew", "arguments": []}\n',
            b"[" * 100_000 + b"\n",
            b"\xff\n",
            b'{"act": "renew"',
            b"x" * (messages.LARGEST + 1),
            b'{"act": "renew"' + b" " * messages.LARGEST + b"}\n",
        ],
        ids=range(10),
    )
    def test_nonsense(self, tmp_path: Path, performer: Performer, data: bytes) -> None:
        """What is no request is answered in words, and nothing is done."""
        answer = raw(tmp_path, data)
        assert answer["exit"] == 1
        assert answer["error"]
        assert not performer.asked
        assert ask(tmp_path) is not None

    def test_silence(self, tmp_path: Path, performer: Performer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who sends no whole line in time is told so."""
        monkeypatch.setattr(listening, "REQUEST_SECONDS", 0.2)
        still = dataclasses.replace(SYSTEM, monotonic=lambda: 0.0)  # what was sent comes in time
        folder = tmp_path / "still"
        folder.mkdir()
        with running(folder, performer, still):
            assert "did not come" in raw(folder, b'{"act"', ends=False)["error"]
        assert not performer.asked

    def test_who_has_gone_before(
        self, tmp_path: Path, performer: Performer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An act is not begun when its command was given up before, as while the server was suspended."""
        going, gone = threading.Event(), threading.Event()
        parse = ActRequest.parse

        def wait(line: bytes) -> ActRequest:
            going.set()
            assert gone.wait(30)
            return parse(line)

        monkeypatch.setattr(ActRequest, "parse", wait)
        connection = place.connected(tmp_path)
        assert connection is not None
        connection.sendall(b'{"act": "renew", "arguments": {}}\n')
        assert going.wait(30)
        connection.close()
        gone.set()
        assert ask(tmp_path) is not None
        assert [arguments for _, arguments, _ in performer.asked] == [{"name": "a.example.org"}]

    def test_who_has_gone(self, tmp_path: Path, performer: Performer) -> None:
        """An act goes on when its command is killed."""
        performer.held.clear()
        connection = place.connected(tmp_path)
        assert connection is not None
        connection.sendall(b'{"act": "renew"}\n')
        wait_until(lambda: bool(performer.asked), "it has begun")
        connection.close()
        performer.held.set()
        assert ask(tmp_path) is not None

    def test_too_many(self, tmp_path: Path, performer: Performer) -> None:
        """Only a few acts go on at once; one more is told to ask again, and may once one has ended."""
        performer.held.clear()
        threads = [threading.Thread(target=ask, args=[tmp_path]) for _ in range(MOST_ACTS)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(performer.asked) == MOST_ACTS, "all have begun")
        with pytest.raises(ActFailed, match="busy"):
            ask(tmp_path)
        performer.held.set()
        for thread in threads:
            thread.join()
        wait_until(lambda: _is_free(tmp_path), "there is a place again")

    def test_another_user(
        self, tmp_path: Path, performer: Performer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody but root and the server's own user may act, whatever the mode of the socket."""
        other = PeerCredentials(1, OTHER_UID, OTHER_UID)
        monkeypatch.setattr(PeerCredentials, "of", lambda _: other)
        with pytest.raises(ActFailed, match="only root and the user of the server"):
            ask(tmp_path)
        assert not performer.asked

    def test_who_may_open_it(self, tmp_path: Path) -> None:
        """The socket is its owner's alone."""
        mode = (tmp_path / place.SOCKET).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600


def _is_free(folder: Path) -> bool:
    try:
        return ask(folder) is not None
    except ActFailed:
        return False


def test_a_close_wakes_the_thread(
    tmp_path: Path, performer: Performer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends at once, whatever it waits for, and does not look again and again whether it may."""
    monkeypatch.setattr(listening, "_PAUSE_SECONDS", 3600)
    listener = ControlListener(tmp_path, performer)
    listener.start()
    closing = threading.Thread(target=listener.close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()


class TestPlace:
    def test_no_server(self, tmp_path: Path) -> None:
        """Where no server has ever run, none does."""
        assert ask(tmp_path) is None

    def test_what_a_dead_server_left(self, tmp_path: Path, performer: Performer) -> None:
        """The socket of a killed server means that none runs, and the next one takes its place."""
        with contextlib.closing(place.listening(tmp_path)):
            pass  # as a kill leaves it: the file stays
        assert (tmp_path / place.SOCKET).exists()
        assert ask(tmp_path) is None
        with running(tmp_path, performer):
            assert ask(tmp_path) is not None
        assert not (tmp_path / place.SOCKET).exists()

    def test_of_two_servers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first has the socket, and the other one gets it when the first ends."""
        monkeypatch.setattr(listening, "_CLAIM_SECONDS", 0.01)
        first, second = Performer(), Performer()
        with contextlib.ExitStack() as stack:
            ahead = stack.enter_context(running(tmp_path, first))
            stack.enter_context(running(tmp_path, second))
            assert ask(tmp_path) is not None
            assert (len(first.asked), len(second.asked)) == (1, 0)
            ahead.close()
            wait_until(lambda: ask(tmp_path) is not None, "the second has taken over")
            assert second.asked

    def test_a_long_path(self, tmp_path: Path, performer: Performer) -> None:
        """A path that is longer than a socket address may be is no obstacle."""
        folder = tmp_path / ("x" * 120)
        folder.mkdir()
        with running(folder, performer):
            assert ask(folder) is not None

    def test_a_folder_that_is_not_there(self, tmp_path: Path, performer: Performer) -> None:
        """A server that cannot make its socket says so and serves."""
        with running(tmp_path / "nowhere", performer) as listener:
            assert listener.is_healthy()
        assert ask(tmp_path / "nowhere") is None

    def test_the_log_says_why(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The log says that commands cannot reach the server, and why."""
        with running(tmp_path / "nowhere", Performer()):
            pass
        assert "commands that act cannot reach this server: No such file or directory" in caplog.text

    def test_a_command_acts(self, tmp_path: Path, performer: Performer) -> None:
        """While a command acts alone, no server takes acts, so that two never act at once."""
        lock = place.locked(tmp_path)
        assert lock is not None
        assert place.locked(tmp_path) is None
        with running(tmp_path, performer):
            assert ask(tmp_path) is None
        os.close(lock)

    def test_a_start_waits_for_a_command(self, tmp_path: Path, performer: Performer) -> None:
        """A server waits until a command that acts has ended, and for no other server."""
        lock = place.locked(tmp_path)
        assert lock is not None
        waits = list[float]()

        def wait(_: threading.Event, seconds: float) -> bool:
            waits.append(seconds)
            if len(waits) == 3:
                os.close(lock)
            return False

        clock = dataclasses.replace(SYSTEM, wait=wait)
        place.await_command(tmp_path, clock, 30)
        assert len(waits) == 3
        with running(tmp_path, performer):
            place.await_command(tmp_path, clock, 30)
        place.await_command(tmp_path / "nowhere", clock, 30)
        assert len(waits) == 3

    def test_a_server_that_ends_first(self, tmp_path: Path) -> None:
        """A server that is killed while it acts leaves words behind."""
        sock = place.listening(tmp_path)

        def end() -> None:
            connection, _ = sock.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=end)
        thread.start()
        with pytest.raises(ActFailed, match="the server ended before it told"):
            ask(tmp_path)
        thread.join()
        sock.close()

    @pytest.mark.parametrize(
        "answer", [b"?\n", b"{}\n", b"[1]\n", b"x" * (2 * messages.LARGEST)], ids=range(4)
    )
    def test_a_server_that_answers_nonsense(self, tmp_path: Path, answer: bytes) -> None:
        """An answer that is none is an error in words."""
        sock = place.listening(tmp_path)

        def say() -> None:
            connection, _ = sock.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=say)
        thread.start()
        with pytest.raises(ActFailed):
            ask(tmp_path)
        thread.join()
        sock.close()
