"""Answers with chains: what a client may keep, and for how long."""

from __future__ import annotations

import datetime
from email.message import Message
from pathlib import Path

import pytest
from tests.chains import make_chain, make_request

from acmems.frontends.sign import chain_response
from acmems.storages import FileStorage, NoStorage

DAY = 86400


def age(days: int, renew_within: datetime.timedelta | None = None) -> int:
    """Return the `max-age` of a chain of 90 days that expires in so many."""
    storage = FileStorage("file", Path("unused"), renew_within) if renew_within else NoStorage("none")
    chain, now = make_chain(make_request(), days), datetime.datetime.now(datetime.UTC)
    privacy, _, seconds = (
        chain_response(chain, storage, now, Message()).headers["Cache-Control"].partition(", max-age=")
    )
    assert privacy == "private"
    return int(seconds)


def test_a_chain_can_be_kept_until_its_renewal_is_due() -> None:
    """Asking again is useless until a third of the lifetime is left, or what the storage says instead."""
    assert age(90) == pytest.approx(60 * DAY, abs=60)
    assert age(31) == pytest.approx(1 * DAY, abs=60)
    assert age(31, datetime.timedelta(days=10)) == pytest.approx(21 * DAY, abs=60)


def test_a_chain_that_is_due_cannot_be_kept() -> None:
    """A chain that is delivered although it is due, because the CA is failing, is asked for again at once."""
    assert age(29) == 0


def test_every_chain_has_a_tag_of_its_own() -> None:
    """The same chain always has the same strong tag; another one for the same names has another."""
    request, now, storage = make_request(), datetime.datetime.now(datetime.UTC), NoStorage("none")
    chains = [make_chain(request), make_chain(request)]
    tags = [chain_response(chain, storage, now, Message()).headers["ETag"] for chain in (*chains, *chains)]
    assert tags[:2] == tags[2:]
    assert tags[0] != tags[1]
    assert tags[0].startswith('"')


def test_several_headers_are_one_list() -> None:
    """A tag is found in whichever `If-None-Match` header it stands."""
    chain, now, storage = make_chain(make_request()), datetime.datetime.now(datetime.UTC), NoStorage("none")
    headers = Message()
    headers["If-None-Match"] = '"other"'
    headers["If-None-Match"] = chain_response(chain, storage, now, Message()).headers["ETag"]
    response = chain_response(chain, storage, now, headers)
    assert response.status == 304
    head = response.encoded(close=False)
    assert head.startswith(b"HTTP/1.1 304 Not Modified\r\n")
    assert b"Content-" not in head
