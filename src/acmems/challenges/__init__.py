"""How names are validated: one file per type of challenge, one contract, one table."""

from __future__ import annotations

from collections.abc import Mapping

from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Listening, Proof, SelfChecking, Validator, Waiter, Waiting
from acmems.challenges.dns01_dnsupdate import DnsUpdate
from acmems.challenges.dns01_exec import DnsExec
from acmems.challenges.dns01_provider import DnsProvider
from acmems.challenges.dns01_server import DnsServer
from acmems.challenges.dns_persist01 import DnsPersist
from acmems.challenges.http01 import Http01
from acmems.challenges.responses import ChallengeResponses
from acmems.challenges.tls_alpn01 import TlsAlpn01

__all__ = [
    "VALIDATORS",
    "ChallengeResponses",
    "DnsUpdate",
    "Http01",
    "Listening",
    "Proof",
    "SelfChecking",
    "Validator",
    "ValidatorContext",
    "Waiter",
    "Waiting",
]

VALIDATORS: Mapping[str, type[Validator]] = {
    "http01": Http01,
    "dns01-dnsUpdate": DnsUpdate,
    "dns01-server": DnsServer,
    "dns01-exec": DnsExec,
    "dns01-provider": DnsProvider,
    "dns-persist01": DnsPersist,
    "tls-alpn01": TlsAlpn01,
}
