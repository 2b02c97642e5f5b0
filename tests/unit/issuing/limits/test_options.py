"""Which limits an account has, by its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from acmems.config import Configuration
from acmems.exceptions import ConfigurationError
from acmems.issuing.limits.gcra import Rate
from acmems.issuing.limits.limit import LETSENCRYPT, Counted, Limit

LETS_ENCRYPT = "acme-server = https://acme-v02.api.letsencrypt.org/directory"
OURS = '[limit "ours"]\ncount = 50\nper = 7d\ncounts = certificates-per-domain\n'
LIMIT = Limit("ours", Counted.DOMAIN, Rate(50, 7 * 86_400_000))


def limits(folder: Path, account: str, sections: str = "") -> tuple[Limit, ...]:
    text = f'[account]\ndir = {folder}\n{account}\n[auth "x"]\ndomain = *.example.org\nall = yes\n{sections}'
    return Configuration.from_text(text).limits


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        pytest.param(LETS_ENCRYPT, LETSENCRYPT, id="Let's Encrypt"),
        pytest.param("", (), id="its staging environment"),
        pytest.param("acme-server = https://ca.example/dir", (), id="a CA that is not known"),
        pytest.param("acme-server = https://ca.example/dir\nlimits = letsencrypt", LETSENCRYPT, id="named"),
        pytest.param(f"{LETS_ENCRYPT}\nlimits = none", (), id="none"),
        pytest.param(f"{LETS_ENCRYPT}\nlimits = ours", (LIMIT,), id="ours alone"),
        pytest.param("limits = letsencrypt\nlimits = ours", (*LETSENCRYPT, LIMIT), id="both"),
    ],
)
def test_limits(tmp_path: Path, account: str, expected: tuple[Limit, ...]) -> None:
    """Those of the CA are known, others can be named."""
    assert limits(tmp_path, account, OURS) == expected


@pytest.mark.parametrize(
    ("account", "sections", "words"),
    [
        ("limits = our", OURS, "there is no [limit \"our\"], did you mean 'ours'?"),
        ("", '[limit "x"]\ncount = 0\nper = 7d\ncounts = orders', "count: '0' is not a whole number above 0"),
        ("", '[limit "x"]\ncount = 5\nper = week\ncounts = orders', "per: 'week' is not a time"),
        ("", '[limit "x"]\ncount = 5\nper = 0d\ncounts = orders', "per: '0d' is not a time"),
        ("", '[limit "x"]\ncount = 5\nper = 7d\ncounts = names', "counts: 'names' is not one of orders"),
        ("", '[limit "x"]\ncount = 2000\nper = 1s\ncounts = orders', "more than one each millisecond"),
        ("limits = x", '[limit "x"]\ncount = 5\nper = 7d', "[limit \"x\"] needs 'counts = …'"),
        ("", OURS + "size = 3", "[limit \"ours\"] knows no 'size'"),
    ],
)
def test_mistakes(tmp_path: Path, account: str, sections: str, words: str) -> None:
    """Each is told at its line."""
    with pytest.raises(ConfigurationError) as refused:
        limits(tmp_path, account, sections)
    assert [finding for finding in refused.value.findings if words in str(finding)], refused.value
