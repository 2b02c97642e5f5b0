"""When certificates are due, as a look through the storages finds it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.chains import make_chain, make_request
from tests.monitoring import TEXT, Stand
from tests.peers import wait_until

from acmems.exceptions import StorageUnavailable
from acmems.frontends.metrics import survey as surveys
from acmems.frontends.metrics.survey import BlockCertificates, CertificateSurvey
from acmems.storages import FileStorage, IssuerIdentity
from acmems.x509.chain import Chain

CA = IssuerIdentity("https://ca.example.org/directory")
OTHER_CA = IssuerIdentity("https://staging.example.org/directory")


def storage(stand: Stand) -> FileStorage:
    found = stand.config.storages["disk"]
    assert isinstance(found, FileStorage)
    return found


def store(stand: Stand, *names: str, days: int = 90, issuer: IssuerIdentity = CA) -> Chain:
    """Store a chain for a new key that expires in so many days, of 90."""
    request = make_request(*names)
    chain = make_chain(request, days)
    storage(stand).store(request, chain, issuer)
    return chain


def look(stand: Stand) -> Mapping[str, BlockCertificates]:
    survey = CertificateSurvey(stand)
    survey.look()
    assert survey.ended == stand.moment.wall
    return survey.blocks


def states(stand: Stand) -> dict[str, dict[str, int]]:
    return by_state(look(stand))


def by_state(blocks: Mapping[str, BlockCertificates]) -> dict[str, dict[str, int]]:
    return {name: {str(state): n for state, n in block.states.items()} for name, block in blocks.items()}


class TestStates:
    @pytest.mark.parametrize(
        ("days", "state", "ratio"),
        [
            (90, "fresh", 0.0),
            (31, "fresh", 0.0),
            (29, "due", 1 / 30),
            (16, "due", 14 / 30),
            (14, "overdue", 16 / 30),
            (1, "overdue", 29 / 30),
            (-1, "expired", 31 / 30),
            (-29, "expired", 59 / 30),
        ],
    )
    def test_by_shares_of_the_lifetime(self, stand: Stand, days: int, state: str, ratio: float) -> None:
        """Of 90 days the last 30 are for the renewal: after half of them it is overdue."""
        store(stand, "a.web.example.org", days=days)
        block = look(stand)["web"]
        assert block.states == {state: 1}
        assert block.overdue == pytest.approx(ratio, abs=0.001)

    def test_a_machine_that_is_gone(self, stand: Stand) -> None:
        """A certificate that expired as long ago as its renewal was due before is not counted any more."""
        store(stand, "a.web.example.org", days=-31)
        block = look(stand)["web"]
        assert (block.states, block.overdue, block.first_end) == ({}, 0.0, None)

    def test_days_of_the_configuration(self, stand: Stand) -> None:
        """With `renew-within`, a renewal is due when that says."""
        stand.config = stand.configured(TEXT.replace("/disk\n", "/disk\nrenew-within = 10\n"))
        store(stand, "a.web.example.org", days=16)
        store(stand, "b.web.example.org", days=4)
        assert states(stand)["web"] == {"fresh": 1, "overdue": 1}

    def test_the_first_of_a_block(self, stand: Stand) -> None:
        """The block knows the first renewal and the first end of those that have not expired."""
        first = store(stand, "a.web.example.org", days=40)
        for number, days in enumerate((60, -1)):
            store(stand, f"{number}.web.example.org", days=days)
        block = look(stand)["web"]
        assert block.first_end == int(first.not_after.timestamp())
        assert block.first_due == int(first.renewal_time(None).timestamp())
        assert block.states == {"fresh": 2, "expired": 1}

    def test_time_passes(self, stand: Stand) -> None:
        """Each look judges by the time at which it ends."""
        survey = CertificateSurvey(stand)
        store(stand, "a.web.example.org")
        seen = []
        for _ in range(5):
            survey.look()
            seen.append(dict(survey.blocks["web"].states))
            stand.moment.pass_by(days=24)
        assert seen == [{"fresh": 1}, {"fresh": 1}, {"fresh": 1}, {"due": 1}, {"expired": 1}]


class TestBlocks:
    def test_the_first_block_that_grants_all_names(self, stand: Stand) -> None:
        """A chain counts once, for the first block that grants every name of it."""
        store(stand, "a.web.example.org")
        store(stand, "a.web.example.org", "mail.example.org")
        assert states(stand) == {"web": {"fresh": 1}, "all": {"fresh": 1}}

    def test_what_no_block_grants(self, stand: Stand) -> None:
        """What nobody can ask for is not counted, and a block without certificates shows that."""
        store(stand, "www.elsewhere.example")
        assert states(stand) == {"web": {}, "all": {}}

    def test_a_block_that_keeps_its_chains_elsewhere(self, stand: Stand) -> None:
        """A chain counts for a block that looks for it where it is; one that keeps none has no numbers."""
        text = TEXT.replace('[auth "web"]', '[auth "web"]\nstorage = none')
        stand.config = stand.configured(text)
        store(stand, "a.web.example.org")
        assert states(stand) == {"all": {"fresh": 1}}

    def test_other_blocks_than_before(self, stand: Stand) -> None:
        """Where the auth blocks are replaced, chains count for those that there are now."""
        survey = CertificateSurvey(stand)
        store(stand, "a.web.example.org")
        survey.look()
        stand.config = stand.configured(TEXT.replace("*.web.example.org", "*.mail.example.org"))
        survey.look()
        assert by_state(survey.blocks) == {"web": {}, "all": {"fresh": 1}}


class TestNewest:
    def test_a_machine_that_makes_a_new_key_each_time(self, stand: Stand) -> None:
        """Of the chains for the same names the newest counts, so that the others are not overdue."""
        for days in (-5, 20, 85):
            store(stand, "a.web.example.org", days=days)
        block = look(stand)["web"]
        assert (block.states, block.overdue) == ({"fresh": 1}, 0.0)

    def test_a_chain_of_another_ca(self, stand: Stand) -> None:
        """What a test CA has issued does not count beside what was issued after it."""
        store(stand, "a.web.example.org", days=3, issuer=OTHER_CA)
        store(stand, "a.web.example.org", days=80)
        assert states(stand)["web"] == {"fresh": 1}

    def test_what_an_older_version_has_left(self, stand: Stand) -> None:
        """Chains that only lie in the tree of 0.5 are counted, and replaced by newer ones in the index."""
        store(stand, "a.web.example.org", days=10)
        shutil.rmtree(stand.folder / "disk" / "identities")
        for description in (stand.folder / "disk").rglob("acmems.json"):
            description.unlink()
        assert states(stand)["web"] == {"overdue": 1}
        store(stand, "a.web.example.org", days=80)
        assert states(stand)["web"] == {"fresh": 1}


class Reads:
    """Counts what is read of a storage."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[str] = []
        real = FileStorage.read_entry

        def read(found: FileStorage, key: str) -> Chain | None:
            self.keys.append(key)
            return real(found, key)

        monkeypatch.setattr(FileStorage, "read_entry", read)


