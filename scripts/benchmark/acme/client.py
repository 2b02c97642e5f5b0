"""The ACME client that asks all servers alike: light, so that it is not what is measured.

Each of those that order at once has an account and a connection of its own, made before the clock runs, and
takes its nonces from the answers. It asks for each authorization, answers a challenge where one is pending,
finalizes, looks at the order only while it is processing, and fetches the chain.

usage: python -m scripts.benchmark.acme.client DIRECTORY_URL CA_FILE DNS_PORT   (jobs on standard input)
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import re
import ssl
import sys
import time
import urllib.parse
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

from scripts.benchmark.acme.answers import Answers
from scripts.benchmark.floor import Signer, b64, compact
from scripts.benchmark.jobs import Job, NamedCsr, Outcome, serve
from scripts.benchmark.wire import Connection, Reply
from tests.peers import PeerFailed

LOOKS = (0.005, 0.01, 0.02, 0.04, 0.08)
"""Seconds between looks at what the server has not decided; the last ones go on."""
RETRIES = 3
"""How often a request is sent again because of its nonce (RFC 8555 section 6.5)."""
SETTLING = 0.2
"""Seconds in which connections are seen to be over that the server has closed since the last job."""
ATTEMPTS = 5
"""How often somebody tries to get an account."""
PROBLEM = re.compile(r"urn:ietf:params:acme:error:\w+")
STATUS = re.compile(r"HTTP/1.1 (\d+)")
ACCOUNT = {"termsOfServiceAgreed": True, "contact": ["mailto:bench@example.org"]}


class Machine:
    """One that orders: an account, and a connection that it keeps.

    Args:
        server: whom it asks.
        number: of the machine; each has an address of its own, since servers limit what one may do.
    """

    def __init__(self, server: Server, number: int) -> None:
        self._server = server
        self._address = f"127.0.{number // 250 + 1}.{number % 250 + 1}"
        self._signer = Signer()
        self._connection: Connection | None = None
        self.requests = 0

    async def open(self) -> None:
        """Connect, and make the account if there is none yet."""
        self._connection = await self._server.connect(self._address)
        if "kid" not in self._signer.identity:
            reply = await self.post(self._server.directory["newAccount"], compact(ACCOUNT))
            self._signer.identity = {"kid": reply.headers[b"location"].decode()}

    async def ensure_open(self) -> None:
        """Connect anew where the server has closed the connection meanwhile."""
        if self._connection is None or self._connection.is_over:
            await self.open()

    async def post(self, url: str, payload: bytes = b"") -> Reply:
        """Send a signed request; a POST-as-GET where there is no payload (RFC 8555 section 6.3)."""
        if self._connection is None:
            await self.open()
        connection = self._connection
        if connection is None:
            raise PeerFailed("not connected")
        for attempt in itertools.count(1):
            body = self._signer.sign(url, connection.nonce, payload)
            self.requests += 1
            try:
                return await connection.exchange(self._server.head("POST", url, body) + body)
            except PeerFailed as error:
                if "badNonce" not in str(error) or attempt > RETRIES:
                    raise
            except (OSError, EOFError):
                self._connection = None
                raise
        raise AssertionError

    async def chain(self, name: str, csr: str) -> None:
        """Order a certificate for a name and fetch it.

        Args:
            name: the name.
            csr: the CSR, as base64url of DER.

        Raises:
            PeerFailed: the server refused.
            OSError: the connection was lost.
        """
        identifiers = [{"type": "dns", "value": name}]
        reply = await self.post(self._server.directory["newOrder"], compact({"identifiers": identifiers}))
        url, order = reply.headers[b"location"].decode(), reply.json()
        for authorization in order["authorizations"]:
            await self._prove(authorization)
        order = (await self.post(order["finalize"], compact({"csr": csr}))).json()
        order = await self._decided(url, order)
        content = (await self.post(order["certificate"])).body
        if b"END CERTIFICATE" not in content:
            raise PeerFailed("no chain")

    async def _prove(self, url: str) -> None:
        authorization = (await self.post(url)).json()
        if authorization["status"] == "valid":
            return
        offered = {each["type"]: each for each in authorization["challenges"]}
        if "dns-01" not in offered:
            raise PeerFailed(f"it is {authorization['status']} and has no dns-01 challenge")
        challenge = offered["dns-01"]
        key_authorization = f"{challenge['token']}.{self._signer.thumbprint}"
        self._server.answers.show(authorization["identifier"]["value"], key_authorization)
        answered = (await self.post(challenge["url"], b"{}")).json()
        if answered["status"] != "valid":
            await self._decided(url, answered)

    async def _decided(self, url: str, found: dict[str, Any]) -> dict[str, Any]:
        """Look at an order or authorization until it is valid."""
        looks = itertools.chain(LOOKS, itertools.repeat(LOOKS[-1]))
        while found["status"] != "valid":
            if found["status"] not in {"pending", "processing", "ready"}:
                raise PeerFailed(f"it became {found['status']}")
            await asyncio.sleep(next(looks))
            found = (await self.post(url)).json()
        return found


class Server:
    """The server that is asked.

    Args:
        directory_url: its directory.
        ca_file: what to check its HTTPS with.

    Attributes:
        answers: to challenges, that it looks up.
        directory: what it offers.
    """

    def __init__(self, directory_url: str, ca_file: str) -> None:
        self._url = urllib.parse.urlsplit(directory_url)
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._machines: list[Machine] = []
        self.answers = Answers()
        self.directory: dict[str, str] = {}

    async def open(self, dns_port: int) -> None:
        """Show answers, and read the directory."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self.answers, ("127.0.0.1", dns_port))
        connection = Connection(
            *await asyncio.open_connection(self._url.hostname, self._url.port, ssl=self._tls)
        )
        self.directory = (await connection.exchange(self.head("GET", self._url.geturl()))).json()

    async def connect(self, address: str) -> Connection:
        """Return a new connection from an address, with a nonce."""
        streams = await asyncio.open_connection(
            self._url.hostname, self._url.port, ssl=self._tls, local_addr=(address, 0)
        )
        connection = Connection(*streams)
        await connection.exchange(self.head("HEAD", self.directory["newNonce"]))
        return connection

    def head(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Return the head of a request."""
        path = urllib.parse.urlsplit(url).path
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._url.netloc}", "User-Agent: bench"]
        if body:
            lines += ["Content-Type: application/jose+json", f"Content-Length: {len(body)}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def sign(self, job: Job) -> Outcome:
        """Get a chain for each CSR of a job, so many at once as it says."""
        try:
            async with asyncio.timeout(job.seconds):
                machines = await self._ready(job.at_once)
        except (TimeoutError, PeerFailed, OSError, EOFError) as error:
            return Outcome(0, 0, job.seconds, failures={f"no account: {failure_kind(error)}": len(job.csrs)})
        waiting = [(csr.name, _encoded(csr)) for csr in reversed(job.csrs)]
        before = sum(machine.requests for machine in machines)
        each: list[float] = []
        failures: collections.Counter[str] = collections.Counter()

        async def work(machine: Machine) -> None:
            while waiting:
                name, csr = waiting.pop()
                asked = time.perf_counter()
                try:
                    await machine.chain(name, csr)
                except (PeerFailed, OSError, EOFError, KeyError) as error:
                    failures[failure_kind(error)] += 1
                else:
                    each.append(time.perf_counter() - asked)

        began = time.perf_counter()
        try:
            async with asyncio.timeout(job.seconds):
                await asyncio.gather(*map(work, machines))
        except TimeoutError:
            failures["no answer in time"] += len(job.csrs) - len(each) - failures.total()
            self._machines.clear()
        seconds = time.perf_counter() - began
        requests = sum(machine.requests for machine in machines) - before
        return Outcome(len(each), requests, seconds, each, failures=dict(failures))

    async def _ready(self, count: int) -> Sequence[Machine]:
        """Return so many machines, with accounts and connections."""
        while len(self._machines) < count:
            machine = Machine(self, len(self._machines))
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await machine.open()
                    break
                except PeerFailed:  # it may be that only one request was lost
                    if attempt == ATTEMPTS:
                        raise
            self._machines.append(machine)
        await asyncio.sleep(SETTLING)
        for machine in self._machines[:count]:
            await machine.ensure_open()
        return self._machines[:count]


def _encoded(csr: NamedCsr) -> str:
    return b64(b64decode("".join(csr.pem.split("\n")[1:-2])))


def failure_kind(error: Exception) -> str:
    """Return what kind of failure it was, short, so that these can be counted."""
    problem, status = PROBLEM.search(str(error)), STATUS.search(str(error))
    if status:
        return " ".join(filter(None, (status[1], problem and problem[0].rpartition(":")[2])))
    return str(error).partition("\n")[0] if isinstance(error, PeerFailed) else type(error).__name__


def main() -> None:
    """Read the directory and do jobs."""
    directory_url, ca_file, dns_port = sys.argv[1:]
    server = Server(directory_url, ca_file)
    with asyncio.Runner() as runner:
        runner.run(server.open(int(dns_port)))
        serve(lambda job: runner.run(server.sign(job)))


if __name__ == "__main__":
    main()
