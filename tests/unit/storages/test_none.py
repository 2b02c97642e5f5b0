"""A storage that keeps nothing."""

from __future__ import annotations

from tests.chains import make_chain, make_request

from acmems.storages import IssuerIdentity, NoStorage

ORIGIN = IssuerIdentity("https://ca.example.org/directory")


def test_a_stored_chain_is_not_found() -> None:
    """What is stored is not found, and nothing is ever wrong with it."""
    storage, request = NoStorage("none"), make_request()
    storage.check()
    storage.store(request, make_chain(request), ORIGIN)
    assert storage.find(request, ORIGIN) is None
    assert list(storage.self_check()) == []
