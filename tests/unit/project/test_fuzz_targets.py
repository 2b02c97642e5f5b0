"""The targets of `scripts/fuzz` hold for their own seeds, and can fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests import fuzz_targets
from tests.fuzz_targets import TARGETS

from acmems.x509 import csr
from acmems.x509.identifiers import Identifier


@pytest.mark.threat("csr", "what parsers read differently")
@pytest.mark.parametrize("name", TARGETS)
def test_targets_accept_their_seeds(name: str) -> None:
    """What a fuzzer begins with is what the target takes."""
    for seed in TARGETS[name].seeds():
        TARGETS[name].check(seed)


def without_one(names: set[Identifier]) -> set[Identifier]:
    return set(sorted(names)[1:])


def test_a_name_too_few_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of which we read other names than openssl does is a find."""
    read = csr._names
    monkeypatch.setattr(csr, "_names", lambda *arguments: tuple(map(without_one, read(*arguments))))
    with pytest.raises(AssertionError):
        fuzz_targets.check_csr(TARGETS["csr"].seeds()[0])


def test_the_door_knows_every_target() -> None:
    """`scripts/fuzz` lists exactly these targets."""
    script = (Path(__file__).parents[3] / "scripts" / "fuzz").read_text()
    found = re.search(r"^known=\((.*)\)$", script, re.MULTILINE)
    assert found
    assert found[1].split() == list(TARGETS)
