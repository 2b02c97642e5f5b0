"""The certificates that the server gets for itself, for its `tls-name`."""

from __future__ import annotations
