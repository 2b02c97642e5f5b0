"""The store of unused nonces."""

from __future__ import annotations

import pytest

from acmems.issuers.acme.session.nonces import NoncePool, well_formed


class TestNoncePool:
    def test_an_empty_pool_gives_nothing(self) -> None:
        """Without nonces, None says that one must be asked for."""
        assert NoncePool().take() is None

    def test_the_newest_is_taken_first(self) -> None:
        """The nonce that the CA will remember longest goes last."""
        pool = NoncePool()
        pool.put("old")
        pool.put("new")
        assert [pool.take(), pool.take(), pool.take()] == ["new", "old", None]

    def test_it_is_bounded(self) -> None:
        """Beyond its capacity a pool forgets its oldest nonces."""
        pool = NoncePool(capacity=2)
        for nonce in ("a", "b", "c"):
            pool.put(nonce)
        assert [pool.take(), pool.take(), pool.take()] == ["c", "b", None]

    def test_old_nonces_are_not_tried(self) -> None:
        """A nonce older than the limit is forgotten, and so are those older still."""
        time = 0.0
        pool = NoncePool(max_age=300, monotonic=lambda: time)
        pool.put("older")
        time = 10.0
        pool.put("old")
        time = 310.0
        assert pool.take() == "old"
        time = 310.1
        assert pool.take() is None
        assert len(pool) == 0

    def test_no_nonce_is_taken_twice(self) -> None:
        """However often nonces are put and taken, each is given out once."""
        pool = NoncePool(capacity=1000)
        taken = []
        for number in range(1000):
            pool.put(str(number))
            taken += [pool.take() for _ in range(number % 3)]
        taken += [pool.take() for _ in range(1200)]
        assert sorted(filter(None, taken)) == sorted(map(str, range(1000)))


class TestWellFormed:
    @pytest.mark.parametrize("header", ["a", "oFvnlFP1wIhRlYS2jTaXbA", "-_", "a" * 512])
    def test_base64url_is_a_nonce(self, header: str) -> None:
        """Nonces are base64url, whatever they mean to the CA (RFC 8555 section 6.5.1)."""
        assert well_formed(header) == header

    @pytest.mark.parametrize(
        "header", [None, "", "a b", "a=", "a+", "a/", 'a"', "a\n", "ä", "a, b", "a" * 513]
    )
    def test_anything_else_is_ignored(self, header: str | None) -> None:
        """A header that is not base64url must be ignored (RFC 8555 section 6.5.1)."""
        assert well_formed(header) is None
