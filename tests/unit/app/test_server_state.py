"""A server whose storage is in the state."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.chains import make_chain, make_request
from tests.running import TEXT, configuration, running

from acmems.app import server as servers
from acmems.config import Configuration
from acmems.exceptions import StateUnavailable
from acmems.storages import SqlStorage


def in_state(folder: Path, *, previous: Configuration | None = None) -> Configuration:
    """Return a configuration whose storage is in the state."""
    text = TEXT.format(folder=folder).replace(f"type = file\ndirectory = {folder}/storage", "type = sql")
    return Configuration.from_text(text, previous=previous)


def test_a_storage_in_the_state(folder: Path) -> None:
    """It can be written once the server has made it; the next server finds what it kept."""
    request = make_request()
    chain = make_chain(request)
    for is_later in (False, True):
        with running(in_state(folder)) as server:
            storage = server.config.storages["disk"]
            assert isinstance(storage, SqlStorage)
            found = storage.find(request, server.accounts.first.identity)
            assert found == (chain if is_later else None)
            storage.store(request, chain, server.accounts.first.identity)


def test_a_reload_brings_it(folder: Path) -> None:
    """A storage that was in a directory may be in the state after a reload."""
    with running(configuration(folder)) as server:
        server.reload(in_state(folder, previous=server.config))
        server.config.storages["disk"].check()


def test_another_server_uses_the_state(folder: Path) -> None:
    """One whose chains were kept there does not start, or reload; another one does, without a memory."""
    with running(configuration(folder)) as first:
        with pytest.raises(StateUnavailable, match=r"give this one a \[state\] of its own"):
            servers.Server(in_state(folder))
        with running(configuration(folder)) as second:
            before = second.config
            with pytest.raises(StateUnavailable, match="which storage 'disk' is kept in"):
                second.reload(in_state(folder, previous=before))
            assert second.config is before
        assert first.is_healthy()


def test_what_is_revoked_is_known_from_the_start(folder: Path) -> None:
    """Storages that know nothing of it never deliver it, also after a restart."""
    chain = make_chain(make_request())
    with running(in_state(folder)) as server:
        storage = server.config.storages["disk"]
        storage.store(make_request(), chain, server.accounts.first.identity)
        assert server._memory is not None
        server._memory.chains.revoking(chain.fingerprint, "keyCompromise").result(30)
    with running(configuration(folder)) as server:
        assert server._memory is not None
        assert server._memory.chains.is_revoked(chain.fingerprint)


def test_deliveries_are_written_when_it_stops(folder: Path) -> None:
    """What was counted in memory is not lost."""
    chain = make_chain(make_request())
    with running(in_state(folder)) as server:
        assert server._memory is not None
        storage, records = server.config.storages["disk"], server._memory.chains
        storage.store(make_request(), chain, server.accounts.first.identity)
        records.asked(chain.fingerprint, "192.0.2.1", chain.not_before)
    with running(in_state(folder)) as server:
        assert server._memory is not None
        assert [each.asked for each in server._memory.chains.find(chain.fingerprint)] == [1]
