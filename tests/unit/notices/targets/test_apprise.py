"""Apprise tells a real service, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from tests.noticing import hook, make_notice, options_of

from acmems.notices.contract import NoticeUndelivered
from acmems.notices.targets import apprise_service
from acmems.notices.targets.apprise_service import AppriseTarget

# The lowest versions are tested without what is optional.
is_installed = importlib.util.find_spec("apprise") is not None
installed = pytest.mark.skipif(not is_installed, reason="apprise is not installed")


def target(url: str, *lines: str) -> AppriseTarget:
    options, findings = options_of(f"url = {url}", *lines)
    made = AppriseTarget.from_options("ops", options)
    options.finish()
    assert findings == []
    return made


def failure(made: AppriseTarget) -> str:
    with pytest.raises(NoticeUndelivered) as raised:
        made.deliver(make_notice())
    return str(raised.value)


@installed
@pytest.mark.parametrize(
    ("changed", "kind"),
    [({}, "failure"), ({"severity": "warning"}, "warning"), ({"phase": "ended"}, "success")],
)
def test_a_service(changed: dict[str, str], kind: str) -> None:
    """It gets title, text and how bad it is."""
    notice = make_notice(**changed)
    with hook() as server:
        target(f"json://127.0.0.1:{server.port}/s3cret").deliver(notice)
    ((_, _, body),) = server.posted
    document = json.loads(body)
    assert (document["title"], document["message"], document["type"]) == (notice.title, notice.text, kind)


@installed
def test_a_service_that_refuses() -> None:
    """The words say how to find out more, and hold no secret."""
    with hook() as server:
        server.status = 500
        words = failure(target(f"json://127.0.0.1:{server.port}/s3cret"))
    assert words.startswith("apprise could not tell the service")
    assert "s3cret" not in words


@installed
def test_what_it_does_not_know() -> None:
    """The words say where the URLs are described."""
    assert failure(target("nonsense://s3cret")).startswith("apprise does not know such a URL: see ")


@installed
@pytest.mark.parametrize(
    ("program", "lines", "words"),
    [
        ("#!/bin/sh\nexec sleep 600\n", ("timeout = 0.2",), "apprise had not ended after 0.2 s"),
        ("#!/bin/sh\necho nonsense\n", (), "the process of apprise ended without an answer"),
    ],
)
def test_a_process_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, lines: tuple[str, ...], words: str
) -> None:
    """One that hangs is killed."""
    (tmp_path / "python").write_text(program)
    (tmp_path / "python").chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert failure(target("json://127.0.0.1/", *lines)) == words


def test_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`acmems check` says what to install, and so does each try."""
    monkeypatch.setattr(apprise_service, "_is_installed", lambda: False)
    made = target("json://127.0.0.1/")
    words = "what speaks to this service is not installed: pip install 'acmems[apprise]'"
    assert list(made.self_check()) == [("type", words)]
    assert failure(made) == words


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "needs 'url = …' or 'url-file = …'"),
        (("url = s3cret",), "url: is no URL of apprise"),
        (("url = json://s3cret x",), "url: is no URL of apprise"),
    ],
)
def test_mistakes(lines: tuple[str, ...], words: str) -> None:
    """Each has a finding, which does not repeat what may be a secret."""
    options, findings = options_of(*lines)
    AppriseTarget.from_options("ops", options)
    (finding,) = findings
    assert words in finding.message
    assert "s3cret" not in finding.message


def test_a_url_in_a_file(tmp_path: Path) -> None:
    """It is looked at by `acmems check`."""
    options, _ = options_of(f"url-file = {tmp_path / 'url'}")
    made = AppriseTarget.from_options("ops", options)
    (tmp_path / "url").write_text("nothing\n")
    words = f"url-file: what {tmp_path / 'url'} holds is no URL of apprise, such as ntfys://ntfy.example.org/topic"
    assert ("url-file", words) in list(made.self_check())
    assert [each.is_secret for each in made.named_files()] == [True]
