"""A server that goes by another configuration, or does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.peers import free_port, wait_until
from tests.running import TEXT, Issuer, configuration, is_open, running

from acmems.app import server as servers
from acmems.config import Configuration
from acmems.exceptions import AcmeException, StorageUnavailable
from acmems.storages import FileStorage


class TestReload:
    """Another configuration in the place of the one that runs."""

    def test_storages_that_are_new_are_tried(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A new storage that cannot be written refuses the reload; that of before is not asked."""
        checked: list[Path] = []

        def check(self: FileStorage) -> None:
            checked.append(self.directory)
            if self.directory.name == "other":
                raise StorageUnavailable("disk full")

        with running(configuration(folder)) as server:
            monkeypatch.setattr(FileStorage, "check", check)
            before = server.config
            server.reload(again(server, folder))
            assert checked == []
            running_now = server.config
            assert running_now is not before
            with pytest.raises(StorageUnavailable):
                server.reload(again(server, folder, ("/storage", "/other")))
            assert checked == [folder / "other"]
            assert server.config is running_now

    def test_the_account_is_asked_for_anew_where_it_has_changed(
        self, folder: Path, issuer: type[Issuer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The issuer gets the new options; what has failed before is tried again."""
        with running(configuration(folder)) as server:
            del issuer.told[:]
            text = ("accept-terms-of-service = yes", "accept-terms-of-service = yes\nemail = a@example.org")
            server.reload(again(server, folder, text))
            assert next(iter(server.accounts)).issuer.options.emails == ("a@example.org",)
            wait_until(lambda: issuer.told == ["refresh"], "the account is asked for")

    def test_a_log_that_cannot_be_opened(self, folder: Path) -> None:
        """Where the last step fails nothing has changed."""

        def fail() -> None:
            raise AcmeException("cannot log")

        with running(configuration(folder)) as server:
            before, addresses = server.config, server.addresses
            more = ("[mgmt]\n", f"[mgmt]\nlistener = 127.0.0.1:{free_port()}\n")
            with pytest.raises(AcmeException, match="cannot log"):
                server.reload(again(server, folder, more), fail)
            assert (server.config, server.addresses) == (before, addresses)
            server.reload(again(server, folder, more))
            assert len(server.addresses) == len(addresses) + 1

    def test_the_time_for_requests(self, folder: Path) -> None:
        """Limits that hold for requests are those of the new configuration at once."""
        with running(configuration(folder)) as server:
            server.reload(again(server, folder, ("[mgmt]\n", "[mgmt]\nrequest-timeout = 10\n")))
            assert server._signing.limits.request_seconds == 10
            assert server._generation.policy.seconds == 9.5

    def test_monitoring_comes_and_goes(self, folder: Path) -> None:
        """Who watches over the server may ask from a reload on, and no more after another one."""
        section = ("[mgmt]\n", "[metrics]\nlistener = 127.0.0.1:0\n[mgmt]\n")
        with running(configuration(folder)) as server:
            for _ in range(2):
                server.reload(again(server, folder, section))
                [address] = [each for each in server.addresses if each.startswith("metrics ")]
                assert is_open(address)
                server.reload(again(server, folder))
                wait_until(lambda address=address: not is_open(address), "its address is closed")  # type: ignore[misc] # mypy does not infer a lambda with a default
                assert server.is_healthy()

    def test_the_server_stays_healthy(self, folder: Path) -> None:
        """A server is healthy after reloads, and stops in order."""
        with running(configuration(folder)) as server:
            for _ in range(3):
                server.reload(again(server, folder))
                assert server.is_healthy()


def again(server: servers.Server, folder: Path, *changes: tuple[str, str]) -> Configuration:
    """Read the configuration anew, with some texts in the place of others."""
    text = TEXT.format(folder=folder)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return Configuration.from_text(text, previous=server.config)
