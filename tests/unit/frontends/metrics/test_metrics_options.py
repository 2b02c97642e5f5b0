"""The section `[metrics]`."""

from __future__ import annotations

import pytest
from tests.sections import load, wrong

from acmems.net.address import Address


def test_it_is_off_by_default() -> None:
    """Without the section, or with an empty listener, nothing listens."""
    assert load().metrics.listeners == ()
    assert load("[metrics]\n").metrics.listeners == ()
    assert load("[metrics]\nlistener =\n").metrics.listeners == ()


def test_several_listeners() -> None:
    """It may listen at several addresses."""
    config = load("[metrics]\nlistener = 127.0.0.1:1314\nlistener = [::1]:1314\n")
    assert config.metrics.listeners == (Address("127.0.0.1", 1314), Address("::1", 1314))
    assert config.warnings == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "8.8.8.8", "[2a00:1450::1]"])  # noqa: S104 - the point of the test
def test_a_public_address(host: str) -> None:
    """An address that may be reached from everywhere is warned about, and used."""
    config = load(f"[metrics]\nlistener = {host}:1314\n")
    [warning] = map(str, config.warnings)
    assert warning.startswith(f"a.ini:7: warning: {host}:1314 may be reached from everywhere")
    assert len(config.metrics.listeners) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.1.2.3", "192.168.0.1", "[fd00::1]", "localhost"])
def test_an_internal_address(host: str) -> None:
    """Loopback and internal addresses are as they should be."""
    assert load(f"[metrics]\nlistener = {host}:1314\n").warnings == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[metrics]\nlistener = 1314", "a.ini:2: listener: "),
        (
            "[metrics]\nlistner = 127.0.0.1:1314",
            "a.ini:2: [metrics] knows no 'listner', did you mean 'listener'?",
        ),
        (
            "[mgmt]\nlistener = 127.0.0.1:1314\n[metrics]\nlistener = 127.0.0.1:1314",
            "a.ini:4: 127.0.0.1:1314 is already a listener of [mgmt]",
        ),
        ('[metrics "x"]', "a.ini:1: [metrics] takes no name"),
    ],
)
def test_what_is_wrong(text: str, message: str) -> None:
    """Mistakes are findings at their line, such as an address that is taken by another section."""
    [finding] = wrong(text)
    assert finding.startswith(message)
