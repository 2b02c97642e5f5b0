"""What `scripts/bench` does without peers: reading answers, judging targets, drawing tables."""

from __future__ import annotations

import ipaddress
import itertools
import json
import subprocess
from pathlib import Path

import pytest
from scripts.benchmark import report
from scripts.benchmark.herd import sources
from scripts.benchmark.load import request_for, size_of, verdict
from scripts.benchmark.processes import family
from scripts.benchmark.rows import Measured, Row, at_least, at_most, number
from scripts.benchmark.slowed import slowed
from scripts.benchmark.usage import Cost
from tests.peers import PeerFailed, wait_until

CHAIN = b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(CHAIN)
RESULTS = {
    "burst": Measured(
        [
            Row("50 names at once", "/s", 80.0, "floor", 160.0, at_least(0.5)),
            Row("peak memory", "MB", 151.0, target=at_most(150.0)),
        ],
        {"acmems": Cost(chains=2, server=0.02, ca=0.01, client=0.001)},
        ["a note"],
    )
}


def unpainted(_: str, text: str) -> str:
    return text


def test_size_of_an_answer() -> None:
    """An answer's size is known as soon as its head is whole, in whatever case its fields are written."""
    assert size_of(HEAD[:-1]) is None
    assert size_of(HEAD) == len(HEAD) + len(CHAIN)


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (HEAD + CHAIN, ""),
        (HEAD + CHAIN[:-1], "answered 200 with half a chain"),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n", "answered 503"),
        (b"", "closed without an answer"),
    ],
)
def test_verdict(answer: bytes, wrong: str) -> None:
    """Only a whole chain counts."""
    assert verdict(answer) == wrong


def test_request_says_whether_it_keeps_the_connection() -> None:
    """A request has the CSR as its body and says what becomes of the connection."""
    assert request_for("CSR").endswith(b"\r\nConnection: close\r\nContent-Length: 3\r\n\r\nCSR")
    assert b"\r\nConnection: keep-alive\r\n" in request_for("CSR", keep=True)


@pytest.mark.parametrize("addresses", [1, 10_000])
def test_addresses_of_a_herd(addresses: int) -> None:
    """A herd comes from as many addresses of loopback as it is told to."""
    found = {ipaddress.IPv4Address(text) for text in itertools.islice(sources(addresses), 10_000)}
    assert len(found) == addresses
    assert all(address.is_loopback for address in found)


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("", "ms", 50.0, "floor", 25.0, at_most(2.0)), True),
        (Row("", "ms", 51.0, "floor", 25.0, at_most(2.0)), False),
        (Row("", "/s", 12.0, "floor", 25.0, at_least(0.5)), False),
        (Row("", "MB", 150.0, target=at_most(150.0)), True),
        (Row("", "MB", 150.0), None),
        (Row("", "/s", 150.0, "macen", 0.0, at_least(10.0)), None),
    ],
)
def test_target_is_for_the_ratio_where_there_is_one(row: Row, met: bool | None) -> None:
    """A target judges the ratio to the other, or the figure itself where there is no other."""
    assert row.met is met


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.4, "1,234"), (7, "7"), (31.26, "31.3"), (2.0, "2"), (0.526, "0.53"), (0.0131, "0.013")],
)
def test_number(value: float, text: str) -> None:
    """Numbers are as long as they mean something."""
    assert number(value) == text


def test_costs_add_up() -> None:
    """What chains cost adds up, and is told per chain; no chain costs no division by zero."""
    assert (Cost(1, 0.01, 0.02, 0.03) + Cost(1, 0.03, 0.02, 0.01)).each == pytest.approx((20.0, 20.0, 20.0))
    assert Cost().each == (0.0, 0.0, 0.0)


def test_plain_report() -> None:
    """A missed target is shown clearly; costs and notes follow the figures."""
    figures, costs, notes = report.plain(RESULTS, unpainted).split("\n\n")
    assert [line.split()[-1] for line in figures.splitlines()] == ["met", "yes", "NO"]
    assert costs.splitlines()[1].split() == ["burst:", "acmems", "10", "ms", "5", "ms", "0.50", "ms"]
    assert notes == "burst: a note"


def test_markdown_report() -> None:
    """Markdown tables have as many cells in every row."""
    table = report.markdown(RESULTS).split("\n\n")[0].splitlines()
    assert table[2] == "| 50 names at once | 80 /s | floor 160 /s | 0.50 x | at least 0.50 x | yes |"
    assert {line.count("|") for line in table} == {7}


def test_json_report() -> None:
    """JSON has the figures, their ratios, and whether targets are met."""
    rows = json.loads(report.as_json(RESULTS))["burst"]["rows"]
    assert [(row["ours"], row["ratio"], row["met"]) for row in rows] == [
        (80.0, 0.5, True),
        (151.0, None, False),
    ]


def groups_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")


def test_a_process_that_is_slowed() -> None:
    """It is in a group of its own until it need not be slow any more; a person hears where that cannot be."""
    with subprocess.Popen(["sleep", "600"]) as sleeping:
        before = groups_of(sleeping.pid)
        try:
            with slowed([sleeping.pid], 0.5):
                assert "/acmems-bench-" in groups_of(sleeping.pid)
        except PeerFailed as error:
            assert str(error).startswith("a process can")  # noqa: PT017 - it depends on the machine
        assert groups_of(sleeping.pid) == before
        sleeping.kill()


def test_the_family_of_a_process() -> None:
    """It is the process and what it has started."""
    with subprocess.Popen(["sh", "-c", "sleep 600 & wait"]) as shell:
        wait_until(lambda: len(family(shell.pid)) == 2, "the shell has started the other one")
        first, second = family(shell.pid)
        subprocess.run(["kill", str(second)], check=True)
    assert first == shell.pid
