"""The dns-01 validator that uses dns-lexicon, on a zone file that a real BIND serves."""

from __future__ import annotations

from pathlib import Path

from tests.peers import Bind
from tests.peers.dns import RECORDS

from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Proof
from acmems.challenges.dns01_provider import DnsProvider
from acmems.challenges.txt import txt_value
from acmems.settings.findings import Finding
from acmems.settings.grammar import read_sections
from acmems.settings.options import Options
from acmems.x509.identifiers import Identifier

RECORD = "_acme-challenge.www.example.org"


class ServesFile(Bind):
    """A name server that serves a zone file as it is now."""

    def __init__(self, file: Path) -> None:
        super().__init__("example.org")
        self.file = file

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "example.org.zone").write_bytes(self.file.read_bytes())


def proof(name: str, mark: str) -> Proof:
    return Proof(Identifier.dns(name), mark, f"{mark}.thumbprint", lambda: None)


def test_values_in_a_zone_file_are_served(tmp_path: Path) -> None:
    """The values of a name and its wildcard stand beside another's in DNS, and go without it."""
    file = tmp_path / "zone"
    file.write_text(RECORDS + "_acme-challenge.www 60 TXT other\n", encoding="utf-8")
    findings: list[Finding] = []
    (section,) = read_sections(
        f'[verification "api"]\nprovider = localzone\noption = filename={file}\nzone = example.org\n'
        "follow-cnames = no\n",
        "a.ini",
        findings,
    )
    validator = DnsProvider.from_options("api", Options(section, findings), ValidatorContext())
    assert not findings
    proofs = [proof("www.example.org", "base"), proof("*.www.example.org", "wildcard")]
    validator.present(proofs)
    validator.present(proofs)
    with ServesFile(file) as bind:
        assert bind.texts(RECORD) == {
            "other",
            txt_value("base.thumbprint"),
            txt_value("wildcard.thumbprint"),
        }
    validator.withdraw(proofs[:1])
    validator.withdraw(proofs[:1])
    with ServesFile(file) as bind:
        assert bind.texts(RECORD) == {"other", txt_value("wildcard.thumbprint")}
    validator.withdraw(proofs)
    with ServesFile(file) as bind:
        assert bind.texts(RECORD) == {"other"}
