"""Further chains of a certificate for ACME clients: from a real CA once, and from the state from then on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.acme_front_end import AcmeFrontEnd
from tests.fault_proxy import FaultProxy
from tests.faults import CERTIFICATE
from tests.peers import CALM, Acmems, Pebble, Settings, program, verify_chain
from tests.peers.acme_clients import Directory
from tests.peers.acme_clients.lego import Lego

from acmems.x509 import chain as chains

VERIFICATION = """
[verification "nothing"]
type = dns01-exec
command = {true}
follow-cnames = no
"""


@pytest.fixture(scope="module")
def ca() -> Iterator[Pebble]:
    """A CA with three roots that believes everything."""
    env = {"PEBBLE_VA_ALWAYS_VALID": "1", "PEBBLE_ALTERNATE_ROOTS": "2", "PEBBLE_CHAIN_LENGTH": "2"}
    with Pebble(env={**CALM, **env}) as running:
        yield running


@pytest.fixture(scope="module")
def roots(ca: Pebble) -> list[str]:
    """The roots of that CA, that of the first chain first."""
    return [ca.management(f"/roots/{number}").decode() for number in range(3)]


def root_name(pem: str) -> str:
    (name,) = x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(
        x509.NameOID.COMMON_NAME
    )
    return str(name.value)


def served(settings: Settings) -> AcmeFrontEnd:
    """Return the front end of a server where nothing has to be proved."""
    settings.verification = VERIFICATION.format(true=program("true"))
    settings.auth = '\n[auth "all"]\nall = yes\ndomain = **.example.org\n'
    return AcmeFrontEnd(settings.folder, settings)


def test_alternates(ca: Pebble, roots: list[str], tmp_path: Path) -> None:
    """They are fetched when they are asked for, once; a CA that is away costs no more than these."""
    with FaultProxy(ca) as proxy:
        settings = proxy.before(Settings.of(ca, tmp_path))
        front_end = served(settings)
        with Acmems(settings) as acmems, front_end.client() as client:
            assert client.register().status == 201
            first = client.obtain("a.example.org")
            verify_chain(first.body, roots[0])
            others = first.links("alternate")
            assert len(others) == 2
            assert proxy.count(path=CERTIFICATE) == 1, "nothing more is asked of the CA for a certificate"
            one = client.post(others[0])
            assert one.status == 200
            assert chains.fingerprint_of(one.body) == chains.fingerprint_of(first.body)
            verify_chain(one.body, roots[1])
            [url] = set(one.links("alternate")) - set(others)
            assert client.post(url).body == first.body
            assert all(each.startswith(front_end.url) for each in (url, *others))
            proxy.when(path=CERTIFICATE).answer(503)
            away = client.post(others[1])
            assert (away.status, away.problem) == (503, "serverInternal")
            assert int(away.headers["Retry-After"]) > 0
            assert url in away.json["detail"]
            assert client.post(url).body == first.body
            assert client.post(others[0]).body == one.body
            proxy.heal()
            client.close()
            acmems.process.kill()
            acmems.process.wait()
            acmems.start()
            asked = proxy.count(path=CERTIFICATE)
            assert client.post(others[0]).body == one.body
            assert client.post(url).links("alternate") == others
            assert proxy.count(path=CERTIFICATE) == asked
            verify_chain(client.post(others[1]).body, roots[2])


def test_lego_chooses(ca: Pebble, roots: list[str], tmp_path: Path) -> None:
    """A client that prefers a root gets a chain that ends there; one that does not gets the first."""
    settings = Settings.of(ca, tmp_path)
    front_end = served(settings)
    folder = tmp_path / "lego"
    folder.mkdir()
    with Acmems(settings):
        lego = Lego(folder, Directory(f"{front_end.url}/directory", front_end.chain))
        verify_chain(lego.order("a.example.org"), roots[0])
        lego.preferred_chain = root_name(roots[2])
        verify_chain(lego.order("b.example.org"), roots[2])
