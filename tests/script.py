"""A program that uses the documented Python API, as scripts for 0.3 do."""

from __future__ import annotations

import contextlib
import datetime
import functools
import http.client
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from acme import messages
from tests.peers import ChallTestSrv, Settings, wait_until

from acmems.challenges import Proof, Validator, ValidatorContext
from acmems.challenges.txt import txt_value
from acmems.config import Configuration
from acmems.exceptions import AuthorizationNotYetProcessed, AuthorizationNotYetRequested
from acmems.manager import ACMEManager
from acmems.settings.options import Options
from acmems.system.clock import SYSTEM, Clock
from acmems.x509.identifiers import Identifier

NAME = "script.example.org"
CHALLENGES = "/.well-known/acme-challenge/"


class Script:
    """A program that has a manager and proves names by http-01.

    Args:
        settings: what makes its configuration.
        clock: as for the manager.
    """

    def __init__(self, settings: Settings, clock: Clock = SYSTEM) -> None:
        self.config = Configuration.from_text(settings.text())
        assert self.config.default_validator is not None
        self.validator: Validator = self.config.default_validator
        self.manager = ACMEManager(self.config, connect=False, clock=clock)
        self.port = settings.challenge_port

    def connect(self) -> ACMEManager:
        """Make an account, and return the manager that has it."""
        self.manager.issuer.create_key()
        self.manager.connect()
        return self.manager

    def new(self, name: str = NAME) -> messages.AuthorizationResource:
        return self.manager.new_domain_authorization(self.validator, name)

    def refresh(self, name: str = NAME) -> messages.AuthorizationResource:
        return self.manager.refresh_domain_authorization(self.validator, name)

    def evaluate(
        self, authzr: messages.AuthorizationResource, **options: float
    ) -> messages.AuthorizationResource:
        return self.manager.evaluate_domain_authorization(authzr, self.validator, **options)

    def acquire(self, *names: str) -> list[messages.AuthorizationResource]:
        return self.manager.acquire_domain_validations(self.validator, names)

    def finish(
        self, step: Callable[[], messages.AuthorizationResource], name: str = NAME
    ) -> messages.AuthorizationResource:
        """Go on as scripts for 0.3 do: wait for what an error tells, refresh, until the CA has decided."""
        while True:
            try:
                return step()
            except AuthorizationNotYetRequested as error:
                error.event.wait(30)
            except AuthorizationNotYetProcessed as error:
                pause = error.wait_until - datetime.datetime.now(datetime.UTC)
                threading.Event().wait(max(0.0, pause.total_seconds()))
            step = functools.partial(self.refresh, name)

    def decide(self, name: str = NAME) -> None:
        """Refresh without waiting for anybody to come, until the CA has decided."""

        def decided() -> bool:
            try:
                self.refresh(name)
            except (AuthorizationNotYetRequested, AuthorizationNotYetProcessed):
                return False
            return True

        wait_until(decided, "the CA decides")


class Records:
    """Proves names by TXT records of the DNS server that the CA asks."""

    name = "records"
    challenge_type = "dns-01"
    sees_requests = False
    leaves_traces = False
    is_immediate = False
    shows_one_at_a_time = False

    def __init__(self, dns: ChallTestSrv) -> None:
        self.dns = dns
        self.records: set[str] = set()

    @classmethod
    def from_options(cls, name: str, options: Options, context: ValidatorContext) -> Self:
        raise NotImplementedError

    def proves(self, identifier: Identifier) -> bool:
        return True

    def present(self, proofs: Sequence[Proof]) -> None:
        for proof in proofs:
            host = f"_acme-challenge.{proof.identifier.value}."
            self.dns.post("set-txt", host=host, value=txt_value(proof.key_authorization))
            self.records.add(host)

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        for proof in proofs:
            host = f"_acme-challenge.{proof.identifier.value}."
            self.dns.post("clear-txt", host=host)
            self.records.remove(host)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a CA comes with many connections at once


@contextlib.contextmanager
def serving(
    handler: Callable[..., BaseHTTPRequestHandler], port: int = 0, **attributes: object
) -> Iterator[int]:
    """Run a handler in the standard library's server, which has these attributes; yield its port."""
    with _Server(("127.0.0.1", port), handler) as running:
        vars(running).update(attributes)
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running.server_address[1]
        finally:
            running.shutdown()
            thread.join()


def fetch(port: int, host: str, path: str) -> tuple[int, str]:
    """Fetch a path of a host as a CA does, and return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def with_status(authzr: messages.AuthorizationResource, status: str) -> messages.AuthorizationResource:
    """Return an authorization as it would be in another state."""
    return authzr.update(body=authzr.body.update(status=messages.Status.from_json(status)))  # type: ignore[no-any-return]  # josepy's update has no type
