"""The documented handlers; they live in `acmems.compat.handlers`."""

from __future__ import annotations

from acmems.compat.handlers import ACMEAbstractHandler, ACMEHTTPHandler, ACMEMgmtHandler

__all__ = ["ACMEAbstractHandler", "ACMEHTTPHandler", "ACMEMgmtHandler"]
