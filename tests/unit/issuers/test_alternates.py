"""Which of the chains that a CA offers is taken, and that none is lost for it."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.chains import CA_KEY
from tests.fake_ca import CA, CERTIFICATE, FakeSession, Time, headers_of

from acmems.exceptions import CAUnavailable
from acmems.issuers.acme.certificates.alternates import MOST_ALTERNATES, preferred
from acmems.issuers.acme.session import Response
from acmems.x509.chain import OfferedChain

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def signed(subject: str, issuer: str) -> bytes:
    above, below = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)] if text else [])
        for text in (issuer, subject)
    )
    end = START + datetime.timedelta(days=90)
    builder = x509.CertificateBuilder(above, below, CA_KEY.public_key(), 1, START, end)
    return builder.sign(CA_KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


LEAF, OTHER = signed("", "R3"), signed("", "R3")
SHORT = LEAF + signed("R3", "Root X1")
LONG = SHORT + signed("Root X1", "Root X3")
NEW = LEAF + signed("R3", "Root YE")
FURTHER = f"{CA}/certificate/1/"


def choose(common_name: str | None, default: bytes, others: Sequence[object]) -> tuple[bytes, FakeSession]:
    """Return the chain that is taken, and the session that was asked for others."""
    offered, session = offer(common_name, default, others)
    return offered.pem, session


def offer(
    common_name: str | None, default: bytes, others: Sequence[object]
) -> tuple[OfferedChain, FakeSession]:
    """Return what is taken and what there is beside, and the session that was asked for others."""
    time, urls = Time(), [f"{FURTHER}{number}" for number in range(1, len(others) + 1)]
    session = FakeSession({url: [other] for url, other in zip(urls, others, strict=True)})
    links = [
        (b"Link", f'</certificate/1/{number + 1}>;rel="alternate"'.encode()) for number in range(len(urls))
    ]
    headers = headers_of({})
    for link in links:
        headers.add(*link)
    response = Response(200, headers, default, CERTIFICATE)
    return time.loop().run(preferred(session, response, common_name, time.within(60))), session


class TestChoice:
    @pytest.mark.parametrize(
        ("common_name", "expected"),
        [
            pytest.param("Root X3", LONG, id="the default"),
            pytest.param("Root X1", SHORT, id="ends there, though the default passes it"),
            pytest.param("Root YE", NEW, id="the last"),
            pytest.param("R3", LONG, id="an issuer on the way"),
            pytest.param("Root", LONG, id="none"),
            pytest.param(None, LONG, id="nothing preferred"),
        ],
    )
    def test_by_common_name(self, common_name: str | None, expected: bytes) -> None:
        """The chain that ends in that root is taken, else one with such an issuer, else the first."""
        assert choose(common_name, LONG, [SHORT, NEW])[0] == expected

    @pytest.mark.parametrize(
        ("common_name", "asked"), [(None, 0), ("Root X3", 0), ("Root X1", 1), ("Root YE", 2), ("Root", 2)]
    )
    def test_no_more_is_asked_than_needed(self, common_name: str | None, asked: int) -> None:
        """Further chains are fetched only until the right one is there."""
        assert len(choose(common_name, LONG, [SHORT, NEW])[1].posts) == asked

    def test_endless_alternates(self) -> None:
        """A CA that offers chains without end is not asked for all of them."""
        chain, session = choose("Root YE", LONG, list(itertools.repeat(SHORT, 100)))
        assert (chain, len(session.posts)) == (LONG, MOST_ALTERNATES)


class TestOthers:
    """Where the chains are that were not taken."""

    @pytest.mark.parametrize(
        ("common_name", "left"),
        [
            pytest.param(None, [f"{FURTHER}1", f"{FURTHER}2"], id="nothing preferred"),
            pytest.param("Root X3", [f"{FURTHER}1", f"{FURTHER}2"], id="the default"),
            pytest.param("Root X1", [CERTIFICATE, f"{FURTHER}2"], id="another one"),
            pytest.param("Root YE", [CERTIFICATE, f"{FURTHER}1"], id="the last"),
            pytest.param("Root", [f"{FURTHER}1", f"{FURTHER}2"], id="none"),
        ],
    )
    def test_all_but_the_one_that_is_taken(self, common_name: str | None, left: list[str]) -> None:
        """The default one first."""
        assert list(offer(common_name, LONG, [SHORT, NEW])[0].alternates) == left

    def test_no_more_than_are_looked_at(self) -> None:
        """However many the CA offers, and each once."""
        found = offer(None, LONG, list(itertools.repeat(SHORT, 100)))[0].alternates
        assert len(found) == MOST_ALTERNATES

    @pytest.mark.parametrize(
        "link",
        ["/certificate/1", CERTIFICATE, "/" + "x" * 3000, "/a https://b.example.org/c"],
        ids=["the chain itself", "by its whole URL", "a long URL", "two URLs"],
    )
    def test_links_that_lead_nowhere(self, link: str) -> None:
        """They are left out."""
        response = Response(200, headers_of({"Link": f'<{link}>;rel="alternate"'}), LONG, CERTIFICATE)
        steps = preferred(FakeSession({}), response, None, Time().within(60))
        assert Time().loop().run(steps).alternates == ()


class TestFailures:
    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(CAUnavailable("down"), id="not to be had"),
            pytest.param(b"<html>", id="no chain"),
            pytest.param(OTHER + signed("R3", "Root YE"), id="another certificate"),
        ],
    )
    def test_the_default_is_not_lost(self, other: object, caplog: pytest.LogCaptureFixture) -> None:
        """Whatever is wrong with another chain is logged, and the next one is tried."""
        assert choose("Root YE", LONG, [other])[0] == LONG
        assert choose("Root YE", LONG, [other, NEW])[0] == NEW
        assert "alternate chain" in caplog.text

    def test_the_log_names_what_there_is(self, caplog: pytest.LogCaptureFixture) -> None:
        """Where no chain fits, the operator is told which there are."""
        choose("Root", LONG, [SHORT])
        assert "no chain to 'Root', its first is used; there are: Root X3, Root X1" in caplog.text

    def test_a_default_that_is_no_chain(self) -> None:
        """A default that cannot be read is returned as it is, for whoever reads it to refuse."""
        assert choose("Root YE", b"<html>", [NEW])[0] == b"<html>"
