"""The server as a client of its own: when it asks, what it shows, and what it does where it gets nothing."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.auth_blocks import block

from acmems.auth import Authenticator, Block
from acmems.exceptions import CAUnavailable
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.own.asking import LOOK_SECONDS, OwnCertificates, granting_block
from acmems.frontends.own.files import ensure
from acmems.frontends.tls.expiry import expiry_of
from acmems.frontends.tls.files import UnusableTls, read_material
from acmems.frontends.tls.options import TlsOptions
from acmems.issuing.renewal.times import RenewalOutlook
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.storages import Storage
from acmems.system.clock import Clock
from acmems.x509.chain import Chain, parse
from acmems.x509.identifiers import Identifier

NAME = Identifier.dns("own.example.org")
GRANTING = block(("ip", "127.0.0.1"), ("domain", "own.example.org"), name="own")
CA = ec.generate_private_key(ec.SECP256R1())
CA_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA of tests")])


class OwnServer:
    """A server with a name of its own, and an issuer that does as it is told."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
        self.moment = 1000.0
        self.options = TlsOptions(name=NAME).within(folder)
        self.wanted = [self.options]
        self.blocks: Sequence[Block] = (GRANTING,)
        self.asked: list[AcceptedRequest] = []
        self.futures: list[Future[Delivery]] = []
        self.shown = 0
        clock = Clock(lambda: self.moment, lambda: self.now, lambda event, _: event.is_set())
        self.own = OwnCertificates(
            lambda: self.wanted,
            lambda: SigningPolicy(Authenticator(tuple(self.blocks)), 10, "names"),
            self,
            self._show,
            clock,
        )

    def _show(self) -> None:
        self.shown += 1

    def issue(self, accepted: AcceptedRequest) -> Future[Delivery]:
        self.asked.append(accepted)
        self.futures.append(Future())
        return self.futures[-1]

    def outlook(self, chain: Chain, storage: Storage, now: datetime.datetime) -> RenewalOutlook:
        raise NotImplementedError

    def identities(self, accepted: AcceptedRequest) -> Mapping[str, str]:
        raise NotImplementedError

    def chain(self, days: int = 90) -> Chain:
        key = serialization.load_der_public_key(self.asked[-1].request.spki)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(CA_NAME)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - datetime.timedelta(days=2 if days < 0 else 0))
            .not_valid_after(self.now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME.value)]), critical=False)
            .sign(CA, hashes.SHA256())
        )
        return parse(made.public_bytes(serialization.Encoding.PEM))

    def deliver(self, chain: Chain) -> None:
        self.futures[-1].set_result(Delivery(chain, "issued"))
        self.own.run()

    def pass_by(self, **passed: float) -> None:
        length = datetime.timedelta(**passed)
        self.now += length
        self.moment += length.total_seconds()
        self.own.run()


@pytest.fixture
def house(tmp_path: Path) -> OwnServer:
    """A server that has not started before."""
    return OwnServer(tmp_path)


def test_first_start(house: OwnServer) -> None:
    """A stand-in is shown until the CA has issued, then what that has issued, with the same key."""
    house.own.run()
    stand_in = read_material(house.options)
    assert stand_in.is_self_signed
    (accepted,) = house.asked
    assert (accepted.request.names, accepted.block, accepted.client) == (("own.example.org",), "own", "local")
    house.own.run()
    assert len(house.asked) == 1
    house.deliver(house.chain())
    material = read_material(house.options)
    assert (house.shown, material.is_self_signed, material.key) == (1, False, stand_in.key)


def test_renewal(house: OwnServer) -> None:
    """It is asked for anew when a third of the lifetime is left, with the same CSR, and not before."""
    house.own.run()
    house.deliver(house.chain())
    house.pass_by(days=59)
    assert len(house.asked) == 1
    house.pass_by(days=2)
    assert len(house.asked) == 2
    assert house.asked[0].request.pem == house.asked[1].request.pem
    house.deliver(house.chain())
    assert (house.shown, len(house.asked)) == (2, 2)
    house.pass_by(seconds=LOOK_SECONDS)
    assert len(house.asked) == 2


