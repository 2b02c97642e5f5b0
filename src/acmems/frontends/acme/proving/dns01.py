"""dns-01 (RFC 8555 section 8.4): the digest of the key authorization is a TXT record below the name."""

from __future__ import annotations

import hmac
import re

from acmems.challenges.txt import record_name, txt_value
from acmems.exceptions import NoChallengeMethodsSupported
from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.lookups import Lookups
from acmems.frontends.acme.proving.validation import Validation
from acmems.system.clock import Deadline

_DIGEST = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class Dns01Check:
    """Looks TXT records up.

    Args:
        lookups: ask the DNS.
    """

    challenge_type = "dns-01"

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    def check(self, validation: Validation, deadline: Deadline) -> None:
        """Return if the record is there, beside whatever others.

        Raises:
            AcmeProblem: it is not.
        """
        try:
            name = record_name(validation.identifier.base)
        except NoChallengeMethodsSupported as error:
            raise AcmeProblem("dns", str(error)) from None
        shown = name.to_text(omit_final_dot=True)
        expected = txt_value(validation.key_authorization)
        found = self._lookups.texts(name, deadline)
        if any(hmac.compare_digest(text.encode(), expected.encode()) for text in found):
            return
        if not found:
            raise AcmeProblem("dns", f"there are no TXT records at {shown}")
        # A CNAME can lead to what the client itself cannot see: the records are counted, not shown.
        others = sum(_DIGEST.fullmatch(text) is not None for text in found)
        raise AcmeProblem(
            "incorrectResponse",
            f"none of the {len(found)} TXT records at {shown} is the one expected, {expected}; "
            f"{others} of them could be of other challenges",
        )
