"""Requests as tools make them, and odder ones, sent to a server in front of a CA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import der
from tests.csr_cases import CASES, Case
from tests.der import Draft
from tests.peers import Acmems, Pebble, Settings, curl_sign, names_of

from acmems.x509 import chain, csr


@pytest.fixture(scope="module")
def acmems(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acmems]:
    """A server that lets anyone have any name, and keeps nothing: each request is one to the CA."""
    settings = Settings.of(pebble, tmp_path_factory.mktemp("acmems"))
    settings.storage = '[storage "nothing"]\ntype = none\n'
    with Acmems(settings) as running:
        yield running


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_from_client_to_ca(acmems: Acmems, case: Case) -> None:
    """A request gets a chain for its key and names, or a refusal, as it deserves."""
    reply = curl_sign(acmems.sign_url, case.path)
    assert reply.status in case.statuses, reply.text
    if reply.status == 200:
        assert chain.matches(chain.parse(reply.body), csr.parse(case.path.read_bytes()))


NAME = b"odd.example.org"
SAN = der.dns_san(NAME)
REQUESTED = der.requested(SAN)


def organization(tag: int, value: bytes) -> bytes:
    """Write a subject with an organization of some type."""
    return der.sequence(der.relative_name(der.ORGANIZATION, value, tag))


@pytest.mark.parametrize(
    "draft",
    [
        pytest.param(Draft(organization(0x13, b"A & B * C"), (SAN,)), id="PrintableString"),
        pytest.param(Draft(organization(0x12, b"12 34"), (SAN,)), id="NumericString"),
        pytest.param(Draft(organization(0x1A, b"visible"), (SAN,)), id="VisibleString"),
        pytest.param(Draft(organization(0x14, b"M\xfcller"), (SAN,)), id="T61String"),
        pytest.param(Draft(organization(0x03, b"\0\1"), (SAN,)), id="BIT STRING"),
        pytest.param(Draft(organization(0x30, der.utf8(b"a street")), (SAN,)), id="SEQUENCE"),
        pytest.param(Draft(organization(0x0C, b""), (SAN,)), id="empty"),
        pytest.param(Draft(der.subject(b""), (SAN,)), id="empty CN"),
        pytest.param(Draft(der.subject(NAME, NAME), (SAN,)), id="CN twice"),
        pytest.param(Draft(extensions=(SAN,), version=1), id="version 2"),
        pytest.param(Draft(extensions=(SAN,), parameters=der.NULL), id="NULL with ECDSA"),
        pytest.param(
            Draft(
                extensions=(
                    der.sequence(
                        der.oid(der.SUBJECT_ALT_NAME), der.FALSE, der.octets(der.sequence(der.dns(NAME)))
                    ),
                    der.extension(der.BASIC_CONSTRAINTS, der.sequence(der.FALSE)),
                )
            ),
            id="FALSE written out",
        ),
        pytest.param(
            Draft(
                attributes=(
                    REQUESTED,
                    *[der.attribute(der.CHALLENGE_PASSWORD, der.utf8(text)) for text in (b"a", b"b")],
                )
            ),
            id="two passwords",
        ),
        pytest.param(
            Draft(attributes=(REQUESTED, der.attribute(der.MICROSOFT_EXTENSION_REQUEST, der.sequence(SAN)))),
            id="extension request of Microsoft",
        ),
        pytest.param(Draft(extensions=(der.dns_san(b"xn--ls8h.example.org"),)), id="emoji"),
    ],
)
def test_odd_but_harmless_requests_are_certified(acmems: Acmems, tmp_path: Path, draft: Draft) -> None:
    """What changes neither names nor key keeps nobody from a certificate, here and at the CA."""
    body = tmp_path / "host.csr"
    body.write_bytes(b"Certificate Request:\n" + draft.pem + b"the end\n")
    reply = curl_sign(acmems.sign_url, body)
    assert reply.status == 200, reply.text
    assert names_of(reply.body) == set(csr.parse(body.read_bytes()).names)


def test_all_names_are_in_the_advice(acmems: Acmems, tmp_path: Path) -> None:
    """Whoever asks by common names that the CA does not read gets the option that asks for all of them."""
    names = [b"n%02d.common.example.org" % number for number in range(60)]
    body = tmp_path / "host.csr"
    body.write_bytes(Draft(der.subject(*names), extensions=()).pem)
    reply = curl_sign(acmems.sign_url, body)
    assert reply.status == 415
    assert f"'subjectAltName={','.join('DNS:' + name.decode() for name in names)}'" in reply.text
