"""Who asks, and may they: authentication methods, auth blocks, and the processing of one request."""

from __future__ import annotations

from acmems.auth.block import Block
from acmems.auth.methods import AllAuthMethod, AuthMethod, Caller, Claim, HmacAuthMethod, IPAuthMethod
from acmems.auth.processor import Authenticator, Processor, client_ip, read_request
from acmems.auth.subject_alt_name import SubjectAltName

__all__ = [
    "AllAuthMethod",
    "AuthMethod",
    "Authenticator",
    "Block",
    "Caller",
    "Claim",
    "HmacAuthMethod",
    "IPAuthMethod",
    "Processor",
    "SubjectAltName",
    "client_ip",
    "read_request",
]
