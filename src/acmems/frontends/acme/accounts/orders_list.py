"""The orders of an account (RFC 8555 section 7.1.2.1), page by page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from acmems.frontends.acme.accounts.account import own_account
from acmems.frontends.acme.accounts.parts import AccountParts
from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.problems import malformed
from acmems.frontends.acme.requests import SignedRequest
from acmems.net.http import Exchange
from acmems.system.steps.futures import after

PAGE: Final = 100
"""Orders on one page."""
_CURSOR = re.compile(r"cursor=([A-Za-z0-9_-]{1,64})", re.ASCII)

OrderIds = Callable[[str, str | None, int], Sequence[str]]
"""Returns the ids of an account's orders that are not invalid, in the order of these ids: those after one of
them (None: from the first one on), at most so many. It may wait for disk or network."""


class OrdersListResource:
    """Lists the orders of the account that signs the request.

    Args:
        parts: what it needs.
        ids: returns their ids.
    """

    def __init__(self, parts: AccountParts, ids: OrderIds) -> None:
        self._parts = parts
        self._ids = ids

    def __call__(self, request: SignedRequest, exchange: Exchange) -> Future[AcmeAnswer]:  # noqa: ARG002 - the contract
        """Return a page of the list.

        Raises:
            AcmeProblem: it is the list of another account, or the page is none.
        """
        account = own_account(request)
        request.require_get()
        match = _CURSOR.fullmatch(request.query)
        if request.query and match is None:
            raise malformed("this is not a URL that the list has given")
        cursor = None if match is None else match[1]

        def answer(ids: Sequence[str]) -> AcmeAnswer:
            linker = self._parts.linker()
            page = ids[:PAGE]
            links: tuple[str, ...] = ()
            if len(ids) > PAGE:
                following = linker.url("account-orders", account.id, query=f"cursor={page[-1]}")
                links = (f'<{following}>;rel="next"',)
            return AcmeAnswer(200, {"orders": [linker.url("order", each) for each in page]}, links=links)

        return after(self._parts.known.read(lambda: self._ids(account.id, cursor, PAGE + 1)), answer)
