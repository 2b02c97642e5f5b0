"""Answers with chains: what a client may keep, and for how long."""

from __future__ import annotations

import datetime
from email.message import Message

from tests.chains import make_chain, make_request

from acmems.frontends.delivery import chain_response
from acmems.issuing.renewal.times import RenewalOutlook
from acmems.net.http import HttpResponse
from acmems.x509.chain import Chain

NOW = datetime.datetime.now(datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def response(chain: Chain, headers: Message | None = None) -> HttpResponse:
    return chain_response(chain, RenewalOutlook(NOW + 3 * HOUR, NOW + HOUR), NOW, headers or Message())


def test_until_when_asking_is_useless() -> None:
    """It is told with the chain and without it, in whole seconds."""
    chain = make_chain(make_request())
    tagged = Message()
    tagged["If-None-Match"] = response(chain).headers["ETag"]
    for each in (response(chain), response(chain, tagged)):
        assert each.headers["Cache-Control"] == "private, max-age=3600"
        assert each.headers["Renew-After"] == "10800"


def test_a_chain_that_is_due_cannot_be_kept() -> None:
    """A chain that is delivered although it is due, because the CA is failing, is asked for again at once."""
    outlook = RenewalOutlook(NOW - HOUR, NOW - HOUR)
    headers = chain_response(make_chain(make_request()), outlook, NOW, Message()).headers
    assert (headers["Cache-Control"], headers["Renew-After"]) == ("private, max-age=0", "0")


def test_every_chain_has_a_tag_of_its_own() -> None:
    """The same chain always has the same strong tag; another one for the same names has another."""
    request = make_request()
    chains = [make_chain(request), make_chain(request)]
    tags = [response(chain).headers["ETag"] for chain in (*chains, *chains)]
    assert tags[:2] == tags[2:]
    assert tags[0] != tags[1]
    assert tags[0].startswith('"')


def test_several_headers_are_one_list() -> None:
    """A tag is found in whichever `If-None-Match` header it stands."""
    chain, headers = make_chain(make_request()), Message()
    headers["If-None-Match"] = '"other"'
    headers["If-None-Match"] = response(chain).headers["ETag"]
    answer = response(chain, headers)
    assert answer.status == 304
    head = answer.encoded(close=False)
    assert head.startswith(b"HTTP/1.1 304 Not Modified\r\n")
    assert b"Content-" not in head