class TestCost:
    def test_each_chain_is_read_once(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """A look reads what is new or was replaced, and nothing that it has read before."""
        reads = Reads(monkeypatch)
        survey = CertificateSurvey(stand)
        request = make_request("a.web.example.org")
        storage(stand).store(request, make_chain(request, 20), CA)
        store(stand, "b.web.example.org")
        survey.look()
        survey.look()
        assert len(reads.keys) == 2
        storage(stand).store(request, make_chain(request, 90), CA)
        survey.look()
        assert len(reads.keys) == 3
        assert survey.blocks["web"].states == {"fresh": 2}

    def test_what_is_gone_is_forgotten(self, stand: Stand) -> None:
        """A chain that somebody has removed is not counted or remembered."""
        survey = CertificateSurvey(stand)
        store(stand, "a.web.example.org")
        survey.look()
        shutil.rmtree(stand.folder / "disk" / "identities")
        survey.look()
        assert survey.blocks["web"].states == {}
        assert survey._known == {}

    def test_it_rests(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """While a long look goes on, others have four fifths of the time, and it shows that it gets on."""
        many(stand, 100)
        stand.moment.is_hasty = True
        real = FileStorage.read_entry

        def read(found: FileStorage, key: str) -> Chain | None:
            stand.moment.pass_by(seconds=0.1)
            return real(found, key)

        monkeypatch.setattr(FileStorage, "read_entry", read)
        survey = CertificateSurvey(stand)
        worked = survey.look()
        assert worked == pytest.approx(10.0)
        assert stand.moment.rests == pytest.approx([4 * 3.2] * 3)

    def test_the_next_look(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a look that took long, the next one comes a hundred times as much later."""
        looks = []

        def look_for_long(survey: CertificateSurvey) -> float:
            looks.append(stand.moment.seconds)
            return 2.0

        monkeypatch.setattr(CertificateSurvey, "look", look_for_long)
        survey = CertificateSurvey(stand)
        for _ in range(30):
            survey._turn()
            stand.moment.pass_by(seconds=15)
        assert looks == [1000.0, 1210.0, 1420.0]

    def test_a_stop_ends_a_look(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """A look that is going on when the server stops ends at its next rest, and changes nothing."""
        many(stand, 100)
        reads = Reads(monkeypatch)
        survey = CertificateSurvey(stand)
        real = surveys._Pace.step

        def step(pace: surveys._Pace) -> bool:
            stand.moment.pass_by(seconds=0.1)
            survey.close()
            return real(pace)

        monkeypatch.setattr(surveys._Pace, "step", step)
        survey.look()
        assert len(reads.keys) == 32
        assert (survey.blocks, survey.ended) == ({}, None)


class TestDamage:
    def test_what_is_no_chain(self, stand: Stand) -> None:
        """Damaged files are neither counted nor changed, and read once."""
        store(stand, "a.web.example.org")
        index = stand.folder / "disk" / "identities"
        (index / f"{'0' * 64}.pem").write_bytes(b"no chain")
        (index / f"{'1' * 64}.pem").symlink_to("nowhere")
        (index / f"{'2' * 64}.pem").mkdir()
        (index / "something else").write_bytes(b"")
        before = written(index)
        assert states(stand)["web"] == {"fresh": 1}
        assert written(index) == before

    def test_a_disk_that_fails(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """A chain that cannot be read for now is read with the next look."""
        store(stand, "a.web.example.org")
        survey = CertificateSurvey(stand)

        def fail(found: FileStorage, key: str) -> Chain | None:
            raise StorageUnavailable("Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(FileStorage, "read_entry", fail)
            survey.look()
        assert survey.blocks["web"].states == {}
        survey.look()
        assert survey.blocks["web"].states == {"fresh": 1}

    def test_no_directory(self, stand: Stand) -> None:
        """A storage whose directory is gone has nothing to count; the trials of storages tell."""
        (stand.folder / "disk").rmdir()
        assert states(stand) == {"web": {}, "all": {}}


def test_the_thread_looks(stand: Stand) -> None:
    """Its thread looks as soon as it is started, and ends when it is told to."""
    store(stand, "a.web.example.org")
    survey = CertificateSurvey(stand)
    survey.thread.start()
    wait_until(lambda: survey.ended is not None, "it has looked")
    assert survey.blocks["web"].states == {"fresh": 1}
    survey.close()
    wait_until(lambda: not survey.thread.is_healthy(), "the thread has ended")


def written(folder: Path) -> dict[str, int]:
    """Return when each thing in a folder was last written."""
    return {path.name: path.lstat().st_mtime_ns for path in folder.iterdir()}


def many(stand: Stand, number: int) -> None:
    """Store many chains: copies of one, which is all that a look sees of them."""
    store(stand, "a.web.example.org")
    index = stand.folder / "disk" / "identities"
    [path] = index.iterdir()
    for each in range(number - 1):
        Path(shutil.copy(path, index / f"{each:064x}.pem"))