def test_failures(house: OwnServer, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be had is tried again after a minute, then after twice as long; what is shown stays."""
    house.own.run()
    for pause in (60, 120, 240):
        house.futures[-1].set_exception(CAUnavailable("it does not answer"))
        house.own.run()
        before = len(house.asked)
        house.pass_by(seconds=pause - 1)
        assert len(house.asked) == before
        house.pass_by(seconds=1)
        assert len(house.asked) == before + 1
    assert "cannot be had now: it does not answer; it is tried again in 240 s" in caplog.text
    assert read_material(house.options).is_self_signed


def test_the_newest_chain_is_shown(house: OwnServer) -> None:
    """One that was issued before what is shown changes nothing, nor does one that has expired."""
    house.own.run()
    older, shown = house.chain(), house.chain(days=60)
    house.deliver(shown)
    material = read_material(house.options)
    house.pass_by(days=41)
    house.deliver(older)
    assert read_material(house.options) == material
    house.pass_by(seconds=LOOK_SECONDS)
    house.deliver(house.chain(days=-1))
    assert read_material(house.options) == material
    house.pass_by(seconds=LOOK_SECONDS)
    house.deliver(house.chain(days=7))  # by another CA, whose certificates are good for less
    assert read_material(house.options).not_after < material.not_after
    assert house.shown == 2


def test_policy_counts(house: OwnServer, caplog: pytest.LogCaptureFixture) -> None:
    """Where no block grants the name any more, nothing is asked."""
    house.blocks = (block(("ip", "192.0.2.1"), ("domain", "**")),)
    house.own.run()
    assert house.asked == []
    assert "no auth block grants own.example.org to 127.0.0.1" in caplog.text


@pytest.mark.parametrize(
    ("options", "granted"),
    [
        ((("ip", "127.0.0.1"),), True),
        ((("ip", "::1"),), True),
        ((("all", "yes"),), True),
        ((("ip", "192.0.2.1"),), False),
        ((("ip", "127.0.0.1"), ("token", "4f" * 20)), False),
        ((("all", "yes"), ("prove", "http-01")), False),
    ],
)
def test_which_block_grants(options: Sequence[tuple[str, str]], granted: bool) -> None:
    """One that accepts whoever is on this machine, and shows nothing else."""
    made = block(*options, ("domain", "own.example.org"))
    assert (granting_block([made], NAME) is made) is granted
    assert granting_block([made], Identifier.dns("other.example.org")) is None


def test_files_of_before(house: OwnServer, tmp_path: Path) -> None:
    """They are used again; a foreign chain is replaced, and a key that is none is told."""
    first = ensure(house.options, house.now)
    assert ensure(house.options, house.now) == first
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    other = OwnServer(tmp_path / "other")
    (tmp_path / "other").mkdir()
    foreign = ensure(other.options, house.now)
    assert house.options.certificate is not None
    house.options.certificate.write_bytes(foreign.chain)
    assert ensure(house.options, house.now).key == first.key
    assert ensure(house.options, house.now + datetime.timedelta(days=400)).not_after > first.not_after
    assert house.options.key is not None
    house.options.key.write_bytes(b"nothing")
    with pytest.raises(UnusableTls, match="remove it, and one is made"):
        ensure(house.options, house.now)


def test_a_new_key(house: OwnServer) -> None:
    """Who removes the key gets another one, with a certificate for that."""
    house.own.run()
    house.deliver(house.chain())
    before = read_material(house.options)
    assert house.options.key is not None
    house.options.key.unlink()
    again = ensure(house.options, house.now)
    assert again.key != before.key
    assert again.is_self_signed
    house.pass_by(seconds=LOOK_SECONDS)
    house.deliver(house.chain())
    after = read_material(house.options)
    assert (after.key, after.is_self_signed) == (again.key, False)


def test_expiry(house: OwnServer) -> None:
    """A certificate that should have been renewed long ago is told of, and one that has expired."""
    house.own.run()
    assert expiry_of("mgmt", read_material(house.options), house.now) is None
    house.deliver(house.chain())
    material = read_material(house.options)
    for days, is_over in ((70, None), (76, False), (91, True)):
        found = expiry_of("mgmt", material, house.now + datetime.timedelta(days=days))
        assert (None if found is None else found.is_over) is is_over, days
