"""Requests as tools make them: read, or refused."""

from __future__ import annotations

import pytest
from tests.csr_cases import CASES, FOLDER, Case

from acmems.exceptions import PayloadInvalid
from acmems.x509 import csr


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_reading(case: Case) -> None:
    """A request that deserves a certificate is read, and any other is refused."""
    body = case.path.read_bytes()
    if 200 in case.statuses:
        assert csr.parse(body).names
    else:
        with pytest.raises(PayloadInvalid):
            csr.parse(body)


def test_every_file_is_a_case() -> None:
    """No file is left out of the table."""
    assert {case.name for case in CASES} == {path.name for path in FOLDER.iterdir()} - {"expected.tsv"}
