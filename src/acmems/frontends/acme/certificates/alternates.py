"""Sending further chains of a certificate, as the CA outside offers them (RFC 8555 section 7.4.2)."""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any

from acmems.exceptions import AcmeException, CAProblem, CAProtocolError, StateUnavailable
from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.certificates.downloading import (
    CHAIN_TYPE,
    check_form,
    links_to_others,
    not_kept,
    own_certificate,
)
from acmems.frontends.acme.orders.parts import OrderParts
from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.requests import SignedRequest
from acmems.frontends.problems import retry_after_of
from acmems.issuing.contract import AlternateSource, Issuer
from acmems.issuing.running import stopping
from acmems.net.http import Exchange
from acmems.state.chains import ChainRecord
from acmems.system.steps import OWNER, Steps, outcome
from acmems.x509.chain import parse, read_alternate

FAILED_SECONDS = 10.0
"""For how long the CA is not asked again for a chain that it did not send."""
_LONGEST = 20.0  # seconds for all requests to the CA; no client gives up before 30
_RETRY_AFTER = 300  # seconds, where an error does not tell
_MOST_FAILURES = 1000  # that are remembered
_NUMBER = re.compile(r"[1-9][0-9]?", re.ASCII)

_Place = tuple[str, int]  # a fingerprint, and the place of an alternate among those of that certificate


class AlternateResource:
    """Sends alternates.

    The first client that asks for one has it fetched from the CA by the account that has issued the
    certificate. It is checked as the first chain was, and kept in the state, so that the CA is asked once.

    Args:
        parts: what it works with.
    """

    def __init__(self, parts: OrderParts) -> None:
        self._parts = parts
        self._fetches: dict[_Place, Future[bytes | AcmeProblem]] = {}  # those that go on
        self._failures: OrderedDict[_Place, tuple[float, AcmeProblem]] = OrderedDict()  # and when they ended

    def __call__(self, request: SignedRequest, exchange: Exchange) -> Steps[AcmeAnswer]:
        """Return an alternate, the leaf first.

        Raises:
            AcmeProblem: there is none, or it is another's, or the CA does not send it now.
            StateUnavailable: it cannot be read.
        """
        request.require_get()
        parts = self._parts
        order, fingerprint = yield from own_certificate(parts, request)
        check_form(exchange)
        number = int(request.parameters[1]) if _NUMBER.fullmatch(request.parameters[1]) else 0

        def look() -> tuple[list[ChainRecord], bytes | None]:
            return parts.chains.of([fingerprint]), parts.alternates.find(fingerprint, number)

        records, pem = yield from parts.threads.call(look)
        if not records:
            raise not_kept()
        count = len(records[0].alternates)
        if not 1 <= number <= count:
            raise AcmeProblem("malformed", "there is no such chain of this certificate", status=404)
        if pem is None:
            first = parts.linker().url("certificate", order.id)
            known = {
                "reference": exchange.reference,
                "client": request.client,
                "names": records[0].names,
                "block": order.block,
            }
            pem = yield from self._fetched(records[0], number, first, known)
        links = links_to_others(parts.linker(), order.id, count, number)
        return AcmeAnswer(200, links=links, body=pem, content_type=CHAIN_TYPE)

    def _fetched(self, chain: ChainRecord, number: int, first: str, known: dict[str, Any]) -> Steps[bytes]:
        """Return an alternate from the CA, which is asked once, however many clients want it.

        Args:
            chain: the first chain.
            number: the place of the alternate, from 1.
            first: the URL of the first chain.
            known: what is known of the request, as fields of an event.

        Raises:
            AcmeProblem: the CA does not send it.
        """
        place = chain.fingerprint, number
        ended, problem = self._failures.get(place, (0.0, None))
        if problem is not None and self._parts.clock.monotonic() - ended < FAILED_SECONDS:
            raise copy.copy(problem)
        fetch = self._fetches.get(place)
        if fetch is None:
            fetch = self._fetches[place] = self._parts.loop.submit(self._fetch(chain, number, first, known))
        result = yield from outcome(fetch)
        if isinstance(result, AcmeProblem):
            raise copy.copy(result)
        return result

    def _fetch(
        self, chain: ChainRecord, number: int, first: str, known: dict[str, Any]
    ) -> Steps[bytes | AcmeProblem]:
        """Fetch an alternate, check it and keep it; the arguments are those of `_fetched`."""
        OWNER.set(("alternates", chain.fingerprint))
        parts, place = self._parts, (chain.fingerprint, number)
        try:
            sent = yield from self._sent(chain, number)
            alternate = read_alternate(sent, parse(chain.pem))
        except AcmeException as error:
            parts.tell_failure("alternate", error, **known)
            problem = AcmeProblem(
                "serverInternal",
                f"the CA does not send this chain at the moment: ask again later, or take the one at {first}",
                status=503,
                headers={"Retry-After": str(retry_after_of(error) or _RETRY_AFTER)},
                names=chain.names,
            )
            self._failures[place] = parts.clock.monotonic(), problem
            self._failures.move_to_end(place)
            if len(self._failures) > _MOST_FAILURES:
                self._failures.popitem(last=False)
            return problem
        else:
            self._failures.pop(place, None)
            kept = parts.alternates.keep(*place, alternate.pem, int(chain.not_after.timestamp()))
            try:
                yield from outcome(kept)
            except StateUnavailable as error:  # the next client has it fetched again
                parts.tell_failure("alternate", error, **known)
            return alternate.pem
        finally:
            del self._fetches[place]

    def _sent(self, chain: ChainRecord, number: int) -> Steps[bytes]:
        """Return what the CA sends as an alternate to the account that has issued the certificate.

        Where several accounts are at that CA, each is tried that could be the one.

        Raises:
            AcmeException: the CA sends nothing, or there is no account at it any more.
        """
        refusal: AcmeException = CAProtocolError(f"there is no account at {chain.directory} any more")
        deadline = self._parts.clock.deadline(_LONGEST)
        for issuer, source in self._sources(chain):
            try:
                fetch = issuer.loop.submit(source.fetch(chain.alternates[number - 1], deadline))
            except RuntimeError:  # the loop is closed
                raise stopping() from None
            try:
                return (yield from outcome(fetch))
            except CAProblem as problem:
                refusal = problem
        raise refusal

    def _sources(self, chain: ChainRecord) -> list[tuple[Issuer, AlternateSource]]:
        """Return what may have issued a chain, what orders by the same profile first."""
        at_ca = [each for each in self._parts.issuances if each.identity.directory == chain.directory]
        at_ca.sort(key=lambda each: each.identity.profile != chain.profile)
        issuers = [each.issuer for each in at_ca]
        return [(each, each.alternates) for each in issuers if each.alternates is not None]
