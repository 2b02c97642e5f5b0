"""The server's end of HTTP: sockets, threads, framing, deadlines."""

from __future__ import annotations

from acmems.listener.exchange import Application, Exchange, Limits
from acmems.listener.framing import HeadLimits
from acmems.listener.listener import Listener

__all__ = ["Application", "Exchange", "HeadLimits", "Limits", "Listener"]
