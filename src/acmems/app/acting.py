"""What a command needs of a server to act where none runs: its parts, without clients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from acmems.app.server import Server
from acmems.config import Configuration


@contextlib.contextmanager
def acting(config: Configuration, *, proves: bool, account: str | None = None) -> Iterator[Server]:
    """Yield a server that acts and takes no requests.

    Args:
        config: as for a server.
        proves: whether names may have to be proved, so that the listeners for that are needed.
        account: the name of the account that it is about, None where that is not known yet.

    Raises:
        StateUnavailable: the state cannot be used.
        AccountError: there is no account.
        OSError: an address cannot be listened on; `filename` names it.
    """
    server = Server(config)
    try:
        server.start_acting(proves=proves, account=account)
        yield server
    finally:
        server.stop()
