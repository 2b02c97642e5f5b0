"""A disk that fails under a running server: no certificate is wasted, and none is lost."""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import FINALIZE, NEW_ORDER
from tests.peers import Acmems, Pebble, Settings, curl_sign, make_key_and_csr, names_of, wait_until

NAME = "disk.example.org"


@pytest.fixture
def proxy(pebble: Pebble) -> Iterator[FaultProxy]:
    """A proxy before the CA that sees what reaches it."""
    with FaultProxy(pebble) as running:
        yield running


@pytest.fixture
def acmems(proxy: FaultProxy, settings: Settings) -> Iterator[Acmems]:
    """A server that keeps chains in a folder."""
    with Acmems(proxy.before(settings)) as running:
        yield running


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    """A signing request for one name."""
    return make_key_and_csr(tmp_path, [NAME])[1]


@pytest.fixture
def storage(settings: Settings) -> Path:
    """The folder in which chains are kept."""
    return settings.folder / "storage"


Broken = Callable[[Acmems, Path], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def missing(acmems: Acmems, storage: Path) -> Iterator[None]:
    """Take the storage away, as when its disk is not mounted."""
    away = storage.rename(storage.with_name("away"))
    yield
    away.rename(storage)


@contextlib.contextmanager
def in_the_way(acmems: Acmems, storage: Path) -> Iterator[None]:
    """Put a file where the storage was."""
    with missing(acmems, storage):
        storage.write_bytes(b"")
        yield
        storage.unlink()


@contextlib.contextmanager
def full(acmems: Acmems, storage: Path) -> Iterator[None]:
    """Let the kernel refuse to the server what makes a file larger than 60 KiB."""
    pid = acmems.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (60 * 1024, limits[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@pytest.mark.threat("disk", "a storage that cannot be written")
@pytest.mark.parametrize("broken", [missing, in_the_way, full])
def test_an_unwritable_storage_is_503_before_any_order(
    proxy: FaultProxy, acmems: Acmems, csr: Path, storage: Path, broken: Broken
) -> None:
    """While nothing can be stored the answer is 503, and no order reaches the CA; then all is well again."""
    with broken(acmems, storage):
        reply = curl_sign(acmems.sign_url, csr)
        assert reply.status == 503
        assert int(reply.headers["Retry-After"]) >= 1
        assert str(storage) not in reply.text
        assert str(storage) in acmems.log
    assert proxy.count(path=NEW_ORDER) == 0
    assert curl_sign(acmems.sign_url, csr).status == 200
    assert proxy.count(path=NEW_ORDER) == 1


@pytest.mark.threat("disk", "a disk that is full")
def test_a_certificate_that_cannot_be_kept_is_not_lost(
    proxy: FaultProxy, acmems: Acmems, csr: Path, storage: Path
) -> None:
    """A disk that fails after the order costs nobody a certificate: it is sent, and stored later."""
    go = threading.Event()
    proxy.when(path=FINALIZE).stall(until=go)
    with ThreadPoolExecutor(1) as client:
        asked = client.submit(curl_sign, acmems.sign_url, csr)
        wait_until(lambda: proxy.count(path=FINALIZE) == 1, "the order is finalized")
        with in_the_way(acmems, storage):
            go.set()
            first = asked.result()
            assert first.status == 200
            assert names_of(first.body) == {NAME}
            told, *_ = [line for line in acmems.log.splitlines() if " failed " in line]
            assert " ERROR " in told
            assert " stage=store " in told
            assert "storing is tried again" in told
            assert curl_sign(acmems.sign_url, csr).body == first.body
    acmems.restart()
    assert curl_sign(acmems.sign_url, csr).body == first.body
    assert proxy.count(path=NEW_ORDER) == 1


@pytest.mark.threat("disk", "something else in a chain's place")
@pytest.mark.parametrize("left", [0, 1000, -30])
def test_a_damaged_chain_is_replaced(
    proxy: FaultProxy, acmems: Acmems, csr: Path, storage: Path, left: int
) -> None:
    """A stored chain that was cut is moved aside, logged, and replaced by a new one."""
    first = curl_sign(acmems.sign_url, csr)
    stored = [path for path in storage.rglob("*.pem") if path.read_bytes() == first.body]
    assert len(stored) == 2
    for path in stored:
        path.write_bytes(first.body[:left])
    second, third = (curl_sign(acmems.sign_url, csr) for _ in range(2))
    assert (first.status, second.status, third.status) == (200, 200, 200)
    assert first.body != second.body == third.body
    for path in stored:
        assert path.read_bytes() == second.body
        assert path.with_name(f"{path.name}.damaged").read_bytes() == first.body[:left]
        assert f"path={path} " in acmems.log
    assert proxy.count(path=NEW_ORDER) == 2
