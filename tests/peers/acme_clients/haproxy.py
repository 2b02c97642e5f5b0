"""HAProxy, a load balancer that gets its certificates by itself since version 3.2."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from tests.peers.acme_clients.contract import PATIENCE, Ability, ExternalAccount, ForeignClient
from tests.peers.ca import make_tls_certificate
from tests.peers.client import run
from tests.peers.process import Peer, PeerFailed, apart, wait_until

GENERATE = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
CONFIGURATION = """
global
    expose-experimental-directives
    stats socket {folder}/control level admin
    acme.scheduler off
    httpclient.ssl.ca-file {ca_file}
    log stdout format raw daemon
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 120s
acme tested
    directory {url}
    account-key {folder}/account.key
    contact admin@example.org
    challenge http-01
    keytype ECDSA
    curves P-256
    {proofs}
crt-store
    load crt {folder}/first.pem key {folder}/first.pem.key acme tested domains {names} alias site
frontend unused
    bind {folder}/unused ssl crt @/site
"""
CONDITION = "if { path_beg /.well-known/acme-challenge/ }"
WEB = """
frontend web
    mode http
    bind {socket}
    http-request set-var(txn.token) path,field(-1,/)
    http-request set-var-fmt(txn.proof) %[var(txn.token)].%[var(txn.token),map(virt@acme)]
    http-request return status 200 content-type text/plain lf-string %[var(txn.proof)] {condition}
"""


class HAProxyServer(Peer):
    """HAProxy.

    Args:
        configuration: what it goes by.
        home: the folder in which its configuration puts the socket `control`.
    """

    name = "haproxy"

    def __init__(self, configuration: str, home: Path) -> None:
        super().__init__()
        self.configuration = configuration
        self.home = home

    def prepare(self) -> None:
        (self.folder / "haproxy.cfg").write_text(self.configuration, encoding="utf-8")

    def command(self) -> Sequence[str]:
        return [*map(str, apart("haproxy")), "-db", "-f", "haproxy.cfg"]

    def ready(self) -> bool:
        return "section" in self.ask("acme status")

    def ask(self, command: str) -> str:
        """Return what it answers on its socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self.home / "control"))
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def renew(self, name: str) -> bytes:
        """Have it get a certificate in place of the one that it has, and return the chain.

        Raises:
            PeerFailed: it did not; with what it printed.
        """
        known = [self._chain(name)]
        self.ask(f"acme renew {name}")

        def has_another() -> bool:
            known.append(self._chain(name))
            return known[-1] not in {b"", known[0]}

        try:
            wait_until(has_another, "haproxy has a certificate", PATIENCE)
        except PeerFailed as error:
            raise PeerFailed(f"{error}\n{self.log}") from None
        return known[-1]

    def _chain(self, name: str) -> bytes:
        """Return the chain that it has; none where it cannot tell, as while it puts another one there."""
        _, begin, rest = self.ask(f"dump ssl cert {name}").partition("-----BEGIN CERTIFICATE")
        return f"{begin}{rest}".encode()


class HAProxy(ForeignClient):
    """HAProxy, run for one certificate after the other; it registers with each."""

    name = "haproxy"
    abilities = frozenset({Ability.SEVERAL_NAMES})
    listens = frozenset({"http-01"})

    def prepare(self) -> None:
        """Make the account's key."""
        run("openssl", "genpkey", *GENERATE, "-out", self.folder / "account.key")

    def register(self, external: ExternalAccount | None) -> None:
        """Do nothing: it registers whenever it orders."""
        assert external is None

    def order(self, *names: str) -> bytes:
        """Get a certificate."""
        first, key = self.folder / "first.pem", self.folder / "first.pem.key"
        make_tls_certificate(first, key)  # without one, it does not start
        configuration = CONFIGURATION.format(
            folder=self.folder,
            ca_file=self.directory.ca_file,
            url=self.directory.url,
            names=",".join(names),
            proofs="" if self.listening is None else "map virt@acme",
        )
        if self.listening is not None:
            configuration += WEB.format(socket=self.listening.socket, condition=CONDITION)
        with HAProxyServer(configuration, self.folder) as server:
            return server.renew("@/site")

    def renew(self, *names: str) -> bytes:
        """Get another certificate."""
        return self.order(*names)
