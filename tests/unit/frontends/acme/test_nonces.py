"""Nonces: each once, also after a restart and at another server; RFC 8555 section 6.5."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.acme_client import AcmeClient, flattened
from tests.acme_serving import serving, sqlite

from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.reception.nonces import REPLAYED, VALID, Nonces
from acmems.state.acme.nonces import NonceRecords, NonceUse
from acmems.state.engines.contract import Change
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.system.clock import SYSTEM, Clock


@dataclasses.dataclass
class Day:
    """A wall clock that is moved by hand."""

    now: datetime.datetime = datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC)

    @property
    def clock(self) -> Clock:
        return dataclasses.replace(SYSTEM, now=lambda: self.now)


def use(nonces: Nonces, nonce: str) -> NonceUse:
    """Use a nonce as a request does where one process uses the state."""
    found = nonces.examine(nonce)
    nonces.take(found)
    nonces.note(found)
    return found


class TestRules:
    def test_once(self, tmp_path: Path) -> None:
        """The second use is refused, by the words that clients look for."""
        with sqlite(tmp_path) as database:
            nonces = Nonces(NonceRecords(database))
            nonce = nonces.make()
            use(nonces, nonce)
            with pytest.raises(AcmeProblem, match=REPLAYED) as raised:
                nonces.examine(nonce)
            assert raised.value.kind == "badNonce"

    def test_at_once(self, tmp_path: Path) -> None:
        """Of two requests that are examined at the same moment, one takes the nonce."""
        with sqlite(tmp_path) as database:
            nonces = Nonces(NonceRecords(database))
            one, other = [nonces.examine(nonce) for nonce in [nonces.make()] * 2]
            nonces.take(one)
            with pytest.raises(AcmeProblem):
                nonces.take(other)

    def test_time(self, tmp_path: Path) -> None:
        """A nonce is taken for half an hour, and one from a clock that is far ahead not yet."""
        day = Day()
        with sqlite(tmp_path) as database:
            nonces = Nonces(NonceRecords(database), day.clock)
            nonce = nonces.make()
            day.now += VALID - datetime.timedelta(seconds=1)
            nonces.examine(nonce)
            day.now += datetime.timedelta(seconds=1)
            with pytest.raises(AcmeProblem):
                nonces.examine(nonce)
            day.now -= VALID + datetime.timedelta(seconds=121)
            with pytest.raises(AcmeProblem):
                nonces.examine(nonce)

    @pytest.mark.parametrize("nonce", [None, "", "abc", "A" * 40, "A" * 41, "=" * 40, "é" * 40, "A" * 4000])
    def test_of_somebody_else(self, tmp_path: Path, nonce: str | None) -> None:
        """What no server with this state has made is refused."""
        with sqlite(tmp_path) as database:
            nonces = Nonces(NonceRecords(database))
            with pytest.raises(AcmeProblem):
                nonces.examine(nonce)
            made = nonces.make()
            for place in (0, 10, 39):
                other = "A" if made[place] != "A" else "B"
                with pytest.raises(AcmeProblem):
                    nonces.examine(made[:place] + other + made[place + 1 :])

    def test_memory(self, tmp_path: Path) -> None:
        """What was used is remembered for as long as it would be taken, and not for ever."""
        day = Day()
        with sqlite(tmp_path) as database:
            nonces = Nonces(NonceRecords(database), day.clock)
            for _ in range(50):
                kept = [nonces.make() for _ in range(4)]
                for nonce in kept:
                    use(nonces, nonce)
                day.now += VALID / 4
                for nonce in kept:
                    with pytest.raises(AcmeProblem):
                        nonces.examine(nonce)
            assert len(nonces._newer) + len(nonces._older) < 50
            nonces.forget()
            database.flush()
            day.now += 10 * VALID
            nonces.forget()
            database.write(lambda _: None).result()
            assert NonceRecords(database).used(0) == []

    @pytest.mark.threat("ACME clients", "nonces without end")
    def test_more_than_memory_has_room_for(self, tmp_path: Path) -> None:
        """None is taken twice: those of a time whose used ones are forgotten are not taken at all."""
        day = Day()
        with sqlite(tmp_path) as database:
            nonces = Nonces(NonceRecords(database), day.clock, most_used=4)
            made: list[str] = []
            for _ in range(40):
                day.now += datetime.timedelta(seconds=1)
                made.append(nonces.make())
                use(nonces, nonces.make())
                use(nonces, made[-1])
                assert len(nonces._newer) + len(nonces._older) <= 8
                for nonce in made:
                    with pytest.raises(AcmeProblem):
                        nonces.examine(nonce)


class TestRestart:
    def test_before_a_restart(self, tmp_path: Path) -> None:
        """A nonce that was not used is good afterwards, and one that was used is not."""
        with sqlite(tmp_path) as database:
            nonces = Nonces(NonceRecords(database))
            used, unused = nonces.make(), nonces.make()
            use(nonces, used)
        with sqlite(tmp_path) as database:
            nonces = Nonces(NonceRecords(database))
            nonces.examine(unused)
            with pytest.raises(AcmeProblem):
                nonces.examine(used)

    def test_no_change_outlives_its_nonce(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whenever a change is in the database, so is the nonce of its request."""
        path = tmp_path / "state.sqlite"
        database = SqliteDatabase.open(path)
        rows: list[int] = []
        transact = database._commits._transact

        def watched(changes: Sequence[Change[Any]]) -> list[Any]:
            rows.append(len(changes))
            return transact(changes)

        monkeypatch.setattr(database._commits, "_transact", watched)
        try:
            with serving(database) as acme, acme.client() as client:
                client.register()
                assert client.kid
                rows.clear()
                assert client.post(client.kid, {"contact": []}).status == 200
                assert rows == [2]  # the nonce and the contacts, in one transaction
                rows.clear()
                for _ in range(5):
                    assert client.post(client.kid).status == 200
                assert rows == []
        finally:
            database.close()


def replay(client: AcmeClient, other: AcmeClient) -> tuple[int, str]:
    """Send one request through two clients; return the second answer."""
    assert client.kid
    body = flattened(client.key, client.header(client.kid), {"contact": []})
    assert client.send(client.kid, body).status == 200
    answer = other.send(client.kid, body)
    return answer.status, answer.problem


@pytest.mark.threat("ACME clients", "a nonce that was used")
class TestReplays:
    def test_at_the_same_server(self, tmp_path: Path) -> None:
        """A request that is sent again is refused, and the answer has a nonce that is good."""
        with sqlite(tmp_path) as database, serving(database) as acme, acme.client() as client:
            client.register()
            assert replay(client, client) == (400, "badNonce")
            assert client.kid
            assert client.post(client.kid, nonce=client.nonces[-1]).status == 200

    def test_a_request_without_a_nonce(self, tmp_path: Path) -> None:
        """It is badNonce as well, so that clients try again with one."""
        with sqlite(tmp_path) as database, serving(database) as acme, acme.client() as client:
            client.register()
            assert client.kid
            assert client.post(client.kid, nonce=None).problem == "badNonce"
