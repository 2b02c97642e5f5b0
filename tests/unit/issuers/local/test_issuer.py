"""A local CA as an issuer: beside an account, its list of what is revoked, and another intermediate."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.chains import make_request
from tests.issuing import House
from tests.local_cas import WEEK, make_ca, permits
from tests.monitoring import Moment

from acmems.events import Bus
from acmems.exceptions import LocalCaUnusable, PayloadInvalid
from acmems.issuers.local.issuer import LocalIssuer
from acmems.issuers.local.options import LocalCaOptions
from acmems.issuers.local.profiles import RevokedCertificate
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.issuance import Issuance
from acmems.storages import IssuerIdentity, MemoryStorage
from acmems.system.clock import NEVER, SYSTEM
from acmems.x509 import chain
from acmems.x509.chain import Chain


class Office:
    """A local CA, and its clock."""

    def __init__(self, folder: Path) -> None:
        self.directory = make_ca(folder / "ca", "internal.example")
        self.moment = Moment()
        self.options = LocalCaOptions(
            "office", folder / "ca", "office", WEEK, permits("internal.example"), None
        )
        self.issuer = LocalIssuer(self.options, self.moment.clock())
        self.issuer.load()

    def ask(self) -> Chain:
        request = make_request("a.internal.example")
        return chain.parse(self.issuer.loop.run(self.issuer.obtain(request, (), NEVER, "identity")).pem)

    def published(self, *revoked: RevokedCertificate) -> tuple[int, list[int]]:
        """Return the number of the list, and the serial numbers in it."""
        self.issuer.publish(revoked)
        assert self.issuer.crl is not None
        read = x509.load_der_x509_crl(self.issuer.crl)
        number = read.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        assert read.is_signature_valid(self.issuer.authority.key.public_key())
        return number, [each.serial_number for each in read]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    with contextlib.closing(made.issuer):
        yield made


class TestRevoked:
    """The list of what is revoked."""

    def test_it_is_signed_when_something_changes(self, office: Office) -> None:
        """As long as nothing does, the same list is given; the number of each new one is greater."""
        first, empty = office.published()
        assert empty == []
        office.moment.pass_by(hours=11)
        assert office.published() == (first, [])
        revoked = RevokedCertificate(7, office.moment.wall, "superseded")
        second, entries = office.published(revoked)
        assert (second > first, entries) == (True, [7])

    def test_it_is_signed_in_time(self, office: Office) -> None:
        """Although nothing changes there is a newer one each half day, long before it ends."""
        first, _ = office.published()
        office.moment.pass_by(hours=12, seconds=1)
        assert office.published()[0] > first

    def test_a_clock_that_was_set_back(self, office: Office) -> None:
        """The number grows all the same."""
        first, _ = office.published()
        office.moment.wall -= WEEK
        assert office.published(RevokedCertificate(7, office.moment.wall, "superseded"))[0] == first + 1

    def test_an_intermediate_that_ends_soon(self, office: Office, caplog: pytest.LogCaptureFixture) -> None:
        """The log tells what to do, and before that nothing."""
        with caplog.at_level(logging.WARNING):
            office.published()
            assert caplog.messages == []
            office.moment.pass_by(days=1826 - 89)
            office.published()
        (told,) = caplog.messages
        assert "run 'acmems ca init', and reload acmems" in told


class TestReload:
    """What a reload may change."""

    def test_options(self, office: Office) -> None:
        """What is issued from then on is as the section says."""
        office.issuer.reconfigure(dataclasses.replace(office.options, lifetime=datetime.timedelta(hours=1)))
        issued = office.ask()
        assert issued.not_after - issued.not_before < datetime.timedelta(hours=1)

    def test_another_intermediate(self, office: Office) -> None:
        """It signs from then on, what is revoked as well."""
        before, first = office.ask(), office.published()
        office.directory.intermediate_file.unlink()
        office.directory.intermediate_key_file.unlink()
        office.directory.save_intermediate(office.directory.load_root().intermediate(office.moment.wall))
        office.issuer.reconfigure(office.options)
        assert office.ask().issuer != before.issuer
        assert office.published()[0] > first[0]

    @pytest.mark.parametrize("is_made_anew", [True, False])
    def test_another_root(
        self, office: Office, caplog: pytest.LogCaptureFixture, *, is_made_anew: bool
    ) -> None:
        """Whose chains there are does not change while a server runs, whatever becomes of the files."""
        before = office.ask()
        for file in office.directory.files:
            file.unlink()
        if is_made_anew:
            make_ca(office.options.dir, "internal.example")
        office.issuer.reconfigure(office.options)
        assert office.ask().issuer == before.issuer
        assert '[local-ca "office"] goes on with the keys that it has' in caplog.text


def test_keys_that_are_not_loaded(tmp_path: Path) -> None:
    """Nothing is issued, and nobody's key is taken for that of the CA."""
    options = LocalCaOptions("office", tmp_path, "office", WEEK, permits("any"), None)
    with contextlib.closing(LocalIssuer(options)) as issuer:
        assert (issuer.key_digest, issuer.crl, issuer.root_pem, issuer.certificates) == (None, None, None, ())
        with pytest.raises(LocalCaUnusable, match="are not loaded"):
            issuer.loop.run(issuer.obtain(make_request(), (), NEVER, "identity"))


def test_the_key_of_the_ca(office: Office) -> None:
    """Nobody gets a certificate for it."""
    issuance = Issuance(office.issuer, IssuerIdentity("local:office"), Bus())
    request = make_request("a.internal.example", key=office.issuer.authority.key)
    with contextlib.closing(House(SYSTEM)) as house, pytest.raises(PayloadInvalid, match="of a local CA"):
        issuance.issue(house.accept(request))


def test_beside_an_account(tmp_path: Path) -> None:
    """A request that no `permit` covers goes to the account that comes next; one that is covered does not."""
    make_ca(tmp_path, "internal.example")
    options = LocalCaOptions("office", tmp_path, "office", WEEK, permits("internal.example"), None)
    with contextlib.closing(LocalIssuer(options)) as issuer, contextlib.closing(House(SYSTEM)) as house:
        issuer.load()
        local = Issuance(issuer, IssuerIdentity("local:office"), Bus())
        both = Issuances({"": house.issuance, "office": local}, SYSTEM)
        issued = []
        for name in ("a.internal.example", "www.example.org"):
            accepted = house.accept(
                make_request(name), storage=MemoryStorage("memory"), issuers=("office", "")
            )
            issued.append(both.issue(accepted).result(30).chain.issuer)
        assert "office" in issued[0]
        assert "office" not in issued[1]
