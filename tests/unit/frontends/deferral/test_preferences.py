"""The `Prefer` header (RFC 7240)."""

from __future__ import annotations

import time
from email.message import Message

import pytest

from acmems.frontends.deferral.preferences import Preferences


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], (False, None)),
        ([""], (False, None)),
        (["respond-async"], (True, None)),
        (["Respond-Async"], (True, None)),
        (["respond-async, wait=10"], (True, 10)),
        (["wait=10,respond-async"], (True, 10)),
        (["respond-async", "wait=10"], (True, 10)),
        ([' respond-async ; x=", wait=9" , wait = "10"'], (True, 10)),
        (["wait=1, wait=2"], (False, 1)),
        (["wait=0"], (False, 0)),
        (["wait=-1"], (False, None)),
        (["wait=1.5"], (False, None)),
        (["wait=9999999999"], (False, None)),
        (["wait"], (False, None)),
        (["wait=\u0661"], (False, None)),
        (['handling=lenient, "respond-async"'], (False, None)),
        (['return=minimal; foo="some text", respond-async'], (True, None)),
        (["respond-async=1"], (True, None)),
        (["respond-asynchronously"], (False, None)),
        ([", respond-async"], (True, None)),
    ],
)
def test_what_is_preferred(lines: list[str], expected: tuple[bool, int | None]) -> None:
    """Names in any case, values with or without quotes, in one header or several; nonsense is ignored."""
    headers = Message()
    for line in lines:
        headers["Prefer"] = line
    found = Preferences.from_headers(headers)
    assert (found.responds_async, found.wait) == expected


@pytest.mark.parametrize(
    "line",
    ['a;"' + '\\"' * 8000 + ";" * 8000, "a;" + " " * 16_000 + '"', "a" + " " * 16_000, 'a="' + "\\" * 16_000],
)
def test_a_header_that_is_meant_to_take_long(line: str) -> None:
    """Each character is looked at a few times."""
    headers = Message()
    headers["Prefer"] = line
    began = time.process_time()
    assert Preferences.from_headers(headers) == Preferences()
    assert time.process_time() - began < 1  # it took five seconds
