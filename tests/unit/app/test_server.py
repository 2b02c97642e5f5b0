"""The composition root: what is started in which order, and how it ends."""

from __future__ import annotations

import errno
import resource
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.listening import WithoutFamily
from tests.peers import wait_until
from tests.running import ACCOUNT, LINES, Issuer, configuration, is_open, running

from acmems.app import plans, process
from acmems.app import server as servers
from acmems.app.upkeep.threads import UPKEEP_SECONDS
from acmems.challenges import http01
from acmems.exceptions import AccountError, CAUnavailable, StorageUnavailable
from acmems.frontends import options
from acmems.issuers.acme.account import Account, AccountDirectory
from acmems.issuing.contract import Workload
from acmems.issuing.issuance import Issuance
from acmems.net.address import Address
from acmems.storages import FileStorage
from acmems.system.clock import Clock, Deadline


class TestStart:
    """Storages, account, listeners: in this order, and nothing after a failure."""

    def test_a_first_start(self, folder: Path, issuer: type[Issuer]) -> None:
        """Without a key one is made; the account is opened; then every listener listens."""
        with running(configuration(folder)) as server:
            assert issuer.told == ["create_key", "load_key", "refresh"]
            assert [address.rpartition(":")[0] for address in server.addresses] == [
                "mgmt 127.0.0.1",
                "http01 web 127.0.0.1",
            ]
            assert all(is_open(address) for address in server.addresses)
            assert server.is_healthy()

    def test_addresses_come_before_the_account(
        self, folder: Path, issuer: type[Issuer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is made at the CA before the addresses are taken, and nobody is answered before that."""
        listening: list[bool] = []

        def refresh(self: Issuer, *, register: bool = True) -> Account:
            listening.extend(map(is_open, server.addresses))
            listening.append(server.is_serving)
            return ACCOUNT

        monkeypatch.setattr(issuer, "refresh", refresh)
        server = servers.Server(configuration(folder))
        server.start()
        server.stop()
        assert listening == [True, True, False]

    def test_a_known_account_is_not_waited_for(
        self, folder: Path, issuer: type[Issuer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With an account on disk the start ends while the CA is asked about it."""
        asked, answer = threading.Event(), threading.Event()

        def hang(self: Issuer) -> None:
            asked.set()
            assert answer.wait(30)

        (folder / "account" / "account.pem").touch()
        AccountDirectory(folder / "account").save_registration(ACCOUNT)
        monkeypatch.setattr(issuer, "ensure_opened", hang)
        with running(configuration(folder)) as server:
            assert asked.wait(30)
            assert all(is_open(address) for address in server.addresses)
            answer.set()

    def test_a_later_start(self, folder: Path, issuer: type[Issuer]) -> None:
        """A key that is there is used."""
        (folder / "account" / "account.pem").touch()
        with running(configuration(folder)):
            assert issuer.told[0] == "load_key"

    @pytest.mark.parametrize("terms", ["", "accept-terms-of-service = no"])
    def test_without_consent(self, folder: Path, issuer: type[Issuer], terms: str) -> None:
        """Before the terms are accepted no key is made, and the error has the line to add."""
        server = servers.Server(configuration(folder, terms=terms))
        with pytest.raises(AccountError, match=r"add 'accept-terms-of-service = yes' to \[account\]"):
            server.start()
        assert issuer.told == []
        assert not any(map(is_open, server.addresses))

    def test_a_storage_that_is_not_writable(
        self, folder: Path, issuer: type[Issuer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A storage that cannot be written stops the start before the account is opened."""

        def fail(_: FileStorage) -> None:
            raise StorageUnavailable("disk full")

        monkeypatch.setattr(FileStorage, "check", fail)
        server = servers.Server(configuration(folder))
        with pytest.raises(StorageUnavailable):
            server.start()
        assert (issuer.told, server.addresses) == ([], [])

    @pytest.mark.parametrize("error", [CAUnavailable("down"), AccountError("no")])
    def test_an_account_that_cannot_be_made(
        self, folder: Path, issuer: type[Issuer], monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        """Without an account nothing is served, and the reason is told."""
        monkeypatch.setattr(issuer, "error", error)
        server = servers.Server(configuration(folder))
        with pytest.raises(type(error)):
            server.start()
        assert not any(map(is_open, server.addresses))

    def test_an_account_that_cannot_be_used_now(
        self,
        folder: Path,
        issuer: type[Issuer],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """With an account on disk a failing CA stops no start: stored chains are served."""
        AccountDirectory(folder / "account").save_registration(ACCOUNT)
        monkeypatch.setattr(issuer, "error", CAUnavailable("the CA is down"))
        with running(configuration(folder)) as server:
            assert all(is_open(address) for address in server.addresses)
            wait_until(lambda: "the CA is down" in caplog.text, "the CA is asked")

    def test_a_port_that_is_taken(self, folder: Path, issuer: type[Issuer]) -> None:
        """A taken port is an error that names it; other listeners are closed, and there is no account."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            server = servers.Server(configuration(folder, web=f"type = http01\nlistener = {address}"))
            with pytest.raises(OSError, match="in use") as raised:
                server.start()
        assert address in str(raised.value.filename)
        assert issuer.told == []
        assert not any(is_open(known) for known in server.addresses)

    def test_a_machine_without_ipv6(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Default listeners of both kinds do without IPv6 where the machine has none."""
        defaults = (Address("127.0.0.1", 0), Address("::1", 0))
        for module, name in (
            (plans, "MGMT_LISTENERS"),
            (options, "MGMT_LISTENERS"),
            (plans, "DEFAULT_LISTENERS"),
            (http01, "DEFAULT_LISTENERS"),
        ):
            monkeypatch.setattr(module, name, defaults)
        config = configuration(folder, mgmt="", web="type = http01")
        monkeypatch.setattr(socket, "socket", WithoutFamily)
        with running(config) as server:
            assert [address.rpartition(":")[0] for address in server.addresses] == [
                "mgmt 127.0.0.1",
                "http01 web 127.0.0.1",
            ]

    def test_no_listener_at_all(self, folder: Path) -> None:
        """An empty `listener` opens nothing."""
        empty = {"mgmt": "[mgmt]\nlistener =", "web": "type = http01\nlistener ="}
        with running(configuration(folder, **empty)) as server:
            assert server.addresses == []

    def test_files_may_be_open_as_many_as_the_system_lets_us(self, folder: Path) -> None:
        """The soft limit of open files, often 1024, is raised to the hard one."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
            with running(configuration(folder)):
                assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    @pytest.mark.threat("fair shares", "few descriptors")
    def test_few_files(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where few files may be open, listeners take on less, and it is said what to raise."""
        monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
        with running(configuration(folder)) as server:
            limits = [listener._limits for listener in server.listeners]
        assert [(each.connections, each.waiting) for each in limits] == [(32, 32), (32, 32)]
        assert "at most 32 clients are served at the same time, not 2000: raise the limit" in caplog.text

    def test_many_files(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Where enough files may be open, there is nothing to say."""
        with running(configuration(folder)) as server:
            assert [listener._limits.connections for listener in server.listeners] == [2000, 2000]
        assert "open files" not in caplog.text


class TestMetrics:
    """Watched over where that is configured."""

    def test_a_listener_of_its_own(self, folder: Path) -> None:
        """The listener for monitoring is open until the stop has come to its end."""
        text = f"{LINES['mgmt']}\n[metrics]\nlistener = 127.0.0.1:0"
        with running(configuration(folder, mgmt=text)) as server:
            [address] = [each for each in server.addresses if each.startswith("metrics ")]
            assert is_open(address)
            assert server.is_healthy()
        assert not is_open(address)

    def test_none_by_default(self, folder: Path) -> None:
        """Without the section nothing is counted or looked through."""
        before = {thread.name for thread in threading.enumerate()}
        with running(configuration(folder)):
            started = {thread.name for thread in threading.enumerate()} - before
        assert not any(name in started for name in ("acmems-survey", "acmems-trials", "acmems-ca-trials"))


class TestStop:
    """The end, in order."""

    def test_a_stop_closes_all_listeners(self, folder: Path, issuer: type[Issuer]) -> None:
        """After the stop no listener is open, and the issuer was stopped before it was closed."""
        with running(configuration(folder)) as server:
            addresses = server.addresses
        assert not any(is_open(address) for address in addresses)
        assert issuer.told[-2:] == ["stop", "close"]

    def test_who_leaves_waits_for_storages(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server whose place another one has takes nobody on, and ends when all chains are kept."""
        unsaved = [2, 1, 0]
        monkeypatch.setattr(
            Issuance, "workload", property(lambda _: Workload(0, 0, 0, unsaved=unsaved.pop(0), most=1))
        )
        with running(configuration(folder)) as server:
            client, challenge = server.addresses
            server.retire(Clock().deadline(60))
            assert not is_open(client)
            assert is_open(challenge)
            assert unsaved == []

    def test_challenges_are_answered_to_the_end(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """While running issuances end, clients are not taken any more, but the CA still is."""
        seen: list[list[bool]] = []

        def close(_: Issuance, deadline: Deadline) -> None:
            seen.append([is_open(address) for address in addresses])

        with running(configuration(folder)) as server:
            addresses = server.addresses
            monkeypatch.setattr(Issuance, "close", close)
        assert seen[0] == [False, True]


def hurried(event: threading.Event, seconds: float) -> bool:
    """Wait as a clock does, but not for the next upkeep."""
    return event.wait(0.001 if seconds >= UPKEEP_SECONDS else seconds)


class TestUpkeep:
    """What is done from time to time, whatever happens to one try, and how it shows when it is not."""

    @pytest.mark.parametrize(
        "error",
        [
            StorageUnavailable("disk full"),
            OSError(errno.EROFS, "Read-only file system"),
            ZeroDivisionError("a bug"),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("work", ["sweep", "save_kept"])
    def test_a_failed_task_is_tried_again(
        self,
        folder: Path,
        issuer: type[Issuer],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        error: Exception,
        work: str,
    ) -> None:
        """After an error the same is tried again, the log tells of it once, and the server is healthy."""
        tries, done = iter(range(3)), threading.Event()

        def fail(*_: object) -> None:
            if next(tries, None) is None:
                done.set()
                return
            raise error

        monkeypatch.setattr(issuer if work == "sweep" else Issuance, work, fail)
        with running(configuration(folder), Clock(wait=hurried)) as server:
            assert done.wait(30)
            assert server.is_healthy()
        assert [record.levelname in {"WARNING", "ERROR"} for record in caplog.records] == [True]

    def test_a_hanging_task_does_not_delay_the_others(
        self, folder: Path, issuer: type[Issuer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While proofs are withdrawn from a DNS server that does not answer, chains are stored."""
        go_on, stored = threading.Event(), threading.Event()
        monkeypatch.setattr(issuer, "sweep", lambda *_: go_on.wait(30))
        monkeypatch.setattr(Issuance, "save_kept", lambda _: stored.set())
        with running(configuration(folder)):
            assert stored.wait(30)
            go_on.set()

    @pytest.mark.parametrize("work", ["sweep", "save_kept"])
    def test_a_hanging_thread_makes_the_server_unhealthy(
        self,
        folder: Path,
        issuer: type[Issuer],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        work: str,
    ) -> None:
        """A server with a thread that makes no progress for long is not healthy, and says which."""
        now, reached, go_on = [0.0], threading.Event(), threading.Event()

        def hang(*_: object) -> None:
            reached.set()
            assert go_on.wait(30)

        monkeypatch.setattr(issuer if work == "sweep" else Issuance, work, hang)
        name = f"acmems-{work.partition('_')[0]}"
        with running(configuration(folder), Clock(monotonic=lambda: now[0])) as server:
            assert reached.wait(30)
            assert server.is_healthy()
            now[0] += 3600
            # A thread that was at something then seems to hang as well, until it is done.
            wait_until(lambda: server.snapshot().unhealthy == [name], "the others are done")
            assert not server.is_healthy()
            go_on.set()
        assert caplog.messages == [f"ended or hanging: {name}"]

    def test_a_long_sweep_that_gets_on(
        self, folder: Path, issuer: type[Issuer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A sweep may take hours as long as it makes progress."""
        now, healthy, done = [0.0], [], threading.Event()

        def sweep(_: Issuer, validators: object, on_progress: Callable[[], None]) -> None:
            for _step in range(5):
                now[0] += 1000
                on_progress()
                healthy.append(server._upkeep._sweeping.is_healthy())
            done.set()

        monkeypatch.setattr(issuer, "sweep", sweep)
        server = servers.Server(configuration(folder), Clock(monotonic=lambda: now[0]))
        server.start()
        assert done.wait(30)
        server.stop()
        assert healthy == [True] * 5

    def test_a_thread_that_ended_shows(
        self, folder: Path, issuer: type[Issuer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server without one of its threads is not healthy."""
        with running(configuration(folder)) as server:
            server._upkeep._saving.close()
            server._upkeep._saving._thread.join(30)
            assert not server.is_healthy()


class Systemd:
    """In the place of systemd: sends a signal as soon as the server is ready."""

    number = signal.SIGTERM
    told: list[str]

    def ready(self, status: str) -> None:
        self.told.append(status)

    def watch(self, healthy: Callable[[], bool]) -> None:
        assert healthy()
        signal.raise_signal(self.number)

    def stopping(self) -> None:
        self.told.append("stopping")

    def close(self) -> None:
        self.told.append("closed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(
    folder: Path, issuer: type[Issuer], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """SIGTERM and SIGINT stop a server in order; systemd hears of it, and handlers are as they were."""
    monkeypatch.setattr(Systemd, "told", [], raising=False)
    monkeypatch.setattr(Systemd, "number", number)
    monkeypatch.setattr(process, "Notifier", Systemd)
    before = signal.getsignal(number)
    process.run(configuration(folder))
    assert Systemd.told[0].startswith("listening on mgmt 127.0.0.1:")
    assert Systemd.told[1] == "stopping"
    assert issuer.told[-1] == "close"
    assert signal.getsignal(number) is before
