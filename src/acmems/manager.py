"""The documented manager; it lives in `acmems.compat.manager`."""

from __future__ import annotations

from acmems.compat.manager import ACMEManager

__all__ = ["ACMEManager"]
