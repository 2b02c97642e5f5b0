"""What front ends read from files, as it changes while they serve."""

from __future__ import annotations

import datetime
import itertools
import os
from pathlib import Path

import pytest
from tests.peers.ca import make_tls_certificate

from acmems.app.watched_files import WatchedFiles
from acmems.config import Configuration
from acmems.exceptions import ConfigurationError
from acmems.system.clock import Clock

TEXT = """
[account]
dir = {folder}
[mgmt]
tls-listener = 127.0.0.1:0
tls-certificate = {folder}/chain
tls-key = {folder}/key
[auth "tokens"]
token-file = {folder}/tokens
domain = **
"""


class Folder:
    """The files of a configuration, and what looks after them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.times = itertools.count(1)
        self.now = datetime.datetime.now(datetime.UTC)
        self.renew()
        (folder / "tokens").write_text("5f" * 20)
        self.config = Configuration.from_text(TEXT.format(folder=folder))
        self.files = WatchedFiles(Clock(lambda: 0.0, lambda: self.now, lambda event, _: event.wait()))

    def renew(self) -> None:
        make_tls_certificate(self.path / "chain", self.path / "key")

    def write(self, name: str, data: bytes) -> None:
        (self.path / name).write_bytes(data)
        os.utime(self.path / name, ns=(1, next(self.times)))  # another, however fast the test is


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A chain, its key, and a token."""
    return Folder(tmp_path)


def test_a_pair_is_taken_when_it_fits(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """While key and chain do not belong together, what was shown before is shown; told once."""
    prepared = folder.files.prepare(folder.config)
    folder.files.commit(prepared, folder.config.auth)
    tls = prepared["mgmt"].tls
    first = tls.context
    folder.files.look()
    assert tls.context is first
    old = (folder.path / "key").read_bytes()
    folder.renew()
    new = (folder.path / "key").read_bytes()
    folder.write("key", old)
    for _ in range(3):
        folder.files.look()
        assert tls.context is first
    assert caplog.text.count("the certificate of before is still shown") == 1
    folder.write("key", new)
    folder.files.look()
    assert tls.context is not first
    (folder.path / "chain").unlink()
    second = tls.context
    folder.files.look()
    assert tls.context is second
    assert folder.files.expiries == []
    folder.files.close()


def test_tokens_are_read_anew(folder: Folder) -> None:
    """They are there from the start, and change with their file."""
    folder.files.commit(folder.files.prepare(folder.config), folder.config.auth)
    (method,) = folder.config.auth.blocks[0].token_methods
    assert [each.reveal() for each in method.tokens] == ["5f" * 20]
    folder.write("tokens", b"6f" * 20)
    folder.files.look()
    assert [each.reveal() for each in method.tokens] == ["6f" * 20]
    folder.files.close()


@pytest.mark.parametrize("name", ["chain", "key", "tokens"])
def test_what_is_missing_stops_a_start(folder: Folder, name: str) -> None:
    """Nothing is served by halves: a file that cannot be read is an error at the line that names it."""
    (folder.path / name).unlink()
    with pytest.raises(ConfigurationError, match=r"<text>:\d+: t.*cannot be read"):
        folder.files.prepare(folder.config)


def test_an_end_is_told_once_a_day(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate that has expired is a line in the log, and again a day later."""
    folder.files.commit(folder.files.prepare(folder.config), folder.config.auth)
    folder.now += datetime.timedelta(days=2)
    for told in (1, 1, 2):
        folder.files.look()
        assert caplog.text.count("[mgmt] shows has expired") == told
        if told == 1:
            folder.now += datetime.timedelta(hours=13)
    folder.files.close()
