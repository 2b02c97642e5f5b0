"""A storage in memory, for whoever configures none."""

from __future__ import annotations

from tests.chains import make_chain, make_request

from acmems.storages import IssuerIdentity, MemoryStorage

CA = IssuerIdentity("https://ca.example.org/directory")


def test_the_newest_chain_is_found() -> None:
    """What was stored last for the same names and key is found, and nothing is ever wrong with it."""
    storage, request = MemoryStorage("memory"), make_request()
    storage.check()
    assert storage.find(request, CA) is None
    for chain in (make_chain(request), make_chain(request)):
        storage.store(request, chain, CA)
        assert storage.find(request, CA) is chain
    assert list(storage.self_check()) == []


def test_only_the_same_is_found() -> None:
    """A chain is for its own key, and for its own CA and profile."""
    storage, request = MemoryStorage("memory"), make_request()
    storage.store(request, make_chain(request), CA)
    assert storage.find(make_request(), CA) is None
    assert storage.find(request, IssuerIdentity("https://other.example.org/directory")) is None
    assert storage.find(request, IssuerIdentity(CA.directory, "shortlived")) is None


def test_there_is_an_end_to_memory() -> None:
    """Beyond the limit, what was stored first is forgotten; a chain that was replaced is not the first."""
    storage, requests = MemoryStorage("memory", most=2), [make_request() for _ in range(3)]
    chains = [make_chain(request) for request in requests]
    storage.store_all(list(zip(requests, chains, strict=True))[:2], CA)
    storage.store(requests[0], chains[0], CA)
    storage.store(requests[2], chains[2], CA)
    assert [storage.find(request, CA) for request in requests] == [chains[0], None, chains[2]]


def test_there_is_an_end_to_long_chains() -> None:
    """Chains are counted by their size, too, whether they are new or replace another."""
    requests = [make_request() for _ in range(3)]
    chains = [make_chain(request) for request in requests]
    storage = MemoryStorage("memory", most_bytes=2 * max(len(chain.pem) for chain in chains))
    for request, chain in zip(requests, chains, strict=True):
        for _ in range(3):
            storage.store(request, chain, CA)
    assert [storage.find(request, CA) for request in requests] == [None, *chains[1:]]


def test_a_revoked_chain_is_forgotten() -> None:
    """What is revoked is found no longer, and its room is free again."""
    request, other = make_request(), make_request()
    chain, kept = make_chain(request), make_chain(other)
    storage = MemoryStorage("memory", most_bytes=len(chain.pem) + len(kept.pem) + 10)
    storage.store_all([(request, chain), (other, kept)], CA)
    assert storage.discard(chain.fingerprint) == 1
    assert storage.find(request, CA) is None
    storage.store(request, chain, CA)
    assert storage.find(other, CA) is kept
