"""Which of the chains that a CA offers for one certificate is taken (RFC 8555 section 7.4.2)."""

from __future__ import annotations

import logging
from enum import IntEnum
from urllib.parse import urljoin

from acmems.exceptions import AcmeException
from acmems.issuers.acme.session import Response, Session
from acmems.system.clock import Deadline
from acmems.system.steps import Steps
from acmems.text import one_line
from acmems.x509 import chain
from acmems.x509.chain import OfferedChain

PEM_CHAIN = "application/pem-certificate-chain"
MOST_ALTERNATES = 8
"""How many further chains are looked at: CAs offer one or two."""

_LONGEST_URL = 2048  # characters
_LONGEST = 20.0  # seconds for all of them; the default chain is at hand, and a client waits for it

logger = logging.getLogger(__name__)


class _Fit(IntEnum):
    """How well a chain fits what is preferred; more is better."""

    NONE = 0
    HAS_ISSUER = 1  # some certificate in it was issued under that name
    ENDS_THERE = 2  # the topmost was


def preferred(
    session: Session, default: Response, common_name: str | None, deadline: Deadline
) -> Steps[OfferedChain]:
    """Return the chain that leads to a root of some name, the default one if the CA offers none such.

    It comes with the URLs of all others, the default one first, which are not asked for without need.

    Where no chain ends in that name, one that passes an issuer of it is taken. What fails on the way to other
    chains is logged: the default one is never lost.

    Args:
        session: the way to the CA.
        default: the response that holds the default chain, and links to the others.
        common_name: that of the root, or of an issuer on the way; None for the default chain.
        deadline: when to stop looking.
    """
    urls = _alternates(default)
    if common_name is None:
        return OfferedChain(default.body, urls)
    try:
        leaf, issuers = chain.issuers(default.body)
    except ValueError:
        return OfferedChain(default.body)  # which is refused, and said to be what it is, when it is read
    best, place, fit, seen = default.body, default.url, _fit(issuers, common_name), [issuers]
    deadline = deadline.within(_LONGEST)
    for url in urls:
        if fit is _Fit.ENDS_THERE:
            break
        try:
            response = yield from session.post(url, None, deadline=deadline, accept=PEM_CHAIN)
            other, issuers = chain.issuers(response.body)
        except (AcmeException, ValueError) as error:
            logger.warning("an alternate chain cannot be had: %s", error)
            continue
        if other != leaf:
            logger.warning("an alternate chain of the CA is for another certificate: %s", one_line(url))
            continue
        seen.append(issuers)
        if _fit(issuers, common_name) > fit:
            best, place, fit = response.body, url, _fit(issuers, common_name)
    if fit is _Fit.NONE:
        offered = one_line(", ".join(names[-1] for names in seen))
        logger.warning("the CA offers no chain to %r, its first is used; there are: %s", common_name, offered)
    return OfferedChain(best, tuple(url for url in (default.url, *urls) if url != place))


def _alternates(default: Response) -> tuple[str, ...]:
    """Return the URLs of the chains that a CA offers beside the default one."""
    urls = [urljoin(default.url, link) for link in default.links("alternate")[:MOST_ALTERNATES]]
    usable = (url for url in urls if len(url) <= _LONGEST_URL and url.split() == [url])
    return tuple(dict.fromkeys(url for url in usable if url != default.url))


def _fit(issuers: tuple[str, ...], common_name: str) -> _Fit:
    if issuers[-1] == common_name:
        return _Fit.ENDS_THERE
    return _Fit.HAS_ISSUER if common_name in issuers else _Fit.NONE
