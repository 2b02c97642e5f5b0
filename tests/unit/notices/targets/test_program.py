"""A program of the site gets the notice, and says by its exit code whether it has taken it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.noticing import make_notice, options_of

from acmems.notices.contract import NoticeUndelivered
from acmems.notices.targets.program import ProgramTarget


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "tell"

    def target(self, body: str, *lines: str) -> ProgramTarget:
        self.script.write_text(f"#!/bin/sh\n{body}\n")
        self.script.chmod(0o700)
        options, findings = options_of(f"command = {self.script} 'one word' two", *lines)
        made = ProgramTarget.from_options("ops", options)
        options.finish()
        assert findings == []
        return made

    def failure(self, body: str, *lines: str) -> str:
        with pytest.raises(NoticeUndelivered) as raised:
            self.target(body, *lines).deliver(make_notice())
        return str(raised.value)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_it_gets(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON on standard input, its arguments, and variables: those of acmems only where they are named."""
    monkeypatch.setenv("WANTED", "yes")
    monkeypatch.setenv("UNWANTED", "no")
    out = site.folder / "out"
    notice = make_notice()
    body = f'printf "%s\\n" "$@" >{out}.args; env >{out}.env; cat >{out}'
    site.target(body, "environment = WANTED").deliver(notice)
    assert json.loads(out.read_text()) == notice.document()
    assert Path(f"{out}.args").read_text().splitlines() == ["one word", "two"]
    env = Path(f"{out}.env").read_text()
    for line in (
        "ACMEMS_NOTICE_ID=id-1",
        "ACMEMS_NOTICE_KIND=renewal",
        "ACMEMS_NOTICE_PHASE=begun",
        "ACMEMS_NOTICE_SEVERITY=critical",
        f"ACMEMS_NOTICE_SUBJECT={notice.title}",
        f"ACMEMS_NOTICE_TEXT={notice.text}",
        "WANTED=yes",
    ):
        assert f"{line}\n" in env
    assert "UNWANTED" not in env


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo s3cret; exit 3", "with code 3"),
        ("kill -9 $$", "by signal 9"),
    ],
)
def test_what_is_no_success(site: Site, body: str, words: str) -> None:
    """It is tried again."""
    said = f"the program tell ended {words}; what it wrote is in the log at level debug"
    assert site.failure(body) == said


def test_one_that_hangs(site: Site) -> None:
    """It is killed."""
    assert site.failure("sleep 600", "timeout = 0.2") == "the program tell had not ended after 0.2 s"


def test_one_that_is_not_there(site: Site) -> None:
    """`acmems check` tells, and so does each try."""
    made = site.target("exit 0")
    assert list(made.self_check()) == []
    site.script.chmod(0o600)
    site.script.unlink()
    assert list(made.self_check()) == [("command", f"{site.script}: there is no such program")]
    with pytest.raises(NoticeUndelivered, match="the program tell cannot be started: No such file"):
        made.deliver(make_notice())


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "needs 'command = …'"),
        (("command = tell",), "must begin with the absolute path"),
        (("command = /bin/true", "for = renewals"), "'renewals' is not one of renewal, limit, "),
        (("command = /bin/true", "least-severity = info"), "'info' is not one of warning, critical"),
        (("command = /bin/true", "weekly = someday"), "is no moment of the week, such as monday 08:00"),
        (("command = /bin/true", "environment = A=b"), "must be the name of an environment variable"),
    ],
)
def test_mistakes(lines: tuple[str, ...], words: str) -> None:
    """Each has a finding."""
    options, findings = options_of(*lines)
    ProgramTarget.from_options("ops", options)
    (finding,) = findings
    assert words in finding.message
