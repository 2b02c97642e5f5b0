"""The server's end of HTTP on a listener: framing, states, deadlines."""

from __future__ import annotations

from acmems.net.http.connection import HttpService
from acmems.net.http.exchange import UNFINISHED_BYTES, Application, Exchange, Handling, HttpLimits
from acmems.net.http.framing import HeadLimits
from acmems.net.http.response import HttpResponse

__all__ = [
    "UNFINISHED_BYTES",
    "Application",
    "Exchange",
    "Handling",
    "HeadLimits",
    "HttpLimits",
    "HttpResponse",
    "HttpService",
]
