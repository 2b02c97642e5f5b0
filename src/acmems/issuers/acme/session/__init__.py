"""Signed requests to one CA, from any number of threads (RFC 8555 section 6)."""

from __future__ import annotations

from acmems.issuers.acme.session.answers import Response, readable_problem
from acmems.issuers.acme.session.session import Session

__all__ = ["Response", "Session", "readable_problem"]
