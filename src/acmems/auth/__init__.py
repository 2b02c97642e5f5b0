"""Decides who may request which names: authentication methods, auth blocks, processing of a request."""

from __future__ import annotations

import importlib
from typing import Any

from acmems.auth.block import Block
from acmems.auth.methods import AllAuthMethod, AuthMethod, Caller, Claim, HmacAuthMethod, IPAuthMethod
from acmems.auth.processor import MAX_SIZE, Authenticator, Processor, client_ip, read_request

__all__ = [
    "MAX_SIZE",
    "AllAuthMethod",
    "AuthMethod",
    "Authenticator",
    "Block",
    "Caller",
    "Claim",
    "HmacAuthMethod",
    "IPAuthMethod",
    "Processor",
    "client_ip",
    "read_request",
]


def __getattr__(name: str) -> Any:
    """Return the documented `SubjectAltName`, which nothing that serves needs, when a script asks for it."""
    if name == "SubjectAltName":
        return importlib.import_module("acmems.compat.subject_alt_name").SubjectAltName
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
