"""Getting the further chains that a CA offers for a certificate (RFC 8555 section 7.4.2)."""

from __future__ import annotations

from collections.abc import Callable

from acmems.issuers.acme.certificates.alternates import PEM_CHAIN
from acmems.issuers.acme.clients.client import Client
from acmems.system.clock import Deadline
from acmems.system.steps import Steps


class AlternateDownloads:
    """Gets further chains of certificates from the CA that has issued them: `AlternateSource`.

    Args:
        admitted: returns what speaks to the CA, once the account is open.
    """

    def __init__(self, admitted: Callable[[Deadline], Steps[Client]]) -> None:
        self._admitted = admitted

    def fetch(self, url: str, deadline: Deadline) -> Steps[bytes]:
        """Return the chain at a URL that the CA has told (RFC 8555 section 7.4.2), as it sends it.

        Args:
            url: where it is.
            deadline: when to give up.

        Raises:
            AccountError: the account cannot be used.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        client = yield from self._admitted(deadline)
        return (yield from client.session.post(url, None, deadline=deadline, accept=PEM_CHAIN)).body
