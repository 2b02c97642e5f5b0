"""The checks of all types of challenges, put together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container

from acmems.frontends.acme.proving.connecting import Connector
from acmems.frontends.acme.proving.dns01 import Dns01Check
from acmems.frontends.acme.proving.http.check import Http01Check
from acmems.frontends.acme.proving.http.url import HttpPorts
from acmems.frontends.acme.proving.lookups import Lookups
from acmems.frontends.acme.proving.options import ProvingOptions
from acmems.frontends.acme.proving.rates import AddressRates
from acmems.frontends.acme.proving.reach import Reach
from acmems.frontends.acme.proving.tls_alpn01 import PORT, TlsAlpn01Check
from acmems.frontends.acme.proving.validation import ChallengeCheck
from acmems.system.clock import SYSTEM, Clock


def challenge_checks(
    options: ProvingOptions,
    own_ports: Callable[[], Container[int]],
    *,
    http_ports: HttpPorts | None = None,
    tls_port: int = PORT,
    clock: Clock = SYSTEM,
    stopping: threading.Event | None = None,
) -> tuple[ChallengeCheck, ...]:
    """Return a check for each type of challenge.

    Args:
        options: what `[acme]` says.
        own_ports: returns the TCP ports at which this server listens.
        http_ports: where http-01 is fetched.
        tls_port: where the handshakes of tls-alpn-01 are made.
        clock: for durations.
        stopping: set when the server stops.
    """
    lookups = Lookups(options.resolvers)
    connector = Connector(
        lookups,
        Reach(options.allowed),
        AddressRates(clock),
        own_ports,
        clock,
        stopping or threading.Event(),
    )
    return Http01Check(connector, http_ports), Dns01Check(lookups), TlsAlpn01Check(connector, tls_port)
