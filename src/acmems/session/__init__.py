"""Signed requests to one CA, from any number of threads (RFC 8555 section 6)."""

from __future__ import annotations

from acmems.session.answers import Answer, readable_problem
from acmems.session.session import Session

__all__ = ["Answer", "Session", "readable_problem"]
