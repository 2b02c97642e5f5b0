"""What a CA says of when a certificate should be renewed (RFC 9773)."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.chains import CA_KEY
from tests.fake_ca import CA, FakeSession, Said, Time

from acmems.exceptions import CAProtocolError
from acmems.issuers.acme.certificates.renewal_info import RenewalInfo, certificate_id, fetch

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NOW = datetime.datetime(2026, 2, 1, tzinfo=datetime.UTC)
KEY_IDENTIFIER = bytes.fromhex("69885b6b87464041e1b37b847ba0ae2cde01c8d4")
WINDOW = {"start": "2026-03-01T00:00:00Z", "end": "2026-03-03T00:00:00+00:00"}


def certificate(serial: int, authority: x509.AuthorityKeyIdentifier | None) -> bytes:
    end = START + datetime.timedelta(days=90)
    builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), CA_KEY.public_key(), serial, START, end)
    if authority is not None:
        builder = builder.add_extension(authority, False)
    return builder.sign(CA_KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


class TestCertificateId:
    @pytest.mark.parametrize(
        ("serial", "identifier"),
        [
            pytest.param(0x87654321, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE", id="the example of the RFC"),
            pytest.param(0x7F, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.fw", id="seven bits"),
            pytest.param(0x80, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIA", id="eight bits"),
        ],
    )
    def test_authority_and_serial(self, serial: int, identifier: str) -> None:
        """The contents of both in DER, a leading zero octet included."""
        authority = x509.AuthorityKeyIdentifier(KEY_IDENTIFIER, None, None)
        assert certificate_id(certificate(serial, authority)) == identifier

    def test_nothing_that_names_it(self) -> None:
        """Private CAs leave the authority out, or its key identifier."""
        assert certificate_id(certificate(1, None)) is None
        name = x509.DirectoryName(x509.Name([]))
        assert certificate_id(certificate(1, x509.AuthorityKeyIdentifier(None, [name], 5))) is None


def ask(answer: dict[str, object], headers: dict[str, str] | None = None) -> RenewalInfo | None:
    """Return what is understood of an answer."""
    time, url = Time(), f"{CA}/renewal-info"
    session = FakeSession({f"{url}/abc.def": [Said(answer, headers or {})]})
    session.resources["renewalInfo"] = url
    return time.loop().run(fetch(session, "abc.def", time.within(60), NOW))


class TestFetch:
    def test_a_window(self) -> None:
        """The window, the page that explains it, and when to ask again."""
        info = ask(
            {"suggestedWindow": WINDOW, "explanationURL": "https://ca.example/why\r\nx"},
            {"Retry-After": "21600"},
        )
        assert info == RenewalInfo(
            datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC),
            datetime.datetime(2026, 3, 3, tzinfo=datetime.UTC),
            "https://ca.example/why x",
            21600.0,
        )
        assert info.said == (1772323200, 1772496000, "https://ca.example/why x")

    def test_small_letters(self) -> None:
        """RFC 3339 allows them."""
        info = ask({"suggestedWindow": {name: time.lower() for name, time in WINDOW.items()}})
        assert info is not None
        assert info.said == (1772323200, 1772496000, None)

    def test_a_pause_of_years(self) -> None:
        """It is a day."""
        info = ask({"suggestedWindow": WINDOW}, {"Retry-After": "999999999"})
        assert info is not None
        assert info.retry_after == 86400

    @pytest.mark.parametrize(
        "window",
        [
            pytest.param(None, id="none"),
            pytest.param([], id="a list"),
            pytest.param({"start": "2026-03-01T00:00:00Z"}, id="no end"),
            pytest.param({"start": "soon", "end": "2026-03-03T00:00:00Z"}, id="no time"),
            pytest.param({"start": "2026-03-01T00:00:00", "end": "2026-03-03T00:00:00Z"}, id="no zone"),
            pytest.param({"start": WINDOW["end"], "end": WINDOW["start"]}, id="ends before it begins"),
            pytest.param({"start": WINDOW["end"], "end": WINDOW["end"]}, id="of no length"),
            pytest.param({**WINDOW, "start": "0001-01-01T00:00:00+14:00"}, id="before all time in UTC"),
            pytest.param({**WINDOW, "end": "9999-12-31T23:59:59-14:00"}, id="after all time in UTC"),
        ],
    )
    def test_what_is_no_window(self, window: object) -> None:
        """A CA that sends one is not understood, which stops nothing else."""
        with pytest.raises(CAProtocolError, match="no window"):
            ask({"suggestedWindow": window})

    def test_a_ca_without_it(self) -> None:
        """It is not asked."""
        time, session = Time(), FakeSession({})
        assert time.loop().run(fetch(session, "abc.def", time.within(60), NOW)) is None
