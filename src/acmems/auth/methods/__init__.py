"""Authentication methods: what is known of a client, and whether it is enough."""

from __future__ import annotations

from acmems.auth.methods.anyone import AllAuthMethod
from acmems.auth.methods.caller import AuthMethod, Caller
from acmems.auth.methods.claim import Claim
from acmems.auth.methods.client_certificate import ClientCertificateMethod
from acmems.auth.methods.external_account import ExternalAccountMethod
from acmems.auth.methods.hmac import WRONG_HMAC, HmacAuthMethod
from acmems.auth.methods.ip import IPAuthMethod
from acmems.auth.methods.token import WRONG_TOKEN, TokenAuthMethod, bearer_token

METHODS = (
    IPAuthMethod,
    HmacAuthMethod,
    TokenAuthMethod,
    ClientCertificateMethod,
    ExternalAccountMethod,
    AllAuthMethod,
)
"""The methods of blocks, each of which knows its own keys."""

__all__ = [
    "METHODS",
    "WRONG_HMAC",
    "WRONG_TOKEN",
    "AllAuthMethod",
    "AuthMethod",
    "Caller",
    "Claim",
    "ClientCertificateMethod",
    "ExternalAccountMethod",
    "HmacAuthMethod",
    "IPAuthMethod",
    "TokenAuthMethod",
    "bearer_token",
]
