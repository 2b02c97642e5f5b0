"""The front end that monitoring systems ask: `/metrics`, `/healthz` and `/readyz`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from acmems.events import Bus
from acmems.exceptions import HttpRefusal
from acmems.frontends.application import FrontEnd
from acmems.net.http import Exchange, Handling, HttpResponse
from acmems.system.clock import SYSTEM, Clock

ALLOWED = "GET, HEAD"

Page = Callable[[], HttpResponse]


class MetricsFrontEnd(FrontEnd):
    """The application of the listeners of `[metrics]`.

    Args:
        pages: what is answered at which path; a page MUST NOT wait for disk or network.
        bus: told of refusals and failures.
        clock: for durations.
    """

    name = "metrics"

    def __init__(self, pages: Mapping[str, Page], bus: Bus, clock: Clock = SYSTEM) -> None:
        super().__init__(bus, clock)
        self._pages = dict(pages)

    def begin(self, exchange: Exchange) -> Handling:
        """Take GET and HEAD of a page, without a body."""
        page = self._pages.get(exchange.target.partition("?")[0])
        if page is None:
            raise HttpRefusal(404, f"there is nothing here: GET {', '.join(self._pages)}")
        if exchange.method not in {"GET", "HEAD"}:
            raise HttpRefusal(405, f"only {ALLOWED} is answered here", {"Allow": ALLOWED})
        return Handling(0, lambda: self.send(exchange, page()))
