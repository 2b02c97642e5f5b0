"""Signed requests to one CA (RFC 8555 section 6)."""

from __future__ import annotations

from acmems.issuers.acme.session.responses import Headers, Response, problem_in
from acmems.issuers.acme.session.session import Session

__all__ = ["Headers", "Response", "Session", "problem_in"]
