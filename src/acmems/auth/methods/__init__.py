"""Authentication methods: what is known of a client, and whether it is enough."""

from __future__ import annotations

from acmems.auth.methods.anyone import AllAuthMethod
from acmems.auth.methods.caller import AuthMethod, Caller
from acmems.auth.methods.claim import Claim
from acmems.auth.methods.external_account import ExternalAccountMethod
from acmems.auth.methods.hmac import WRONG_HMAC, HmacAuthMethod
from acmems.auth.methods.ip import IPAuthMethod

METHODS = (IPAuthMethod, HmacAuthMethod, ExternalAccountMethod, AllAuthMethod)
"""The methods of blocks, each of which knows its own keys."""

__all__ = [
    "METHODS",
    "WRONG_HMAC",
    "AllAuthMethod",
    "AuthMethod",
    "Caller",
    "Claim",
    "ExternalAccountMethod",
    "HmacAuthMethod",
    "IPAuthMethod",
]
