"""Local CAs for tests."""

from __future__ import annotations

import datetime
from pathlib import Path

from acmems.issuers.local.authority import IssuingAuthority, RootAuthority
from acmems.issuers.local.files import LocalCaDirectory
from acmems.issuers.local.permits import Permits, parse_permit, together

NOW = datetime.datetime(2026, 11, 26, 12, 0, tzinfo=datetime.UTC)
WEEK = datetime.timedelta(days=7)


def permits(*texts: str) -> Permits:
    return together(map(parse_permit, texts))


def authority(*texts: str) -> IssuingAuthority:
    """Return what issues for these permits."""
    return RootAuthority.make("office", permits(*texts), NOW).intermediate(NOW)


def make_ca(directory: Path, *texts: str, now: datetime.datetime | None = None) -> LocalCaDirectory:
    """Make a local CA in a directory, which may issue now."""
    now = datetime.datetime.now(datetime.UTC) if now is None else now
    root = RootAuthority.make("office", permits(*texts), now)
    made = LocalCaDirectory(directory)
    made.save_new(root, root.intermediate(now))
    return made
