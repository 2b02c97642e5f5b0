"""`[mgmt]`: where clients ask, and the limits of what they may ask."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from acmems.auth import MAX_SIZE
from acmems.frontends.tls.options import TlsOptions
from acmems.net.address import Address, IPNetwork, parse_address, parse_network
from acmems.settings import values
from acmems.settings.options import Options
from acmems.x509 import csr
from acmems.x509.keys import EXTRA_CURVES

MGMT_LISTENERS = (Address("127.0.0.1", 1313), Address("::1", 1313))
MAX_ORDERS = 256
MAX_WAITING = 2000
MOST_PROCESSES = 64


@dataclass(frozen=True, slots=True)
class MgmtOptions:
    """`[mgmt]`: where clients ask, and the limits of what they may ask.

    Args:
        listeners: where requests of clients are taken.
        max_size: largest CSR, in bytes.
        max_connections: most connections at one time.
        max_orders: most orders that run at one time and that somebody waits for.
        max_waiting: most orders that wait for their turn.
        request_timeout: from the arrival of a request to its answer, in seconds.
        trusted_proxies: peers whose `X-Forwarded-For` is believed.
        csr_rules: what a CSR may hold.
        default_verification: the name given, empty for none, None if nothing is given.
        default_storage: the same.
        processes: that serve; the limits are those of all of them together.
        tls_listeners: where requests are taken by TLS.
        tls: which certificate is shown there.
        est: whether EST clients are answered there.
    """

    listeners: tuple[Address, ...]
    max_size: int
    max_connections: int
    max_orders: int
    max_waiting: int
    request_timeout: float
    trusted_proxies: tuple[IPNetwork, ...]
    csr_rules: csr.Rules
    default_verification: str | None
    default_storage: str | None
    processes: int
    tls_listeners: tuple[Address, ...] = ()
    tls: TlsOptions = field(default_factory=TlsOptions)
    est: bool = False

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Read the section; what is wrong becomes findings."""
        tls_listeners = options.many(
            "tls-listener",
            parse_address,
            empty_is_none=True,
            meaning="`host:port` or `[v6]:port` on which clients' requests are accepted by TLS 1.2 or newer",
        )
        tls = TlsOptions.from_options(options, asks_clients=True)
        if tls_listeners and not tls.is_given and not options.has("tls-certificate"):
            options.report(
                "tls-listener needs 'tls-name = …', or 'tls-certificate = …' and 'tls-key = …'",
                "tls-listener",
            )
        if options.has("tls-client-ca") and not tls_listeners:
            options.report("tls-client-ca is given, but no tls-listener", "tls-client-ca")
        est = options.one(
            "est",
            values.boolean,
            default=False,
            meaning="`yes`: EST clients (RFC 7030) are answered at the `tls-listener`, too",
        )
        if est and not tls_listeners:
            options.report("est is given, but no tls-listener: EST clients speak TLS only", "est")
        return cls(
            listeners=options.many(
                ("listener", "mgmt"),
                parse_address,
                MGMT_LISTENERS,
                empty_is_none=True,
                meaning="`host:port` or `[v6]:port` on which clients' requests are accepted; empty: none",
            ),
            tls_listeners=tls_listeners,
            tls=tls,
            est=est,
            max_size=options.one(
                "max-size",
                values.size,
                MAX_SIZE,
                meaning="largest CSR, in bytes; `16k` is 16384, `1m` is 1048576",
            ),
            max_connections=options.one(
                "max-connections",
                values.positive_int,
                2000,
                meaning="clients that are served at the same time, at most; further ones wait, and addresses "
                "take turns",
            ),
            max_orders=options.one(
                "max-orders",
                values.positive_int,
                MAX_ORDERS,
                meaning="maximum number of simultaneous orders that clients wait for; further ones wait for "
                "their turn",
            ),
            max_waiting=options.one(
                "max-waiting",
                values.positive_int,
                MAX_WAITING,
                meaning="maximum number of orders that wait for their turn; beyond that, the auth block and "
                "client with the most of them gets 429",
            ),
            request_timeout=options.one(
                "request-timeout",
                values.seconds,
                120.0,
                meaning="seconds from a request to its answer, at most; repeating it continues the work",
            ),
            trusted_proxies=options.many(
                "trusted-proxy",
                parse_network,
                meaning="address or network of a proxy whose `X-Forwarded-For` is trusted; its requests "
                "count for the clients that it names",
            ),
            csr_rules=csr.Rules(
                must_staple=options.one(
                    "must-staple",
                    values.boolean,
                    default=False,
                    meaning="`yes`: CSRs may request must-staple certificates",
                ),
                extra_curves=frozenset(
                    options.many(
                        "extra-curve",
                        values.choice(*EXTRA_CURVES),
                        meaning="curve to accept in addition to P-256 and P-384, for private CAs: "
                        + ", ".join(f"`{curve}`" for curve in EXTRA_CURVES),
                    )
                ),
            ),
            default_verification=options.one(
                "default-verification",
                str,
                None,
                meaning="verification for auth blocks that name none; empty: none. Without this key: the "
                "only one that is defined; if none is, an `http01` with its default listeners; if several "
                "are, each block must name its own",
            ),
            default_storage=options.one(
                "default-storage",
                str,
                None,
                meaning="storage for auth blocks that name none; empty: nothing is kept. Without this key: "
                "the only one that is defined, otherwise memory, until a restart",
            ),
            processes=options.one(
                "processes",
                _processes,
                1,
                meaning="processes that serve, so that a burst uses as many processors: 1 to 64. All limits "
                "are those of all processes together",
            ),
        )

    def share(self, position: int) -> Self:
        """Return what one of the processes goes by: its part of what they may do together.

        Args:
            position: its place among them, from 0 on.
        """
        return replace(
            self,
            max_connections=part(self.max_connections, self.processes, position),
            max_orders=part(self.max_orders, self.processes, position),
            max_waiting=part(self.max_waiting, self.processes, position),
        )


def part(whole: int, processes: int, position: int) -> int:
    """Return a process's part of a number, at least 1; the parts differ by 1 at most.

    Args:
        whole: the number.
        processes: among how many it is divided.
        position: which of them, from 0 on.
    """
    return max(1, whole // processes + (position < whole % processes))


def _processes(value: str) -> int:
    number = values.positive_int(value)
    if number > MOST_PROCESSES:
        raise ValueError(f"{number} is more than {MOST_PROCESSES}; one for each processor is enough")
    return number
